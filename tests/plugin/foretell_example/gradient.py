"""Gradient shooting: improve random plans by gradient ascent through the world model, and take the best."""

import jax
import jax.numpy as jnp
import optax
from pydantic import PositiveFloat

from foretell.planning import Plan, Planner, worst_if_not_finite
from foretell.registry import register


@register("planner", "gradient")
class GradientShooting(Planner):
    """Takes `iterations` steps of Adam on `population` plans, the first of which begins as what is left of the last."""

    kind: str = "gradient"
    step_size: PositiveFloat = 0.1
    """Step size of Adam, as a share of the action range."""

    def begin(self, bounds):
        return jnp.full((self.horizon, len(bounds.low)), 0.5)  # a plan is searched for in [0, 1], low to high

    def plan(self, key, objective, warm_start, bounds):
        start_key, ascent_key, last_key = jax.random.split(key, 3)
        adam = optax.adam(self.step_size)
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
        rest = jnp.concatenate([best[self.replan_every :], self.begin(bounds)[: self.replan_every]])
        return Plan(bounds.low + best * (bounds.high - bounds.low), rest, values.max())
