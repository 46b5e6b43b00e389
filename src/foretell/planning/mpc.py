"""Model predictive control: execute the beginning of a plan, then plan again from where that led."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from foretell.planning.base import Bounds, Memory, Objective, Plan, Planner


class Control(NamedTuple):
    """What is remembered between the steps of an episode; with a leading batch axis for several episodes."""

    memory: Memory
    actions: Float[Array, "*batch horizon action"]
    """The latest plan."""
    done: Int[Array, "*batch"]
    """Steps of it that were executed; `replan_every` before the first plan."""


def start(planner: Planner, bounds: Bounds, batch: int) -> Control:
    """At the start of `batch` episodes."""
    actions = jnp.zeros((planner.horizon, len(bounds.low)))
    control = Control(planner.start(bounds), actions, jnp.array(planner.replan_every, jnp.int32))
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape)), control)


def act(
    planner: Planner,
    key: Key[Array, ""],
    objective_from: Callable[[Any], Objective],
    control: Control,
    starts: PyTree,
    bounds: Bounds,
) -> tuple[Float[Array, "batch action"], Control]:
    """The next action of each episode. Plans are made when any episode's last one has been executed far enough.

    `starts`, mostly observations, have a leading batch axis; plans from each are judged by its `objective_from`.
    """

    def plan(key: Key[Array, ""], memory: Memory, start: Any) -> Plan:
        return planner.plan(key, objective_from(start), memory, bounds)

    def renew(control: Control) -> Control:
        found = jax.vmap(plan)(jax.random.split(key, len(control.done)), control.memory, starts)
        return Control(found.memory, found.actions, jnp.zeros_like(control.done))

    if planner.replan_every == 1:
        control = renew(control)
    else:
        due = control.done >= planner.replan_every
        renewed = jax.lax.cond(due.any(), renew, lambda control: control, control)
        control = jax.tree.map(lambda new, old: _where(due, new, old), renewed, control)
    actions = jax.vmap(lambda actions, t: actions[t])(control.actions, control.done)
    return actions, control._replace(done=control.done + 1)


def _where(rows: Any, new: Array, old: Array) -> Array:
    return jnp.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)
