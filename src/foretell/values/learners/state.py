"""What actor-critic learners learn, as trees of arrays."""

from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Float, Int

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
