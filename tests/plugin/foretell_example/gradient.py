"""Gradient shooting: improve random plans by gradient ascent through the world model, and take the best of them."""

import jax
import jax.numpy as jnp
import optax
from pydantic import PositiveFloat

from foretell.planning import Plan, Planner
from foretell.planning.base import worst_if_not_finite
from foretell.registry import register


@register("planner", "gradient")
class GradientShooting(Planner):
    """Makes `iterations` steps of Adam on each of `population` plans, the first of which is the last plan, shifted."""

    kind: str = "gradient"
    step_size: PositiveFloat = 0.1
    """Of Adam, as a share of the action range."""

    def begin(self, bounds):
        return jnp.full((self.horizon, len(bounds.low)), 0.5)  # plans are shares of the action range, from 0 to 1

    def plan(self, key, objective, warm_start, bounds):
        adam = optax.adam(self.step_size)
        start_key, last_key, ascent_key = jax.random.split(key, 3)
        plans = jax.random.uniform(start_key, (self.population, *warm_start.shape)).at[0].set(warm_start)

        def returns(plans, key):
            return objective(key, bounds.low + plans * (bounds.high - bounds.low))

        def ascend(search, key):
            plans, moments = search
            gradient = jax.grad(lambda plans: returns(plans, key).sum())(plans)
            step, moments = adam.update(-jnp.nan_to_num(gradient), moments)
            return (jnp.clip(plans + step, 0.0, 1.0), moments), None

        keys = jax.random.split(ascent_key, self.iterations)
        (plans, _), _ = jax.lax.scan(ascend, (plans, adam.init(plans)), keys)
        values = worst_if_not_finite(returns(plans, last_key))
        best = plans[jnp.argmax(values)]
        rest = jnp.concatenate([best[self.replan_every :], jnp.full_like(best[: self.replan_every], 0.5)])
        return Plan(bounds.low + best * (bounds.high - bounds.low), rest, values.max())
