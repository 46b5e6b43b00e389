"""The cross-entropy method over action sequences, with the refinements of iCEM as options.

Chua et al. 2018 (PETS), section 5; Pinneri et al. 2020, "Sample-efficient cross-entropy method for real-time planning".
"""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from foretell.planning.sampling import clipped_coloured, truncated_normal
from foretell.settings import Settings

Objective = Callable[[Key[Array, ""], Float[Array, "candidates horizon action"]], Float[Array, "candidates"]]
"""Estimated return of each action sequence; higher is better, and what is not finite counts as worst."""


class Memory(NamedTuple):
    """What a plan hands to the next one, one time step later."""

    mean: Float[Array, "horizon action"]
    elites: Float[Array, "kept horizon action"]
    planned: Bool[Array, ""]
    """False before the first plan of an episode: `elites` then means nothing."""


class Plan(NamedTuple):
    """The outcome of a search."""

    actions: Float[Array, "horizon action"]
    memory: Memory
    value: Float[Array, ""]
    """Estimated return of the best candidate of the last iteration."""


class CEM(Settings):
    """Receding-horizon planning by the cross-entropy method. The defaults are the paper's, for the cartpole."""

    horizon: PositiveInt = 25
    """Steps planned ahead."""
    population: PositiveInt = 400
    """Candidate sequences per iteration, kept elites and the mean included."""
    iterations: PositiveInt = 5
    """Refinements of the sampling distribution per plan."""
    elites: PositiveInt = 40
    """Best candidates the distribution is refitted to."""
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the old mean and variance kept at each refinement."""
    epsilon: NonNegativeFloat = 0.001
    """Stop refining once the largest variance is at most this, in squared action units; 0 never stops early."""
    initial_std: PositiveFloat = 0.25
    """Deviation at the start of every plan, as a share of the action range."""
    noise: Literal["truncated", "coloured"] = "truncated"
    """Truncated white normals (PETS), or clipped noise correlated in time (iCEM)."""
    noise_exponent: NonNegativeFloat = 2.0
    """Colour of `coloured` noise: its power falls with frequency as `1 / f^exponent`."""
    kept_elites: NonNegativeInt = 0
    """Best candidates that compete again, in the next iteration and, shifted by a step, in the next plan (iCEM)."""
    mean_candidate: bool = False
    """Let the mean itself compete, in place of one sample (iCEM)."""
    execute: Literal["mean", "best"] = "mean"
    """Execute the final mean (PETS) or the best candidate of the last iteration (iCEM)."""
    fill: Literal["midpoint", "zero"] = "midpoint"
    """What enters at the end of the shifted warm start: the middle of the range, or 0 (the released PETS code)."""

    @model_validator(mode="after")
    def _check(self) -> "CEM":
        if self.elites > self.population:
            raise ValueError(f"elites ({self.elites}) must not exceed population ({self.population})")
        if self.kept_elites > self.elites:
            raise ValueError(f"kept_elites ({self.kept_elites}) must not exceed elites ({self.elites})")
        if self.kept_elites + self.mean_candidate >= self.population:
            raise ValueError(
                f"population ({self.population}) leaves no room for samples beside {self.kept_elites} kept elites"
                f"{' and the mean' if self.mean_candidate else ''}"
            )
        return self

    def start(self, low: Float[Array, "action"], high: Float[Array, "action"]) -> Memory:
        """Memory at the start of an episode: the mean is the middle of the action range."""
        mean = jnp.broadcast_to(0.5 * (low + high), (self.horizon, low.shape[0]))
        return Memory(mean, jnp.zeros((self.kept_elites, *mean.shape)), jnp.zeros((), bool))

    def plan(
        self,
        key: Key[Array, ""],
        objective: Objective,
        memory: Memory,
        low: Float[Array, "action"],
        high: Float[Array, "action"],
    ) -> Plan:
        """Search for the action sequence of highest return, from the warm start in `memory`."""
        variance = jnp.broadcast_to(jnp.square(self.initial_std * (high - low)), memory.mean.shape)

        def refine(i: Int[Array, ""], search: _Search) -> _Search:
            sample_key, objective_key = jax.random.split(jax.random.fold_in(key, i))
            std = jnp.sqrt(search.variance)
            candidates = self._candidates(sample_key, search, std, low, high)
            values = _worst_if_not_finite(objective(objective_key, candidates))
            best_values, best = jax.lax.top_k(values, self.elites)
            elites = candidates[best]
            mean = self.alpha * search.mean + (1 - self.alpha) * elites.mean(0)
            variance = self.alpha * search.variance + (1 - self.alpha) * elites.var(0)
            return _Search(mean, variance, elites[: self.kept_elites], jnp.ones((), bool), elites[0], best_values[0])

        start = _Search(memory.mean, variance, memory.elites, memory.planned, memory.mean, jnp.array(-jnp.inf))
        end = self._loop(refine, start)
        actions = end.mean if self.execute == "mean" else end.best
        memory = Memory(self._shift(end.mean, low, high), self._shift(end.elites, low, high), end.planned)
        return Plan(actions, memory, end.value)

    def _loop(self, refine: Callable, search: "_Search") -> "_Search":
        if not self.epsilon:
            return jax.lax.fori_loop(0, self.iterations, refine, search)

        def going(carry: tuple[Int[Array, ""], _Search]) -> Bool[Array, ""]:
            return (carry[0] < self.iterations) & (carry[1].variance.max() > self.epsilon)

        return jax.lax.while_loop(going, lambda c: (c[0] + 1, refine(*c)), (jnp.zeros((), jnp.int32), search))[1]

    def _candidates(
        self,
        key: Key[Array, ""],
        search: "_Search",
        std: Float[Array, "horizon action"],
        low: Float[Array, "action"],
        high: Float[Array, "action"],
    ) -> Float[Array, "population horizon action"]:
        """Samples, the first few replaced by the kept elites and the mean."""
        if self.noise == "coloured":
            samples = clipped_coloured(key, self.population, search.mean, std, low, high, exponent=self.noise_exponent)
        else:
            samples = truncated_normal(key, self.population, search.mean, std, low, high)
        kept = self.kept_elites
        samples = samples.at[:kept].set(jnp.where(search.planned, search.elites, samples[:kept]))
        return samples.at[kept].set(search.mean) if self.mean_candidate else samples

    def _shift(
        self, actions: Float[Array, "*n horizon action"], low: Float[Array, "action"], high: Float[Array, "action"]
    ) -> Float[Array, "*n horizon action"]:
        """The sequence one time step later."""
        fill = 0.5 * (low + high) if self.fill == "midpoint" else jnp.clip(0.0, low, high)
        last = jnp.broadcast_to(fill, (*actions.shape[:-2], 1, fill.shape[0]))
        return jnp.concatenate([actions[..., 1:, :], last], -2)


class _Search(NamedTuple):
    """The sampling distribution between two iterations."""

    mean: Float[Array, "horizon action"]
    variance: Float[Array, "horizon action"]
    elites: Float[Array, "kept horizon action"]
    planned: Bool[Array, ""]
    best: Float[Array, "horizon action"]
    value: Float[Array, ""]


def _worst_if_not_finite(values: Float[Array, "candidates"]) -> Float[Array, "candidates"]:
    return jnp.where(jnp.isfinite(values), values, -jnp.inf)
