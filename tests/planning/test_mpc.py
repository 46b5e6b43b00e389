"""Executing plans: when one is made, which of its actions are executed, and for several episodes at once."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import BOUNDS

from foretell.planning import CEM, MPPI, Bounds, RandomShooting, mpc
from tiny import quick_jit

BATCH = 3
SMALL = CEM(horizon=4, population=20, iterations=2, elites=4, epsilon=0.0)


def towards(obs):
    """Highest where every action is the observation."""
    return lambda key, actions: -jnp.square(actions - obs).sum((1, 2))


@cache
def stepper(planner):
    """One step of all episodes, which also returns whether it has made a plan."""
    plans = []

    def objective_from(obs):
        jax.debug.callback(lambda _: plans.append(1), obs[0], ordered=False)
        return towards(obs)

    step = quick_jit(lambda key, carry, obs: mpc.act(planner, key, objective_from, carry, obs, BOUNDS))

    def counted(*args):
        plans.clear()
        found = jax.tree.map(np.array, step(*args))
        jax.effects_barrier()
        return *found, bool(plans)

    return counted


def observations(t):
    return np.float32(np.random.default_rng(t).uniform(-1, 1, (BATCH, 2)))


@pytest.mark.long
@pytest.mark.parametrize("every", [1, 2, 4])
def test_a_plan_is_made_every_so_many_steps_and_its_actions_are_executed_in_turn(every):
    planner = SMALL.model_copy(update={"replan_every": every})
    step, carry = stepper(planner), mpc.begin(planner, BOUNDS, BATCH)
    for t in range(9):
        before = carry
        actions, carry, planned = step(jax.random.key(t), carry, observations(t))
        assert planned == (t % every == 0)
        np.testing.assert_array_equal(actions, carry.plan[:, t % every])
        np.testing.assert_array_equal(carry.executed, [t % every + 1] * BATCH)
        if not planned:
            jax.tree.map(np.testing.assert_array_equal, carry._replace(executed=0), before._replace(executed=0))


@pytest.mark.long
@pytest.mark.parametrize("every", [1, 3])
def test_plans_are_those_of_the_planner_alone(every):
    """From the warm start that the plan before has left, for each episode by itself."""
    planner = SMALL.model_copy(update={"replan_every": every})
    step, carry = stepper(planner), mpc.begin(planner, BOUNDS, BATCH)
    alone = quick_jit(lambda key, warm_start, obs: planner.plan(key, towards(obs), warm_start, BOUNDS))
    warm_starts = [planner.begin(BOUNDS)] * BATCH
    for t in range(0, 3 * every, every):
        obs = observations(t)
        plans = [
            alone(key, m, o)
            for key, m, o in zip(jax.random.split(jax.random.key(t), BATCH), warm_starts, obs, strict=True)
        ]
        warm_starts = [plan.warm_start for plan in plans]
        for later in range(every):  # keys and observations between plans do not matter
            actions, carry, _ = step(jax.random.key(t + later), carry, observations(t + later))
            expected = np.stack([plan.actions[later] for plan in plans])
            np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_episodes_that_begin_at_different_times_replan_at_different_times():
    """As when one of several episodes ends before the others and starts anew."""
    planner = SMALL.model_copy(update={"replan_every": 3})
    step, fresh = stepper(planner), mpc.begin(planner, BOUNDS, BATCH)
    carry, phases = fresh, [[0, 0, 0], [1, 1, 1], [2, 0, 2], [0, 1, 0], [1, 2, 1], [2, 0, 2]]
    for t, phase in enumerate(phases):
        if t == 2:
            carry = jax.tree.map(
                lambda new, old: np.where(np.arange(BATCH).reshape(-1, *[1] * (new.ndim - 1)) == 1, new, old),
                fresh,
                carry,
            )
        before = carry
        actions, carry, planned = step(jax.random.key(t), carry, observations(t))
        assert planned == (0 in phase)
        np.testing.assert_array_equal(carry.executed, np.add(phase, 1))
        for row, place in enumerate(phase):
            np.testing.assert_array_equal(actions[row], carry.plan[row, place])
            kept = jax.tree.map(
                lambda a, b: np.array_equal(a[row], b[row]),  # noqa: B023
                (carry.plan, carry.warm_start.mean),
                (before.plan, before.warm_start.mean),
            )
            assert kept == ((False, False) if place == 0 else (True, True))


@pytest.mark.long
def test_no_episode_disturbs_another():
    """What the others see makes no difference, nor when they plan."""
    planner = SMALL.model_copy(update={"replan_every": 2})
    step, fresh = stepper(planner), mpc.begin(planner, BOUNDS, BATCH)
    carry, other = fresh, fresh._replace(executed=np.int32([2, 1, 0]))
    for t in range(5):
        obs = observations(t)
        actions, carry, _ = step(jax.random.key(t), carry, obs)
        others, other, _ = step(jax.random.key(t), other, obs + np.float32([[0], [0.5], [0.5]]))
        np.testing.assert_allclose(others[0], actions[0], rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_before_the_first_plan_nothing_is_executed():
    carry = mpc.begin(SMALL, BOUNDS, BATCH)
    np.testing.assert_array_equal(carry.executed, [1] * BATCH)
    assert carry.plan.shape == carry.warm_start.mean.shape == (BATCH, 4, 2)


PLANNERS = {
    "CEM": CEM(horizon=2, population=100, iterations=8, elites=10, epsilon=0.0),
    "CEM that stops early": CEM(horizon=2, population=100, iterations=30, elites=10, epsilon=1e-4),
    "iCEM": CEM(
        horizon=2,
        population=100,
        iterations=5,
        elites=10,
        epsilon=0.0,
        kept_elites=3,
        noise="coloured",
        mean_candidate=True,
        execute="best",
        population_decay=1.25,
    ),
    "MPPI": MPPI(horizon=2, population=300, iterations=8, control_cost=0.0),
    "random": RandomShooting(horizon=1, population=1000, iterations=4),
}
optimised = {
    name: quick_jit(
        lambda key, obs, bounds, planner=planner: mpc.act(
            planner, key, towards, mpc.begin(planner, bounds, BATCH), obs, bounds
        )[0]
    )
    for name, planner in PLANNERS.items()
}


@pytest.mark.long
@pytest.mark.parametrize("name", PLANNERS)
@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    st.integers(0, 2**31),
    st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    st.tuples(st.floats(0.5, 20), st.floats(0.5, 20)),
)
def test_every_planner_finds_the_optimum_of_a_concave_objective_for_each_observation(name, seed, low, extent):
    low, extent = np.float32(low), np.float32([max(extent)] * 2)
    bounds = Bounds(jnp.array(low), jnp.array(low + extent))
    best = low + np.random.default_rng(seed).uniform(0.15, 0.85, (BATCH, 2)) * extent
    found = optimised[name](jax.random.key(seed), jnp.float32(best), bounds)
    np.testing.assert_allclose((found - best) / extent, np.zeros((BATCH, 2)), atol=0.08)
