"""TD3: pairs of networks against overestimation, a delayed policy, and targets smoothed over actions.

Fujimoto et al. 2018, "Addressing function approximation error in actor-critic methods".
"""

from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field, NonNegativeFloat, PositiveInt

from foretell.registry import register
from foretell.values.learners.deterministic import Deterministic
from foretell.values.learners.networks import join, policy_output, predict
from foretell.values.learners.state import Actor, LearnerState, Metrics


@register("learner", "td3")
class TD3(Deterministic):
    """The action is `tanh` of the policy's output; there is a target policy."""

    pair: ClassVar[int] = 2

    kind: str = "td3"
    policy_delay: PositiveInt = 2
    target_tau: Annotated[float, Field(gt=0, le=1)] | None = 0.005
    noise_std: NonNegativeFloat = 0.1
    smoothing_std: NonNegativeFloat = 0.2
    """Standard deviation of the noise added to the target policy's actions."""
    smoothing_clip: NonNegativeFloat = 0.5
    """The smoothing noise is clipped to plus and minus this; then the action is clipped to the bounds."""

    @property
    def has_target_policy(self) -> bool:
        return True

    def propose(
        self, state: LearnerState, features: Float[Array, "particles batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "particles batch action"], Float[Array, "particles batch"]]:
        """The target policy's actions with clipped noise; there is no entropy bonus."""
        assert state.target_policy is not None
        action = jnp.tanh(policy_output(state.target_policy, features))
        noise = self.smoothing_std * jax.random.normal(key, action.shape)
        action = jnp.clip(action + jnp.clip(noise, -self.smoothing_clip, self.smoothing_clip), -1.0, 1.0)
        return action, jnp.zeros(features.shape[:-1])

    def policy_loss(
        self, actor: Actor, state: LearnerState, features: Float[Array, "batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Minus the mean value of the greedy actions, by the first network of each critic."""
        del key
        x = join(features, jnp.tanh(policy_output(actor.policy, features)))
        firsts = jax.tree.map(lambda a: a[:: self.pair], state.critics)
        loss = -predict(firsts, self.to_all(x), 1).mean()
        return loss, {"policy_loss": loss}
