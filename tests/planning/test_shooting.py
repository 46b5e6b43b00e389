"""Random shooting: uniform candidates, the best of all rounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from searches import BOUNDS, HIGH, LOW, MIDDLE, bad_everywhere, bad_to_the_left, quadratic, search

from foretell.planning import RandomShooting
from tiny import quick_jit

PLANNER = RandomShooting(horizon=3, population=40, iterations=4)


@pytest.mark.long
def test_candidates_are_uniform_over_the_action_range():
    planner = RandomShooting(horizon=2, population=20_000, iterations=1)
    _, ((candidates, _),) = search(planner)
    assert candidates.shape == (20_000, 2, 2)
    assert (candidates >= LOW).all() and (candidates <= HIGH).all()
    quartiles = np.quantile(candidates, [0.01, 0.25, 0.5, 0.75, 0.99], axis=0)
    expected = LOW + np.array([0.01, 0.25, 0.5, 0.75, 0.99])[:, None, None] * (HIGH - LOW)
    np.testing.assert_allclose(quartiles, np.broadcast_to(expected, quartiles.shape), atol=0.06)
    flat = (candidates - candidates.mean(0)).reshape(-1, 4)
    np.testing.assert_allclose(np.corrcoef(flat.T), np.eye(4), atol=0.03)  # times and actions are independent


@pytest.mark.parametrize("key", range(5))
@pytest.mark.long
def test_the_plan_is_the_best_candidate_of_all_rounds(key):
    plan, asked = search(PLANNER, key=key)
    assert len(asked) == 4
    candidates, values = (np.concatenate(arrays) for arrays in zip(*asked, strict=True))
    assert len(np.unique(candidates)) == candidates.size
    np.testing.assert_array_equal(plan.actions, candidates[values.argmax()])
    assert plan.value == values.max()


def test_no_round_is_always_the_best():
    best = [np.argmax([values.max() for _, values in search(PLANNER, key=key)[1]]) for key in range(20)]
    assert len(set(best)) > 1


@pytest.mark.long
def test_every_round_has_its_own_noise():
    noise = lambda key, actions: jax.random.normal(key, actions.shape[:1])  # noqa: E731
    _, asked = search(PLANNER, noise)
    assert len({float(values[0]) for _, values in asked}) == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.long
def test_values_that_are_not_finite_count_as_worst(bad):
    plan, asked = search(PLANNER, bad_to_the_left, more=(bad,))
    good = np.concatenate([np.where(np.isfinite(values), values, -np.inf) for _, values in asked])
    np.testing.assert_array_equal(plan.actions, np.concatenate([c for c, _ in asked])[good.argmax()])
    assert plan.value == good.max() > -np.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.long
def test_the_middle_of_the_range_is_executed_if_no_value_is_finite(bad):
    plan, _ = search(PLANNER, bad_everywhere, more=(bad,))
    np.testing.assert_array_equal(plan.actions, np.broadcast_to(MIDDLE, (3, 2)))


@pytest.mark.long
def test_there_is_no_warm_start():
    warm_start = PLANNER.begin(BOUNDS)
    assert not jax.tree.leaves(warm_start)
    assert search(PLANNER)[0].warm_start == warm_start


@pytest.mark.long
def test_the_key_decides_the_plan():
    first, again, other = (search(PLANNER, key=k)[0].actions for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.long
def test_a_batch_of_plans_equals_one_plan_at_a_time():
    def one(key, scale):
        return PLANNER.plan(key, lambda k, a: scale * quadratic(k, a), PLANNER.begin(BOUNDS), BOUNDS)

    keys, scale = jax.random.split(jax.random.key(0), 3), jnp.array([1.0, 0.5, -1.0])
    together, single = quick_jit(jax.vmap(one))(keys, scale), quick_jit(one)
    for i in range(3):
        np.testing.assert_allclose(together.actions[i], single(keys[i], scale[i]).actions, rtol=1e-6)


@pytest.mark.long
def test_no_more_steps_are_executed_than_planned():
    with pytest.raises(ValueError, match=r"replan_every \(4\) must not exceed horizon \(3\)"):
        RandomShooting(horizon=3, replan_every=4)
