"""What actor-critic learners learn, as trees of arrays."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from foretell.nn import MLP

Metrics = dict[str, Float[Array, ""]]


class Actor(NamedTuple):
    """The parameters that the policy's optimiser trains."""

    policy: MLP
    log_alpha: Float[Array, ""] | None
    """Logarithm of the temperature (SAC)."""


class StateValue(NamedTuple):
    """A state-value function, learned in addition to the critics (SAC of 2018)."""

    network: MLP
    target: MLP
    opt: optax.OptState


class ValueRange(NamedTuple):
    """Between which numbers values are expected, in the units of values."""

    low: Float[Array, ""]
    high: Float[Array, ""]
    known: Bool[Array, ""]
    """Whether it was ever measured; before, it is arbitrary."""

    @property
    def centre(self) -> Float[Array, ""]:
        return 0.5 * (self.high + self.low)

    @property
    def width(self) -> Float[Array, ""]:
        """Half of the distance between the two."""
        return jnp.maximum(0.5 * (self.high - self.low), 1e-6)

    def value(self, output: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """The value that an output of a network stands for."""
        return self.centre + self.width * output

    def output(self, value: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """The inverse of `value`."""
        return (value - self.centre) / self.width


class Visits(NamedTuple):
    """Where imagination went: the observations of all frames, with the TD-k trick."""

    features: Float[Array, "frames particles batch features"]
    action: Float[Array, "frames particles batch action"]
    """The policy's, in [-1, 1]."""
    bonus: Float[Array, "frames particles batch"]
    """Entropy bonus of the action."""
    weight: Float[Array, "frames batch"]


class LearnerState(NamedTuple):
    """What is learned. Member `pair * k + j` of the critics' networks is network `j` of critic `k`."""

    policy: MLP
    critics: MLP
    target_critics: MLP
    target_policy: MLP | None
    """Follows the policy as the target critics follow the critics (TD3, MVE)."""
    log_alpha: Float[Array, ""] | None
    """Logarithm of the temperature (SAC)."""
    policy_opt: optax.OptState
    critic_opt: optax.OptState
    updates: Int[Array, ""]
    """Updates so far, skipped ones included."""
    explorer: Any = None
    """The policy that explores, with what it needs, where that is another than the greedy one."""
    state_value: StateValue | None = None
    """The state-value function, if one is learned."""
    value_range: ValueRange | None = None
    """The scale of the critics' outputs, where that is adapted."""
