"""SAC: a stochastic policy with an entropy bonus, whose temperature is learned.

Haarnoja et al. 2018, "Soft actor-critic algorithms and applications".
"""

import math
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field, PositiveFloat, model_validator

from foretell.nn import MLP
from foretell.registry import register
from foretell.values.learners.base import Actor, Learner, LearnerState, Metrics
from foretell.values.learners.networks import join, policy_output, predict


@register("learner", "sac")
class SAC(Learner):
    """The action is `tanh(u)`, with `u` from a diagonal Gaussian. The policy's outputs are means, then log-stds."""

    pair: ClassVar[int] = 2
    policy_outputs: ClassVar[int] = 2

    kind: str = "sac"
    target_tau: Annotated[float, Field(gt=0, le=1)] | None = 0.005
    initial_temperature: PositiveFloat = 1.0
    """Initial weight of the entropy bonus."""
    target_entropy: float | None = None
    """Mean entropy of an action, in nats, at which the temperature aims; null: minus the dimensions of the action."""
    log_std_range: tuple[float, float] = (-20.0, 2.0)
    """Log-stds are clipped to this."""

    @model_validator(mode="after")
    def _check(self) -> "SAC":
        if self.log_std_range[0] >= self.log_std_range[1]:
            raise ValueError(f"log_std_range must be (low, high) with low < high, not {self.log_std_range}")
        return self

    def initial_log_alpha(self) -> Float[Array, ""]:
        return math.log(self.initial_temperature) * jnp.ones(())

    def act(
        self, policy: MLP, features: Float[Array, "rows features"], key: Key[Array, ""], *, explore: bool
    ) -> Float[Array, "rows action"]:
        """Actions to execute: samples with `explore`, else the greedy `tanh(mean)`."""
        return self._sample(policy, features, key)[0] if explore else jnp.tanh(self._gaussian(policy, features)[0])

    def propose(
        self, state: LearnerState, features: Float[Array, "particles batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "particles batch action"], Float[Array, "particles batch"]]:
        """Samples of the online policy, and their entropy bonus `-alpha log pi`."""
        assert state.log_alpha is not None
        action, log_density = self._sample(state.policy, features, key)
        return action, -jnp.exp(state.log_alpha) * log_density

    def policy_loss(
        self, actor: Actor, critics: MLP, features: Float[Array, "batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Minus the mean soft value of sampled actions (the metric `policy_loss`), plus the loss of the temperature."""
        assert actor.log_alpha is not None
        action, log_density = self._sample(actor.policy, features, key)
        value = predict(critics, self._to_all(join(features, action)), self.pair).min(1).mean(0)
        alpha, entropy = jax.lax.stop_gradient(jnp.exp(actor.log_alpha)), -log_density.mean()
        loss = -alpha * entropy - value.mean()
        wanted = -action.shape[-1] if self.target_entropy is None else self.target_entropy
        temperature_loss = actor.log_alpha * (jax.lax.stop_gradient(entropy) - wanted)
        return loss + temperature_loss, {"policy_loss": loss, "alpha": alpha, "entropy": entropy}

    def _gaussian(
        self, policy: MLP, features: Float[Array, "*rows features"]
    ) -> tuple[Float[Array, "*rows action"], Float[Array, "*rows action"]]:
        """Mean and log-std of `u`."""
        mean, log_std = jnp.split(policy_output(policy, features), 2, -1)
        return mean, jnp.clip(log_std, *self.log_std_range)

    def _sample(
        self, policy: MLP, features: Float[Array, "*rows features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "*rows action"], Float[Array, "*rows"]]:
        """Actions, and their log-densities."""
        mean, log_std = self._gaussian(policy, features)
        z = jax.random.normal(key, mean.shape)
        u = mean + jnp.exp(log_std) * z
        return jnp.tanh(u), squashed_log_density(u, z, log_std)


def squashed_log_density(
    u: Float[Array, "*rows action"], z: Float[Array, "*rows action"], log_std: Float[Array, "*rows action"]
) -> Float[Array, "*rows"]:
    """Log-density of the action `tanh(u)` (Haarnoja et al. 2018, appendix C).

    Args:
        u: a sample of a diagonal Gaussian.
        z: the distance of `u` from the Gaussian's mean, in standard deviations.
        log_std: logarithm of the standard deviations.
    """
    gaussian = -0.5 * jnp.square(z) - log_std - 0.5 * math.log(2.0 * math.pi)
    # log(1 - tanh(u)^2), in a form that stays finite where tanh(u) rounds to 1.
    slope = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
    return (gaussian - slope).sum(-1)
