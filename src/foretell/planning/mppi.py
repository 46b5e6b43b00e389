"""Model predictive path integral control: the mean moves to the average of the samples, weighted by their returns.

Williams et al. 2017, "Information theoretic MPC for model-based reinforcement learning".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from pydantic import NonNegativeFloat, PositiveFloat, model_validator

from foretell.planning.base import Bounds, Objective, Plan, Refiner, worst_if_not_finite
from foretell.registry import register


class MPPIWarmStart(NamedTuple):
    """What is carried from one plan to the next."""

    mean: Float[Array, "horizon action"]


@register("planner", "mppi")
class MPPI(Refiner):
    """Receding-horizon planning by path integrals. The standard deviation of the samples is always `initial_std`."""

    kind: str = "mppi"
    temperature: PositiveFloat = 0.1
    """Temperature as a share of the gap between the best and the median return. A candidate has the weight `exp((return
    - best) / (temperature * gap))`; near 0 only the best candidate has weight."""
    control_cost: NonNegativeFloat = 0.1
    """Factor on the control cost `u' S^-1 e`, where `u` is the mean, `e` the difference of a candidate from it and `S`
    the variance of the samples. The weight of a candidate is multiplied by `exp(-control_cost * u' S^-1 e)`, which
    favours actions near 0. It is `1 - alpha` of the paper; 1: all of the cost; 0: only returns count."""

    @model_validator(mode="after")
    def _check(self) -> "MPPI":
        if self.mean_candidate and self.population < 2:
            raise ValueError(f"population ({self.population}) leaves no room for samples beside the mean")
        return self

    def begin(self, bounds: Bounds) -> MPPIWarmStart:
        """The mean is the middle of the action range."""
        return MPPIWarmStart(self.first_mean(bounds))

    def plan(self, key: Key[Array, ""], objective: Objective, warm_start: MPPIWarmStart, bounds: Bounds) -> Plan:
        """Search from the warm start; see `Planner.plan`."""
        variance = self.first_variance(bounds)

        def refine(
            i: Int[Array, ""], search: tuple[Float[Array, "horizon action"], Float[Array, ""]]
        ) -> tuple[Float[Array, "horizon action"], Float[Array, ""]]:
            mean, _ = search
            sample_key, objective_key = jax.random.split(jax.random.fold_in(key, i))
            candidates = self.samples(sample_key, self.population, mean, variance, bounds)
            candidates = self.with_mean(candidates, 0, mean, i)
            values = worst_if_not_finite(objective(objective_key, candidates))
            effort = (mean / variance * (candidates - mean)).sum((1, 2))
            weights = path_weights(values, self.temperature, self.control_cost * effort)
            return jnp.where(weights.sum() > 0, jnp.einsum("c,cha->ha", weights, candidates), mean), values.max()

        mean, value = jax.lax.fori_loop(0, self.iterations, refine, (warm_start.mean, jnp.array(-jnp.inf)))
        return Plan(mean, MPPIWarmStart(self.shift(mean, bounds)), value)


def path_weights(
    values: Float[Array, "candidates"], temperature: float, effort: Float[Array, "candidates"] | float = 0.0
) -> Float[Array, "candidates"]:
    """Weights of candidates by their values. The median makes them independent of a few very bad candidates.

    Args:
        values: estimated returns; those that are not finite get the weight 0.
        temperature: see `MPPI.temperature`.
        effort: of each candidate, in units of the temperature (Williams et al. 2017, algorithm 2).

    Returns:
        Weights that sum to 1, or all 0 where no value is finite.
    """
    finite = jnp.isfinite(values)
    best = jnp.max(values, where=finite, initial=-jnp.inf)
    gap = best - jnp.nanmedian(jnp.where(finite, values, jnp.nan))
    scale = jnp.maximum(temperature * gap, jnp.finfo(values.dtype).tiny)  # of a gap of 0 only the best count
    logits = jnp.where(finite, (values - best) / scale - effort, -jnp.inf)
    most = jnp.max(logits, where=finite, initial=-jnp.inf)
    weights = jnp.where(finite, jnp.exp(logits - most), 0.0)
    return weights / jnp.maximum(weights.sum(), 1.0)
