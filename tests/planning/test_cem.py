"""The cross-entropy method: its refinements, its warm start, and what it does with bad values."""

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

from foretell.planning import CEM, Bounds
from foretell.planning.cem import CEMWarmStart
from foretell.planning.sampling import released_scale
from tiny import quick_jit

SMALL = CEM(horizon=3, population=40, iterations=2, elites=8, epsilon=0.0, alpha=0.1)
ICEM = CEM(**{**SMALL.model_dump(), "noise": "coloured", "kept_elites": 3, "mean_candidate": True, "execute": "best"})
PLANNERS = {"PETS": SMALL, "iCEM": ICEM}


def warm_start_of(mean, planner=SMALL, elites=0.0, planned=False):
    shape = (planner.horizon, 2)
    elites = np.full((planner.kept_elites, *shape), elites, np.float32)
    return CEMWarmStart(np.broadcast_to(np.float32(mean), shape), elites, np.array(planned))


def refitted(planner, mean, variance, candidates, values):
    """Mean and variance after one iteration, in NumPy."""
    elites = candidates[np.argsort(-values, kind="stable")[: planner.elites]]
    keep, kept = planner.alpha, planner.alpha if planner.smooth_variance else 0
    new_variance = np.square(elites - elites.mean(0)).sum(0) / planner.elites
    return keep * mean + (1 - keep) * elites.mean(0), kept * variance + (1 - kept) * new_variance


@pytest.fixture(scope="module")
def large():
    """One iteration, then one more with many samples, so that they tell the distribution they are from."""
    planner = CEM(horizon=1, population=20_000, iterations=2, elites=4, epsilon=0.0, alpha=0.3)
    return planner, *search(planner)


def test_the_defaults_are_the_papers():
    planner = CEM()
    assert (planner.horizon, planner.population, planner.iterations, planner.elites) == (25, 400, 5, 40)
    assert (planner.alpha, planner.epsilon, planner.initial_std) == (0.1, 0.001, 0.25)
    assert (planner.noise, planner.execute) == ("truncated", "mean")
    assert (planner.kept_elites, planner.mean_candidate) == (0, False)


@pytest.mark.long
def test_the_first_samples_have_a_quarter_of_the_range_as_standard_deviation(large):
    _, _, ((candidates, _), _) = large
    np.testing.assert_allclose(candidates.mean(0)[0], MIDDLE, atol=0.02)
    np.testing.assert_allclose(candidates.std(0)[0], 0.879626 * 0.25 * (HIGH - LOW), rtol=0.02)


@pytest.mark.long
def test_the_second_samples_have_the_refitted_mean_and_standard_deviation(large):
    planner, _, (first, (candidates, _)) = large
    mean, variance = refitted(planner, MIDDLE, np.square(0.25 * (HIGH - LOW)), *first)
    np.testing.assert_allclose(candidates.mean((0, 1)), mean[0], atol=0.02)
    np.testing.assert_allclose(candidates.std((0, 1)), 0.879626 * np.sqrt(variance[0]), rtol=0.02)


@pytest.mark.long
def test_without_smoothing_the_variance_is_the_elites_and_the_mean_is_smoothed_still():
    planner = CEM(horizon=1, population=20_000, iterations=2, elites=4, epsilon=0.0, alpha=0.3, smooth_variance=False)
    _, (first, (candidates, _)) = search(planner)
    mean, variance = refitted(planner, MIDDLE, 0, *first)
    elites = first[0][np.argsort(-first[1], kind="stable")[:4]]
    np.testing.assert_allclose(variance, elites.var(0), rtol=1e-5)
    np.testing.assert_allclose(candidates.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(candidates.std(0), 0.879626 * elites.std(0), rtol=0.03)


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        ({"population_decay": 1.5}, [40, 26, 17, 16]),  # never below two candidates an elite
        ({"population_decay": 3.0, "elites": 30, "kept_elites": 0}, [40] * 2),
        ({"population_decay": 3.0, "elites": 1, "kept_elites": 1}, [40, 13, 4, 3]),  # elite, mean and a sample
        ({"population_decay": 1.0}, [40] * 2),
    ],
)
def test_the_population_shrinks_from_round_to_round(change, sizes):
    planner = ICEM.model_copy(update={"iterations": len(sizes), **change})
    plan, asked = search(planner)
    assert [len(candidates) for candidates, _ in asked] == sizes
    candidates, values = asked[-1]
    np.testing.assert_array_equal(plan.actions, candidates[values.argmax()])


@pytest.mark.parametrize("mean_candidate", [False, True])
@pytest.mark.long
def test_the_least_population_has_a_new_sample_beside_the_kept_elites_and_the_mean(mean_candidate):
    change = {"iterations": 3, "population_decay": 20, "elites": 1, "kept_elites": 1, "mean_candidate": mean_candidate}
    _, asked = search(ICEM.model_copy(update=change))
    (before, values), (last, _) = asked[-2:]
    np.testing.assert_array_equal(last[0], before[values.argmax()])
    others = [candidate for candidates, _ in asked[:-1] for candidate in candidates]
    assert all((last[-1] != other).any() for other in [*others, *last[:-1]])


@pytest.mark.long
def test_a_shrinking_population_refines_as_any_other():
    planner = SMALL.model_copy(update={"population_decay": 1.5})
    plan, (first, second) = search(planner)
    mean, variance = refitted(planner, np.broadcast_to(MIDDLE, (3, 2)), np.square(0.25 * (HIGH - LOW)), *first)
    np.testing.assert_allclose(plan.actions, refitted(planner, mean, variance, *second)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_the_next_plan_starts_as_many_steps_later_as_are_executed():
    every = 2
    planner = ICEM.model_copy(update={"replan_every": every, "execute": "mean"})
    plan, (*_, (candidates, values)) = search(planner)
    fill = np.broadcast_to(MIDDLE, (every, 2))
    np.testing.assert_array_equal(plan.warm_start.mean, np.concatenate([plan.actions[every:], fill]))
    for kept, best in zip(plan.warm_start.elites, best_of(candidates, values, 3), strict=True):
        np.testing.assert_array_equal(kept, np.concatenate([best[every:], fill]))


@pytest.mark.long
def test_the_plan_is_the_mean_refitted_to_the_last_elites():
    plan, (first, second) = search(SMALL)
    mean = np.broadcast_to(MIDDLE, (3, 2))
    mean, variance = refitted(SMALL, mean, np.square(0.25 * (HIGH - LOW)), *first)
    mean, _ = refitted(SMALL, mean, variance, *second)
    np.testing.assert_allclose(plan.actions, mean, rtol=1e-5, atol=1e-6)
    assert plan.value == second[1].max()


@pytest.mark.long
def test_the_best_candidate_of_the_last_iteration_may_be_executed():
    plan, iterations = search(SMALL.model_copy(update={"execute": "best"}))
    candidates, values = iterations[-1]
    np.testing.assert_array_equal(plan.actions, candidates[values.argmax()])
    assert plan.value == values.max()


@pytest.mark.long
def test_every_iteration_draws_anew():
    noise = lambda key, actions: jax.random.normal(key, actions.shape[:1])  # noqa: E731
    _, ((first, first_noise), (second, second_noise)) = search(SMALL.model_copy(update={"alpha": 0.99}), noise)
    assert (first_noise != second_noise).all()
    standard = [((c - c.mean(0)) / c.std(0)).ravel() for c in (first, second)]
    assert abs(np.corrcoef(*standard)[0, 1]) < 0.3


@pytest.mark.parametrize("planner", PLANNERS.values(), ids=PLANNERS)
@pytest.mark.parametrize("objective", [quadratic, towards_the_upper_bound])
@pytest.mark.long
def test_no_candidate_leaves_asymmetric_bounds(planner, objective):
    first, asked = search(planner, objective)
    second, more = search(planner, objective, first.warm_start, key=1)
    for actions in (first.actions, second.actions, *(c for c, _ in asked + more)):
        assert (actions >= LOW - 1e-6).all() and (actions <= HIGH + 1e-6).all()


@pytest.mark.long
def test_near_a_bound_the_standard_deviation_shrinks():
    _, ((candidates, _), *_) = search(SMALL, warm_start=warm_start_of([2.9, -1.0]))
    assert np.abs(candidates[..., 0] - 2.9).max() < 0.1 + 1e-6
    assert np.abs(candidates[..., 1] + 1.0).max() > 1.0


@pytest.mark.long
def test_refinement_stops_once_the_largest_variance_is_at_most_epsilon():
    """Not before, and at the latest after the last iteration."""
    planner, counts = CEM(horizon=2, population=30, iterations=4, elites=6, epsilon=0.1, alpha=0.2), set()
    for key in range(20):
        _, asked = search(planner, key=key)
        mean, variance = np.broadcast_to(MIDDLE, (2, 2)), np.square(0.25 * (HIGH - LOW))
        for candidates, values in asked:
            assert variance.max() > 0.1
            mean, variance = refitted(planner, mean, variance, candidates, values)
        assert variance.max() <= 0.1 or len(asked) == 4
        counts.add(len(asked))
    assert len(counts) > 1


@pytest.mark.long
def test_a_large_epsilon_leaves_the_warm_start_as_it_is():
    plan, asked = search(SMALL.model_copy(update={"epsilon": 100.0}), warm_start=warm_start_of([0.2, 0.3]))
    assert not asked
    np.testing.assert_allclose(plan.actions, np.broadcast_to([0.2, 0.3], (3, 2)), rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
@pytest.mark.long
def test_finds_the_optimum_of_a_quadratic(epsilon):
    plan, _ = search(CEM(horizon=4, population=200, iterations=10, elites=20, epsilon=epsilon))
    np.testing.assert_allclose(plan.actions, np.broadcast_to([0.5, -2.0], (4, 2)), atol=0.02)


@pytest.mark.long
def test_finds_an_optimum_on_the_bound():
    plan, _ = search(CEM(horizon=2, population=200, iterations=10, elites=20, epsilon=0.0), towards_the_upper_bound)
    np.testing.assert_allclose(plan.actions, np.broadcast_to(HIGH, (2, 2)), atol=0.3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.long
def test_values_that_are_not_finite_count_as_worst(bad):
    """All candidates that turn left have such a value; of the others every one is worth less than -1000."""
    planner = SMALL.model_copy(update={"iterations": 1, "execute": "best"})
    plan, ((candidates, values), *_) = search(planner, bad_to_the_left, more=(bad,))
    good = np.where(np.isfinite(values), values, -np.inf)
    assert 8 <= np.isfinite(values).sum() < 40
    np.testing.assert_array_equal(plan.actions, candidates[good.argmax()])
    mean, _ = refitted(SMALL, np.broadcast_to(MIDDLE, (3, 2)), 0, candidates, good)
    np.testing.assert_allclose(plan.warm_start.mean[:-1], mean[1:], rtol=1e-5)
    assert plan.value == good.max()


@pytest.mark.long
@pytest.mark.parametrize("planner", PLANNERS.values(), ids=PLANNERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_actions_are_finite_even_if_no_value_is(planner, bad):
    plan, _ = search(planner, bad_everywhere, more=(bad,))
    for actions in (plan.actions, plan.warm_start.mean, plan.warm_start.elites):
        assert np.isfinite(actions).all()
        assert (actions >= LOW).all() and (actions <= HIGH).all()


def best_of(candidates, values, count):
    return candidates[np.argsort(-values, kind="stable")[:count]]


@pytest.mark.long
def test_kept_elites_and_the_mean_compete_in_the_next_iteration():
    planner = ICEM.model_copy(update={"execute": "mean"})
    _, ((first, values), (second, _)) = search(planner)
    np.testing.assert_array_equal(second[:3], best_of(first, values, 3))
    mean, _ = refitted(planner, np.broadcast_to(MIDDLE, (3, 2)), 0, first, values)
    np.testing.assert_allclose(second[3], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(first[3], np.broadcast_to(MIDDLE, (3, 2)))


@pytest.mark.long
def test_before_the_first_plan_of_an_episode_there_are_no_elites_to_keep():
    _, ((first, _), _) = search(ICEM, warm_start=warm_start_of(MIDDLE, ICEM, elites=2.0, planned=False))
    assert (first[:3] != 2.0).all()
    _, ((first, _), _) = search(ICEM, warm_start=warm_start_of(MIDDLE, ICEM, elites=2.0, planned=True))
    assert (first[:3] == 2.0).all()


@pytest.mark.parametrize(("fill", "last"), [("midpoint", MIDDLE), ("zero", [0.0, 0.0])])
@pytest.mark.long
def test_the_next_plan_starts_from_the_mean_and_elites_one_step_later(fill, last):
    planner = ICEM.model_copy(update={"fill": fill, "execute": "mean"})
    plan, (*_, (candidates, values)) = search(planner)
    np.testing.assert_array_equal(plan.warm_start.mean, [*plan.actions[1:], last])
    assert plan.warm_start.planned
    kept = best_of(candidates, values, 3)
    np.testing.assert_array_equal(plan.warm_start.elites, np.concatenate([kept[:, 1:], np.tile(last, (3, 1, 1))], 1))
    _, ((first, _), *_) = search(planner, warm_start=plan.warm_start, key=1)
    np.testing.assert_array_equal(first[:3], plan.warm_start.elites)
    np.testing.assert_array_equal(first[3], plan.warm_start.mean)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=4, max_size=4), st.integers(1, 4))
@pytest.mark.long
def test_shift_drops_the_executed_actions_and_appends_the_fill(rows, every):
    bounds = Bounds(jnp.array([-1.0, 0.0]), jnp.array([3.0, 1.0]))
    found = CEM(horizon=4, replan_every=every).shift(jnp.asarray(np.float32(rows)), bounds)
    np.testing.assert_array_equal(found, [*rows[every:], *[(1.0, 0.5)] * every])


@pytest.mark.long
def test_the_standard_deviation_is_reset_at_every_plan():
    planner = CEM(horizon=1, population=5_000, iterations=1, elites=4, epsilon=0.0)
    _, ((candidates, _),) = search(planner, warm_start=warm_start_of([0.5, -2.0], planner, planned=True))
    np.testing.assert_allclose(candidates.mean(0)[0], [0.5, -2.0], atol=0.05)
    np.testing.assert_allclose(candidates.std(0)[0], 0.879626 * np.array([0.75, 0.5]), rtol=0.03)  # shrunk by bounds


@pytest.mark.parametrize("planner", PLANNERS.values(), ids=PLANNERS)
def test_an_episode_starts_at_the_middle_of_the_range(planner):
    warm_start = planner.begin(BOUNDS)
    np.testing.assert_array_equal(warm_start.mean, np.broadcast_to(MIDDLE, (3, 2)))
    assert warm_start.elites.shape == (planner.kept_elites, 3, 2)
    assert not warm_start.planned


def test_the_key_decides_the_plan():
    first, again, other = (search(SMALL, key=k)[0].actions for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.long
@pytest.mark.parametrize("planner", [SMALL.model_copy(update={"epsilon": 0.05, "iterations": 6}), ICEM], ids=PLANNERS)
def test_a_batch_of_plans_equals_one_plan_at_a_time(planner):
    """Also where one of them stops refining before the others."""

    def one(key, warm_start, scale):
        return planner.plan(key, lambda k, a: scale * quadratic(k, a), warm_start, BOUNDS)

    keys, scale = jax.random.split(jax.random.key(0), 3), np.float32([1.0, 0.0, -1.0])
    warm_start = jax.tree.map(lambda *a: np.stack(a), *(warm_start_of([m, m], planner) for m in (0.0, 0.5, 0.9)))
    together = quick_jit(jax.vmap(one))(keys, warm_start, scale)
    single = quick_jit(one)
    for i in range(3):
        alone = single(keys[i], *jax.tree.map(lambda a: a[i], (warm_start, scale)))  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6), together, alone)  # noqa: B023


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elites": 41}, "must not exceed population"),
        ({"kept_elites": 9}, "must not exceed elites"),
        ({"population": 8, "kept_elites": 8}, "no room for samples"),
        ({"population": 8, "kept_elites": 7, "mean_candidate": True}, "and the mean"),
        ({"population_decay": 1.25, "epsilon": 0.001}, "population_decay needs epsilon=0"),
        ({"population_decay": 0.9}, "population_decay"),
        ({"replan_every": 4}, r"replan_every \(4\) must not exceed horizon \(3\)"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        CEM(**{**SMALL.model_dump(), **change})


@pytest.mark.long
def test_a_zero_fill_stays_within_bounds_that_exclude_zero():
    shifted = CEM(horizon=4, fill="zero").shift(jnp.ones((4, 1)), Bounds(jnp.array([1.0]), jnp.array([3.0])))
    np.testing.assert_array_equal(shifted, jnp.ones((4, 1)))


# As the released iCEM has it.

RELEASED = ICEM.model_copy(
    update={"mean_candidate": "last", "fill": "last", "kept_fill": "drawn", "smooth_variance": "std"}
)


@pytest.mark.long
def test_the_mean_may_compete_in_the_last_iteration_alone():
    _, ((first, values), (last, _)) = search(RELEASED, warm_start=warm_start_of([0.2, 0.3], RELEASED))
    mean = refitted(RELEASED, np.float32([0.2, 0.3]), 0.0, first, values)[0]
    assert not any((candidate == np.float32([0.2, 0.3])).all() for candidate in first)
    np.testing.assert_allclose(last[RELEASED.kept_elites], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_the_last_action_of_a_shifted_mean_is_repeated():
    plan, ((first, values), (last, more)) = search(RELEASED)
    mean = refitted(RELEASED, MIDDLE, 0.0, first, values)[0]
    mean = refitted(RELEASED, mean, 0.0, last, more)[0]
    np.testing.assert_allclose(plan.warm_start.mean, [*mean[1:], mean[-1]], rtol=1e-5, atol=1e-6)


def test_the_last_actions_of_kept_elites_are_drawn():
    elites = np.arange(18, dtype=np.float32).reshape(3, 3, 2) / 100
    warm_start = warm_start_of([0.2, 0.3], RELEASED, planned=True)._replace(elites=elites)
    _, ((first, _), *_) = search(RELEASED, warm_start=warm_start)
    np.testing.assert_array_equal(first[:3, :-1], elites[:, :-1])
    assert (first[:3, -1] != elites[:, -1]).all() and len(np.unique(first[:, -1, 0])) > RELEASED.population / 2


def test_elites_that_were_kept_within_a_search_stay_whole():
    _, ((first, values), (last, _)) = search(RELEASED)
    np.testing.assert_array_equal(last[:3], first[np.argsort(-values, kind="stable")[:3]])


@pytest.mark.long
def test_the_standard_deviation_may_be_smoothed_in_place_of_the_variance():
    elites = np.random.default_rng(0).normal(size=(8, 3, 2)).astype(np.float32)
    variance = np.full((3, 2), 4.0, np.float32)
    found = RELEASED._smoothed(jnp.array(variance), jnp.array(elites))
    np.testing.assert_allclose(np.sqrt(found), 0.1 * 2.0 + 0.9 * elites.std(0), rtol=1e-5)


@pytest.mark.long
def test_noise_of_the_released_scale_is_wider():
    one, wide = (
        CEM(
            horizon=3, noise="coloured", noise_scale=scale, epsilon=0.0, population=4000, iterations=1, initial_std=0.05
        )
        for scale in ("unit", "released")
    )
    narrow, wider = (search(planner)[1][0][0].std(0) for planner in (one, wide))
    np.testing.assert_allclose(wider, narrow * released_scale(3, 2.0), rtol=1e-5)
