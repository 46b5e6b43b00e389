"""DDPG: a deterministic policy, and one network for each critic.

Lillicrap et al. 2016, "Continuous control with deep reinforcement learning"; as in STEVE (Buckman et al. 2018), or with
a target policy, layer norm and noise on parameters as in MVE (Feinberg et al. 2018).
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field, NonNegativeFloat

from foretell.nn import MLP
from foretell.registry import register
from foretell.values.learners.deterministic import Deterministic
from foretell.values.learners.networks import join, policy_output, predict
from foretell.values.learners.state import Actor, LearnerState, Metrics


@register("learner", "ddpg")
class DDPG(Deterministic):
    """The action is `tanh(u)` of the policy's output `u`. The defaults are STEVE's, with a single critic."""

    kind: str = "ddpg"
    explore_probability: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Probability that exploration adds noise to a dimension of `u`, the policy's output before `tanh`. In the released
    STEVE it is effectively 0."""
    explore_std: NonNegativeFloat = 1.0
    """Standard deviation of that noise."""
    target_policy: bool = False
    """Choose the actions in targets by a target policy, which follows the policy as the target critics follow the
    critics (true: Lillicrap et al., MVE), or by the policy itself (false: STEVE)."""
    policy_regularizer: NonNegativeFloat = 0.001
    """Weight of the mean of `u^2` in the policy's loss. It keeps `tanh` from saturating."""

    @property
    def has_target_policy(self) -> bool:
        return self.target_policy

    def act(
        self, policy: MLP, features: Float[Array, "rows features"], key: Key[Array, ""], *, explore: bool
    ) -> Float[Array, "rows action"]:
        """Actions to execute; with `explore`, noise is added."""
        u = policy_output(policy, features)
        if not explore:
            return jnp.tanh(u)
        chance_key, inner_key, outer_key = jax.random.split(key, 3)
        chosen = jax.random.bernoulli(chance_key, self.explore_probability, u.shape)
        u = jnp.where(chosen, u + self.explore_std * jax.random.normal(inner_key, u.shape), u)
        return jnp.clip(jnp.tanh(u) + self.noise_std * jax.random.normal(outer_key, u.shape), -1.0, 1.0)

    def propose(
        self, state: LearnerState, features: Float[Array, "particles batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "particles batch action"], Float[Array, "particles batch"]]:
        """Greedy actions of the target policy, if there is one; there is no entropy bonus."""
        del key
        policy = state.policy if state.target_policy is None else state.target_policy
        return jnp.tanh(policy_output(policy, features)), jnp.zeros(features.shape[:-1])

    def policy_loss(
        self, actor: Actor, state: LearnerState, features: Float[Array, "batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Minus the mean value of the greedy actions (the metric `policy_loss`), plus the regulariser."""
        del key
        u = policy_output(actor.policy, features)
        loss = -predict(state.critics, self.to_all(join(features, jnp.tanh(u))), self.pair).mean()
        regularizer = self.policy_regularizer * jnp.square(u).mean()
        return loss + regularizer, {"policy_loss": loss, "policy_regularizer": regularizer}
