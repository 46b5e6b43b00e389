"""SAC: a stochastic policy with an entropy bonus, whose temperature is learned.

Haarnoja et al. 2018, "Soft actor-critic algorithms and applications".
"""

import math
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field, PositiveFloat

from foretell.registry import register
from foretell.values.learners.state import Actor, LearnerState, Metrics
from foretell.values.learners.stochastic import Stochastic


@register("learner", "sac")
class SAC(Stochastic):
    """The action is `tanh(u)`, with `u` from a diagonal Gaussian. The policy's outputs are means, then log-stds."""

    pair: ClassVar[int] = 2

    kind: str = "sac"
    target_tau: Annotated[float, Field(gt=0, le=1)] | None = 0.005
    initial_temperature: PositiveFloat = 1.0
    """Initial weight of the entropy bonus."""
    target_entropy: float | None = None
    """Mean entropy of an action, in nats, to which the temperature is adapted; null: minus the number of dimensions of
    the action."""

    def initial_log_alpha(self) -> Float[Array, ""]:
        return math.log(self.initial_temperature) * jnp.ones(())

    def propose(
        self, state: LearnerState, features: Float[Array, "particles batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "particles batch action"], Float[Array, "particles batch"]]:
        """Samples of the online policy, and their entropy bonus `-alpha log pi`."""
        assert state.log_alpha is not None
        action, log_density = self.sample(state.policy, features, key)
        return action, -jnp.exp(state.log_alpha) * log_density

    def policy_loss(
        self, actor: Actor, state: LearnerState, features: Float[Array, "batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Minus the mean soft value of sampled actions (the metric `policy_loss`), plus the loss of the temperature."""
        assert actor.log_alpha is not None
        action, log_density = self.sample(actor.policy, features, key)
        value = self.policy_value(state, features, action)
        alpha, entropy = jax.lax.stop_gradient(jnp.exp(actor.log_alpha)), -log_density.mean()
        loss = -alpha * entropy - value.mean()
        temperature_loss = self.temperature_loss(actor.log_alpha, entropy, action.shape[-1])
        return loss + temperature_loss, {"policy_loss": loss, "alpha": alpha, "entropy": entropy}

    def temperature_loss(
        self, log_alpha: Float[Array, ""], entropy: Float[Array, ""], action_size: int
    ) -> Float[Array, ""]:
        """A loss whose gradient adapts the temperature to the mean entropy of the policy's actions."""
        wanted = -action_size if self.target_entropy is None else self.target_entropy
        return log_alpha * (jax.lax.stop_gradient(entropy) - wanted)
