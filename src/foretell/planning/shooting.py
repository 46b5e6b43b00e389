"""Random shooting: uniformly random action sequences, the best of which is executed.

Chua et al. 2018 (PETS); Nagabandi et al. 2018 (MB-MPC), section IV.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from foretell.planning.base import Bounds, Objective, Plan, Planner, worst_if_not_finite
from foretell.registry import register


class NoWarmStart(NamedTuple):
    """Nothing: every plan of random shooting is independent of the previous one."""


@register("planner", "random")
class RandomShooting(Planner):
    """The best of `iterations * population` sequences, one population at a time to bound the memory it takes."""

    kind: str = "random"

    def begin(self, bounds: Bounds) -> NoWarmStart:
        return NoWarmStart()

    def plan(self, key: Key[Array, ""], objective: Objective, warm_start: NoWarmStart, bounds: Bounds) -> Plan:
        shape = (self.population, self.horizon, len(bounds.low))

        def draw(
            i: Int[Array, ""], best: tuple[Float[Array, "horizon action"], Float[Array, ""]]
        ) -> tuple[Float[Array, "horizon action"], Float[Array, ""]]:
            sample_key, objective_key = jax.random.split(jax.random.fold_in(key, i))
            candidates = jax.random.uniform(sample_key, shape, minval=bounds.low, maxval=bounds.high)
            values = worst_if_not_finite(objective(objective_key, candidates))
            top = jnp.argmax(values)
            better = values[top] > best[1]
            return jnp.where(better, candidates[top], best[0]), jnp.where(better, values[top], best[1])

        none = jnp.broadcast_to(bounds.middle, shape[1:]), jnp.array(-jnp.inf)
        actions, value = jax.lax.fori_loop(0, self.iterations, draw, none)
        return Plan(actions, warm_start, value)
