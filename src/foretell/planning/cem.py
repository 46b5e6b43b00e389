"""The cross-entropy method over action sequences, with the refinements of iCEM as options.

Chua et al. 2018 (PETS), section 5; Pinneri et al. 2020, "Sample-efficient cross-entropy method for real-time planning".
"""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from foretell.planning.base import Bounds, Objective, Plan, Refiner, Share, worst_if_not_finite
from foretell.registry import register


class CEMWarmStart(NamedTuple):
    """What is carried from one plan to the next."""

    mean: Float[Array, "horizon action"]
    elites: Float[Array, "kept horizon action"]
    planned: Bool[Array, ""]
    """False before the first plan of an episode: `elites` are not used then."""


@register("planner", "cem")
class CEM(Refiner):
    """Receding-horizon planning by the cross-entropy method. The defaults are those of PETS, for the cartpole.

    Kept elites and the mean, if they are candidates, are counted in the population.
    """

    kind: str = "cem"
    elites: PositiveInt = 40
    """Number of best candidates in an iteration, to which mean and variance are fitted."""
    alpha: Share = 0.1
    """Share of the old mean and variance that each iteration keeps."""
    smooth_variance: bool | Literal["std"] = True
    """Apply `alpha` to the variance too (true), to the standard deviation instead (`std`: iCEM), or to the mean alone
    (false: the code of PETS before November 2018)."""
    epsilon: NonNegativeFloat = 0.001
    """Stop the search once the largest variance is at most this, in squared units of the actions; 0: never stop
    early."""
    population_decay: Annotated[float, Field(ge=1)] = 1.0
    """Divide the population by this after every iteration (iCEM), but keep at least two candidates per elite and one
    new sample; 1: constant population."""
    kept_elites: NonNegativeInt = 0
    """Number of best candidates that are candidates again in the next iteration and, shifted in time, in the search for
    the next plan (iCEM)."""
    kept_fill: Literal["fill", "drawn"] = "fill"
    """New actions at the end of kept elites that were shifted in time: as `fill` says, or drawn like those of new
    samples (`drawn`: iCEM)."""
    execute: Literal["mean", "best"] = "mean"
    """Execute the final mean (PETS) or the best candidate of the last iteration (iCEM)."""

    @model_validator(mode="after")
    def _check(self) -> "CEM":
        if self.elites > self.population:
            raise ValueError(f"elites ({self.elites}) must not exceed population ({self.population})")
        if self.kept_elites > self.elites:
            raise ValueError(f"kept_elites ({self.kept_elites}) must not exceed elites ({self.elites})")
        if self.kept_elites + bool(self.mean_candidate) >= self.population:
            raise ValueError(
                f"population ({self.population}) leaves no room for samples beside {self.kept_elites} kept elites"
                f"{' and the mean' if self.mean_candidate else ''}"
            )
        if self.population_decay > 1 and self.epsilon:
            raise ValueError("population_decay needs epsilon=0: a search whose rounds differ cannot stop early")
        return self

    def begin(self, bounds: Bounds) -> CEMWarmStart:
        """The mean is the middle of the action range."""
        mean = self.first_mean(bounds)
        return CEMWarmStart(mean, jnp.zeros((self.kept_elites, *mean.shape)), jnp.zeros((), bool))

    def plan(self, key: Key[Array, ""], objective: Objective, warm_start: CEMWarmStart, bounds: Bounds) -> Plan:
        """Search from the warm start; see `Planner.plan`."""

        def refine(i: Int[Array, ""] | int, search: _Search, population: int = self.population) -> _Search:
            sample_key, objective_key = jax.random.split(jax.random.fold_in(key, i))
            candidates = self._candidates(sample_key, search, population, bounds, i)
            values = worst_if_not_finite(objective(objective_key, candidates))
            best_values, best = jax.lax.top_k(values, self.elites)
            elites = candidates[best]
            mean = self.alpha * search.mean + (1 - self.alpha) * elites.mean(0)
            variance = self._smoothed(search.variance, elites)
            return _Search(mean, variance, elites[: self.kept_elites], jnp.ones((), bool), elites[0], best_values[0])

        start = _Search(
            warm_start.mean,
            self.first_variance(bounds),
            warm_start.elites,
            warm_start.planned,
            warm_start.mean,
            jnp.array(-jnp.inf),
        )
        end = self._loop(refine, start)
        actions = end.mean if self.execute == "mean" else end.best
        warm_start = CEMWarmStart(self.shift(end.mean, bounds), self.shift(end.elites, bounds), end.planned)
        return Plan(actions, warm_start, end.value)

    def _loop(self, refine: Callable, search: "_Search") -> "_Search":
        if self.population_decay > 1:
            least = min(max(2 * self.elites, self.kept_elites + bool(self.mean_candidate) + 1), self.population)
            for i in range(self.iterations):
                search = refine(i, search, max(int(self.population / self.population_decay**i), least))
            return search
        if not self.epsilon:
            return jax.lax.fori_loop(0, self.iterations, refine, search)

        def going(carry: tuple[Int[Array, ""], _Search]) -> Bool[Array, ""]:
            return (carry[0] < self.iterations) & (carry[1].variance.max() > self.epsilon)

        return jax.lax.while_loop(going, lambda c: (c[0] + 1, refine(*c)), (jnp.zeros((), jnp.int32), search))[1]

    def _smoothed(
        self, variance: Float[Array, "horizon action"], elites: Float[Array, "elites horizon action"]
    ) -> Float[Array, "horizon action"]:
        """The variance of the elites, smoothed as `smooth_variance` says."""
        if self.smooth_variance == "std":
            return jnp.square(self.alpha * jnp.sqrt(variance) + (1 - self.alpha) * elites.std(0))
        kept = self.alpha if self.smooth_variance else 0.0
        return kept * variance + (1 - kept) * elites.var(0)

    def _candidates(
        self, key: Key[Array, ""], search: "_Search", population: int, bounds: Bounds, iteration: Int[Array, ""] | int
    ) -> Float[Array, "population horizon action"]:
        """New samples, the first of them replaced by the kept elites and the mean."""
        samples = self.samples(key, population, search.mean, search.variance, bounds)
        kept, elites = self.kept_elites, search.elites
        if self.kept_fill == "drawn":
            new = (iteration == 0) & (jnp.arange(self.horizon) >= self.horizon - self.replan_every)
            elites = jnp.where(new[:, None], samples[:kept], elites)
        samples = samples.at[:kept].set(jnp.where(search.planned, elites, samples[:kept]))
        return self.with_mean(samples, kept, search.mean, iteration)


class _Search(NamedTuple):
    """The sampling distribution between two iterations."""

    mean: Float[Array, "horizon action"]
    variance: Float[Array, "horizon action"]
    elites: Float[Array, "kept horizon action"]
    planned: Bool[Array, ""]
    best: Float[Array, "horizon action"]
    value: Float[Array, ""]
