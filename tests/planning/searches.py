"""Searches that are watched: what planners ask of simple objectives, and what they answer."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from foretell.planning import Bounds
from tiny import quick_jit

LOW, HIGH = np.float32([-1, -3]), np.float32([3, 1])
MIDDLE = np.float32([1, -1])
BOUNDS = Bounds(jnp.array(LOW), jnp.array(HIGH))


def quadratic(_, actions):
    """Highest where every action is (0.5, -2)."""
    return -jnp.square(actions - jnp.array([0.5, -2.0])).sum((1, 2))


def towards_the_upper_bound(_, actions):
    return actions.sum((1, 2))


@cache
def compiled(planner, objective):
    """The search, and the list in which it leaves the candidates and values of every iteration."""
    seen = []

    def watched(key, actions):
        values = objective(key, actions)
        jax.debug.callback(lambda *arrays: seen.append(tuple(map(np.asarray, arrays))), actions, values, ordered=True)
        return values

    return quick_jit(lambda key, warm_start: planner.plan(key, watched, warm_start, BOUNDS)), seen


def search(planner, objective=quadratic, warm_start=None, key=0):
    """A plan, and the candidates and values of every iteration."""
    run, seen = compiled(planner, objective)
    seen.clear()
    plan = run(jax.random.key(key), planner.begin(BOUNDS) if warm_start is None else warm_start)
    jax.effects_barrier()
    return plan, list(seen)
