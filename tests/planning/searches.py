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


def bad_to_the_left(_, actions, bad):
    """Candidates that turn left have a bad value; those that turn right are worth less than -1000."""
    return jnp.where(actions[:, 0, 0] < 1.0, bad, -1000.0 - actions[:, 0, 0])


def bad_everywhere(_, actions, bad):
    return jnp.full(len(actions), bad)


@cache
def compiled(planner, objective):
    """The search, and the list in which it leaves the candidates and values of every iteration."""
    seen = []

    def run(key, warm_start, more):
        def watched(key, actions):
            values = objective(key, actions, *more)
            keep = lambda *arrays: seen.append(tuple(map(np.asarray, arrays)))  # noqa: E731
            jax.debug.callback(keep, actions, values, ordered=True)
            return values

        return planner.plan(key, watched, warm_start, BOUNDS)

    return quick_jit(run), seen


def search(planner, objective=quadratic, warm_start=None, key=0, more=()):
    """A plan, and the candidates and values of every iteration; `more` are further arguments of the objective."""
    run, seen = compiled(planner, objective)
    seen.clear()
    plan = run(jax.random.key(key), planner.begin(BOUNDS) if warm_start is None else warm_start, more)
    jax.effects_barrier()
    return jax.tree.map(np.asarray, plan), list(seen)
