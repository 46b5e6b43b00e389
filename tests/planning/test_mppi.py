"""Model predictive path integrals: the weights, the mean they give, and what is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import (
    BOUNDS,
    HIGH,
    LOW,
    MIDDLE,
    bad_everywhere,
    bad_to_the_left,
    quadratic,
    search,
    towards_the_upper_bound,
)

from foretell.planning import MPPI
from foretell.planning.mppi import MPPIWarmStart, path_weights
from tiny import quick_jit

PLANNER = MPPI(horizon=3, population=40, iterations=2, temperature=0.3, control_cost=0.0)
compiled_weights = quick_jit(path_weights, 1)
number = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))


def warm_start_of(mean):
    return MPPIWarmStart(np.broadcast_to(np.float32(mean), (3, 2)))


def gap_of(values):
    return np.max(values) - np.median(values)


def weights_by_hand(values, temperature):
    values = np.float64(values)
    weights = np.zeros(len(values))
    good = np.isfinite(values)
    if good.any():
        gaps, gap = values[good] - values[good].max(), values[good].max() - np.median(values[good])
        weights[good] = np.exp(gaps / (temperature * gap)) if gap > 0 else gaps == 0
        weights /= weights.sum()
    return weights


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    st.lists(number | st.sampled_from([np.nan, np.inf, -np.inf]), min_size=8, max_size=8).filter(
        lambda values: not 0 < gap_of([v for v in values if np.isfinite(v)] or [0]) < 0.1  # beyond single precision
    ),
    st.sampled_from([0.05, 0.3, 1.0, 10.0]),
)
@pytest.mark.long
def test_a_candidate_weighs_by_its_gap_to_the_best_in_that_of_the_median(values, temperature):
    found = compiled_weights(jnp.float32(values), temperature)
    np.testing.assert_allclose(found, weights_by_hand(values, temperature), rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("values", [[2.0] * 4, [5.0, np.nan, np.nan, np.nan], [np.nan] * 4])
def test_weights_are_equal_among_finite_candidates_of_equal_value(values):
    finite = np.isfinite(values)
    expected = finite / max(finite.sum(), 1)
    np.testing.assert_allclose(compiled_weights(jnp.float32(values), 0.1), expected, rtol=1e-6)


def test_most_candidates_may_be_the_best():
    np.testing.assert_array_equal(
        compiled_weights(jnp.float32([3.0, 3.0, 3.0, 2.9]), 10.0), np.float32([1, 1, 1, 0]) / 3
    )


@pytest.mark.parametrize("bad", [-1e4, -1e20, -1e38])
def test_one_very_bad_candidate_does_not_make_the_others_alike(bad):
    """As where an imagined trajectory diverges."""
    values = np.float32([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    found = np.asarray(compiled_weights(jnp.float32([*values, bad]), 0.3))
    assert found[-1] == 0
    expected = np.exp((values - 7.0) / (0.3 * 3.5))  # the median is now 3.5
    np.testing.assert_allclose(found[:-1], expected / expected.sum(), rtol=1e-4)


def test_returns_may_be_shifted_and_scaled():
    values = jnp.float32([1.0, 4.0, -2.0, 3.5])
    found = compiled_weights(values, 0.5)
    np.testing.assert_allclose(compiled_weights(1000.0 * values - 7.0, 0.5), found, rtol=1e-4)


def moved(planner, candidates, values):
    return np.einsum("c,cha->ha", weights_by_hand(values, planner.temperature), candidates)


@pytest.mark.long
def test_the_plan_is_the_weighted_mean_of_the_last_candidates():
    plan, asked = search(PLANNER)
    assert len(asked) == 2
    np.testing.assert_allclose(plan.actions, moved(PLANNER, *asked[-1]), rtol=1e-4, atol=1e-5)
    assert plan.value == asked[-1][1].max()


@pytest.mark.long
def test_the_mean_moves_and_the_standard_deviation_stays():
    planner = MPPI(horizon=1, population=20_000, iterations=2, temperature=0.5, initial_std=0.05, control_cost=0.0)
    _, (first, (candidates, _)) = search(planner)
    np.testing.assert_allclose(first[0].mean(0)[0], MIDDLE, atol=0.01)
    np.testing.assert_allclose(candidates.mean(0), moved(planner, *first), atol=0.01)
    for samples in (first[0], candidates):
        np.testing.assert_allclose(samples.std(0)[0], 0.879626 * 0.05 * (HIGH - LOW), rtol=0.02)


@pytest.mark.long
def test_towards_temperature_zero_the_best_candidate_is_executed():
    plan, (*_, (candidates, values)) = search(PLANNER.model_copy(update={"temperature": 1e-6}))
    np.testing.assert_allclose(plan.actions, candidates[values.argmax()], rtol=1e-6)


@pytest.mark.long
def test_at_a_high_temperature_all_candidates_count_alike():
    plan, (*_, (candidates, _)) = search(PLANNER.model_copy(update={"temperature": 1e6}))
    np.testing.assert_allclose(plan.actions, candidates.mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("noise", ["truncated", "coloured"])
@pytest.mark.parametrize("objective", [quadratic, towards_the_upper_bound])
@pytest.mark.long
def test_no_candidate_leaves_asymmetric_bounds(noise, objective):
    planner = PLANNER.model_copy(update={"noise": noise})
    first, asked = search(planner, objective)
    second, more = search(planner, objective, first.warm_start, key=1)
    for actions in (first.actions, second.actions, *(c for c, _ in asked + more)):
        assert (actions >= LOW - 1e-6).all() and (actions <= HIGH + 1e-6).all()


@pytest.mark.long
def test_the_mean_itself_may_compete():
    planner = PLANNER.model_copy(update={"mean_candidate": True})
    _, (first, (candidates, _)) = search(planner, warm_start=warm_start_of([0.2, 0.3]))
    np.testing.assert_array_equal(first[0][0], warm_start_of([0.2, 0.3]).mean)
    np.testing.assert_allclose(candidates[0], moved(planner, *first), rtol=1e-4, atol=1e-5)
    _, ((candidates, _), _) = search(PLANNER, warm_start=warm_start_of([0.2, 0.3]))
    assert (candidates[0] != warm_start_of([0.2, 0.3]).mean).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.long
def test_values_that_are_not_finite_count_for_nothing(bad):
    planner = PLANNER.model_copy(update={"iterations": 1})
    plan, (*_, (candidates, values)) = search(planner, bad_to_the_left, more=(bad,))
    assert 0 < np.isfinite(values).sum() < 40
    np.testing.assert_allclose(plan.actions, moved(PLANNER, candidates, values), rtol=1e-4, atol=1e-5)
    assert plan.value == values[np.isfinite(values)].max()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.long
def test_the_mean_stays_if_no_value_is_finite(bad):
    plan, _ = search(PLANNER, bad_everywhere, warm_start_of([0.2, 0.3]), more=(bad,))
    np.testing.assert_array_equal(plan.actions, warm_start_of([0.2, 0.3]).mean)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(("fill", "last"), [("midpoint", MIDDLE), ("zero", [0.0, 0.0])])
@pytest.mark.long
def test_the_next_plan_starts_from_the_mean_as_many_steps_later_as_are_executed(fill, last, every):
    planner = PLANNER.model_copy(update={"fill": fill, "replan_every": every})
    plan, _ = search(PLANNER)
    expected = np.concatenate([plan.actions[every:], np.broadcast_to(np.float32(last), (every, 2))])
    np.testing.assert_array_equal(planner.shift(jnp.array(plan.actions), BOUNDS), expected)
    if planner == PLANNER:
        np.testing.assert_array_equal(plan.warm_start.mean, expected)


def test_an_episode_starts_at_the_middle_of_the_range():
    np.testing.assert_array_equal(PLANNER.begin(BOUNDS).mean, np.broadcast_to(MIDDLE, (3, 2)))


def test_the_key_decides_the_plan():
    first, again, other = (search(PLANNER, key=k)[0].actions for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.long
def test_a_batch_of_plans_equals_one_plan_at_a_time():
    def one(key, warm_start, scale):
        return PLANNER.plan(key, lambda k, a: scale * quadratic(k, a), warm_start, BOUNDS)

    keys, scale = jax.random.split(jax.random.key(0), 3), jnp.array([1.0, 0.0, -1.0])
    warm_start = jax.tree.map(lambda *a: np.stack(a), *(warm_start_of([m, m]) for m in (0.0, 0.5, 0.9)))
    together, single = quick_jit(jax.vmap(one))(keys, warm_start, scale), quick_jit(one)
    for i in range(3):
        alone = single(keys[i], *jax.tree.map(lambda a: a[i], (warm_start, scale)))  # noqa: B023
        np.testing.assert_allclose(together.actions[i], alone.actions, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replan_every": 4}, r"replan_every \(4\) must not exceed horizon \(3\)"),
        ({"population": 1, "mean_candidate": True}, "no room for samples beside the mean"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MPPI(**{**PLANNER.model_dump(), **change})


def effort_by_hand(planner, mean, candidates):
    """`u' S^-1 e` of Williams et al. 2017, algorithm 2."""
    variance = np.square(planner.initial_std * (HIGH - LOW))
    return (mean / variance * (candidates - mean)).sum((1, 2))


@pytest.mark.long
def test_the_control_cost_of_the_paper_favours_small_actions():
    planner = PLANNER.model_copy(update={"iterations": 1, "control_cost": 0.7})
    mean = np.float32([[0.2, -0.3], [1.0, 0.5], [-0.5, -2.0]])
    plan, ((candidates, values),) = search(planner, warm_start=MPPIWarmStart(mean))
    weights = np.exp((values - values.max()) / (planner.temperature * gap_of(values)))
    weights *= np.exp(-0.7 * effort_by_hand(planner, mean, candidates))
    expected = np.einsum("c,cha->ha", weights / weights.sum(), candidates)
    np.testing.assert_allclose(plan.actions, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_without_a_control_cost_only_returns_count():
    plain = np.asarray(path_weights(jnp.float32([1.0, 2.0, 4.0]), 0.5))
    np.testing.assert_array_equal(path_weights(jnp.float32([1.0, 2.0, 4.0]), 0.5, jnp.zeros(3)), plain)
    np.testing.assert_allclose(path_weights(jnp.float32([1.0, 2.0, 4.0]), 0.5, jnp.full(3, 900.0)), plain, rtol=1e-5)
