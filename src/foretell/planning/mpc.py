"""Model predictive control: execute the first actions of a plan, then plan again from the new observation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from foretell.planning.base import Bounds, Objective, Plan, Planner, WarmStart


class PlanCarry(NamedTuple):
    """What is carried between the steps of an episode; with a leading batch axis for several episodes."""

    warm_start: WarmStart
    plan: Float[Array, "*batch horizon action"]
    """The latest plan."""
    value: Float[Array, "*batch"]
    """Its imagined return."""
    executed: Int[Array, "*batch"]
    """Steps of it that were executed; `replan_every` before the first plan."""


def begin(planner: Planner, bounds: Bounds, batch: int) -> PlanCarry:
    """The carry at the start of `batch` episodes."""
    plan = jnp.zeros((planner.horizon, len(bounds.low)))
    carry = PlanCarry(planner.begin(bounds), plan, jnp.zeros(()), jnp.array(planner.replan_every, jnp.int32))
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape)), carry)


def act(
    planner: Planner,
    key: Key[Array, ""],
    objective_from: Callable[[Any], Objective],
    carry: PlanCarry,
    starts: PyTree,
    bounds: Bounds,
) -> tuple[Float[Array, "batch action"], PlanCarry]:
    """The next action of each episode. Plans are made when any episode's last one has been executed far enough.

    Args:
        planner: the search.
        key: for its noise.
        objective_from: the objective of plans that begin at one of `starts`.
        carry: the carry, with a leading batch axis.
        starts: where the next plans begin, mostly observations, with a leading batch axis.
        bounds: the lowest and the highest action.

    Returns:
        Actions in the environment's units, and the carry of the next call.
    """

    def plan(key: Key[Array, ""], warm_start: WarmStart, start: Any) -> Plan:
        return planner.plan(key, objective_from(start), warm_start, bounds)

    def renew(carry: PlanCarry) -> PlanCarry:
        found = jax.vmap(plan)(jax.random.split(key, len(carry.executed)), carry.warm_start, starts)
        return PlanCarry(found.warm_start, found.actions, found.value, jnp.zeros_like(carry.executed))

    if planner.replan_every == 1:
        carry = renew(carry)
    else:
        due = carry.executed >= planner.replan_every
        renewed = jax.lax.cond(due.any(), renew, lambda carry: carry, carry)
        carry = jax.tree.map(lambda new, old: _where(due, new, old), renewed, carry)
    actions = jax.vmap(lambda plan, t: plan[t])(carry.plan, carry.executed)
    return actions, carry._replace(executed=carry.executed + 1)


def _where(rows: Any, new: Array, old: Array) -> Array:
    return jnp.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)
