"""The base of all planners, which search for the action sequence of highest return, from a warm start."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from foretell.planning.sampling import clipped_coloured, released_scale, truncated_normal
from foretell.settings import Settings

Objective = Callable[[Key[Array, ""], Float[Array, "candidates horizon action"]], Float[Array, "candidates"]]
"""(key, action sequences in the environment's units) -> estimated returns; those that are not finite count as worst."""
WarmStart = Any
"""What is carried from one plan to the next, some time steps later: a pytree of arrays."""


class Bounds(NamedTuple):
    """The lowest and the highest action, in the environment's units."""

    low: Float[Array, "action"]
    high: Float[Array, "action"]

    @property
    def middle(self) -> Float[Array, "action"]:
        return 0.5 * (self.low + self.high)


class Plan(NamedTuple):
    """The result of a search."""

    actions: Float[Array, "horizon action"]
    """In the environment's units."""
    warm_start: WarmStart
    """For the next plan, already shifted in time."""
    value: Float[Array, ""]
    """Estimated return of the best candidate of the last iteration."""


class Planner(Settings):
    """Receding-horizon planning. Subclasses define how they search."""

    kind: str
    horizon: PositiveInt = 25
    """Steps planned ahead."""
    replan_every: PositiveInt = 1
    """Steps of a plan that are executed before the next plan is made."""
    population: PositiveInt = 400
    """Candidate action sequences in each iteration."""
    iterations: PositiveInt = 5
    """Iterations of the search for each plan, each with a new population."""

    def begin(self, bounds: Bounds) -> WarmStart:
        """The warm start at the beginning of an episode."""
        raise NotImplementedError

    def plan(self, key: Key[Array, ""], objective: Objective, warm_start: WarmStart, bounds: Bounds) -> Plan:
        """Search for the action sequence of highest return. Pure, and can be compiled and batched by `vmap`.

        Args:
            key: for the search's noise.
            objective: the estimated return of candidates `[candidates, horizon, action]`.
            warm_start: from `begin`, or from the previous plan of the episode.
            bounds: the lowest and the highest action.

        Returns:
            The plan, within the bounds, and the warm start of the next one, `replan_every` steps later.
        """
        raise NotImplementedError

    @model_validator(mode="after")
    def _check_horizon(self) -> "Planner":
        if self.replan_every > self.horizon:
            raise ValueError(f"replan_every ({self.replan_every}) must not exceed horizon ({self.horizon})")
        return self


class Refiner(Planner):
    """A planner that moves a Gaussian over action sequences towards the best candidates, iteration by iteration."""

    initial_std: PositiveFloat = 0.25
    """Standard deviation at the start of every plan, as a share of the action range."""
    noise: Literal["truncated", "coloured"] = "truncated"
    """White noise from a truncated normal distribution (PETS), or clipped noise correlated in time (iCEM)."""
    noise_exponent: NonNegativeFloat = 2.0
    """Exponent of `coloured` noise: its power falls with the frequency `f` as `1 / f^exponent`."""
    noise_scale: Literal["unit", "released"] = "unit"
    """Standard deviation of `coloured` noise, in units of the wanted one: 1 (`unit`), or that of the generator that the
    released iCEM uses, which is 1.03 to 1.19 for usual horizons and exponents (`released`)."""
    mean_candidate: bool | Literal["last"] = False
    """Make the mean itself a candidate, in place of one sample: in every iteration (true), or in the last one alone
    (`last`: iCEM)."""
    fill: Literal["midpoint", "zero", "last"] = "midpoint"
    """New actions at the end of the shifted warm start: the middle of the action range, 0 (the released PETS code), or
    the last action once more (iCEM)."""

    def first_mean(self, bounds: Bounds) -> Float[Array, "horizon action"]:
        """The middle of the action range."""
        return jnp.broadcast_to(bounds.middle, (self.horizon, len(bounds.low)))

    def first_variance(self, bounds: Bounds) -> Float[Array, "horizon action"]:
        """The variance at the start of every plan, in squared units of the actions."""
        variance = jnp.square(self.initial_std * (bounds.high - bounds.low))
        return jnp.broadcast_to(variance, (self.horizon, len(bounds.low)))

    def samples(
        self,
        key: Key[Array, ""],
        count: int,
        mean: Float[Array, "horizon action"],
        variance: Float[Array, "horizon action"],
        bounds: Bounds,
    ) -> Float[Array, "count horizon action"]:
        """`count` action sequences drawn from the Gaussian, within the bounds."""
        std = jnp.sqrt(variance)
        if self.noise == "coloured":
            scale = 1.0 if self.noise_scale == "unit" else released_scale(self.horizon, self.noise_exponent)
            return clipped_coloured(key, count, mean, scale * std, *bounds, exponent=self.noise_exponent)
        return truncated_normal(key, count, mean, std, *bounds)

    def with_mean(
        self,
        candidates: Float[Array, "count horizon action"],
        place: int,
        mean: Float[Array, "horizon action"],
        iteration: Int[Array, ""] | int,
    ) -> Float[Array, "count horizon action"]:
        """The candidates, the one in this place replaced by the mean where `mean_candidate` says so."""
        if not self.mean_candidate:
            return candidates
        now = self.mean_candidate is True or iteration == self.iterations - 1
        return candidates.at[place].set(jnp.where(now, mean, candidates[place]))

    def shift(self, actions: Float[Array, "*n horizon action"], bounds: Bounds) -> Float[Array, "*n horizon action"]:
        """Action sequences shifted by the `replan_every` steps until the next plan; the end is filled, see `fill`."""
        fill = {"midpoint": bounds.middle, "zero": jnp.clip(0.0, *bounds), "last": actions[..., -1:, :]}[self.fill]
        last = jnp.broadcast_to(fill, (*actions.shape[:-2], self.replan_every, actions.shape[-1]))
        return jnp.concatenate([actions[..., self.replan_every :, :], last], -2)


Share = Annotated[float, Field(ge=0, lt=1)]


def worst_if_not_finite(values: Float[Array, "candidates"]) -> Float[Array, "candidates"]:
    """The values, with minus infinity in place of those that are not finite."""
    return jnp.where(jnp.isfinite(values), values, -jnp.inf)
