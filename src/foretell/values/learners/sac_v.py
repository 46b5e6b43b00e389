"""SAC as first published: a state-value function in addition to the critics, and a fixed temperature.

Haarnoja et al. 2018, "Soft actor-critic: off-policy maximum entropy deep reinforcement learning with a stochastic
actor", with the constants and the value expansion of the released MVE (Feinberg et al. 2018).
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key
from pydantic import Field, PositiveFloat

from foretell.nn import MLP, all_finite, step_if
from foretell.registry import register
from foretell.values.learners.networks import join, policy_output, predict
from foretell.values.learners.state import Actor, LearnerState, Metrics, StateValue, Visits
from foretell.values.learners.stochastic import Stochastic, squashed_log_density


@register("learner", "sac-v")
class SACV(Stochastic):
    """The policy is that of SAC. Targets use a state-value function, which is trained on critics and policy."""

    kind: str = "sac-v"
    target_tau: Annotated[float, Field(gt=0, le=1)] | None = 0.001
    mean_limit: PositiveFloat | None = 5.0
    temperature: PositiveFloat = 1.0
    """Weight of the entropy bonus."""
    reparameterized: bool = True
    """Gradient of the policy's loss: through the sampled action and the critics (true), or the score-function estimator
    (false)."""

    def init(self, key: Key[Array, ""], feature_size: int, action_size: int) -> LearnerState:
        """Untrained networks; the target networks equal the online ones."""
        sizes = (feature_size, *self.hidden, 1)
        value = self.network(jax.random.fold_in(key, 2), sizes, members=1)
        state = super().init(key, feature_size, action_size)
        return state._replace(state_value=StateValue(value, value, self.critic_optimizer.init(value)))

    def propose(
        self, state: LearnerState, features: Float[Array, "particles batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "particles batch action"], Float[Array, "particles batch"]]:
        """Samples of the online policy, and their entropy bonus."""
        action, log_density = self.sample(state.policy, features, key)
        return action, -self.temperature * log_density

    def target_values(
        self,
        state: LearnerState,
        features: Float[Array, "*rows features"],
        action: Float[Array, "*rows action"],
        bonus: Float[Array, "*rows"],
    ) -> Float[Array, "critics *rows"]:
        """The target value of the observation, less the bonus of the action, which targets add again."""
        assert state.state_value is not None
        return (policy_output(state.state_value.target, features)[..., 0] - bonus)[None]

    def policy_loss(
        self, actor: Actor, state: LearnerState, features: Float[Array, "batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The mean of `alpha log pi - Q + V` over sampled actions, or a loss with its score-function gradient."""
        assert state.state_value is not None
        mean, log_std = self.gaussian(actor.policy, features)
        u = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        if not self.reparameterized:
            u = jax.lax.stop_gradient(u)
        log_density = squashed_log_density(u, (u - mean) * jnp.exp(-log_std), log_std)
        baseline = policy_output(state.state_value.network, features)[:, 0]
        value = self.values(state.critics, features, jnp.tanh(u)).mean(0)
        loss = self.temperature * log_density - value + baseline
        surrogate = loss if self.reparameterized else log_density * jax.lax.stop_gradient(loss)
        return surrogate.mean(), {"policy_loss": loss.mean(), "entropy": -log_density.mean()}

    def value_loss(
        self,
        network: MLP,
        state: LearnerState,
        features: Float[Array, "batch features"],
        visits: Visits | None,
        key: Key[Array, ""],
    ) -> Float[Array, ""]:
        """Half the squared error of the state-value function, at real observations and, weighted, at visited ones."""
        action, bonus = self.propose(state, features[None], key)
        loss = self._value_error(network, state, features[None], action, bonus).mean()
        if visits is not None:
            error = self._value_error(network, state, visits.features, visits.action, visits.bonus)
            loss += (visits.weight * error.mean(1)).sum()
        return 0.5 * loss

    def update(
        self,
        state: LearnerState,
        key: Key[Array, ""],
        features: Float[Array, "sources particles batch features"],
        action: Float[Array, "sources particles batch action"],
        target: Float[Array, "sources batch"],
        weight: Float[Array, "sources batch"],
        visits: Visits | None = None,
    ) -> tuple[LearnerState, Metrics]:
        """As in the base; the state-value function takes a step from the old parameters too."""
        assert state.state_value is not None
        value, value_key = state.state_value, jax.random.fold_in(key, 3)
        learn = jax.value_and_grad(self.value_loss)
        loss, grads = learn(value.network, state, features[0, 0], visits, value_key)
        state, metrics = super().update(state, key, features, action, target, weight)
        network, opt = step_if(jnp.isfinite(loss), self.critic_optimizer, grads, value.network, value.opt)
        ok = all_finite(loss, grads)
        target_network = optax.incremental_update(network, value.target, self.target_share(self.target_tau, state))
        skipped = jnp.maximum(metrics["value_skipped"], 1.0 - ok)
        metrics = {**metrics, "value_loss": jnp.where(ok, loss, 0.0), "value_skipped": skipped}
        return state._replace(state_value=StateValue(network, target_network, opt)), metrics

    def _value_error(
        self,
        network: MLP,
        state: LearnerState,
        features: Float[Array, "*rows features"],
        action: Float[Array, "*rows action"],
        bonus: Float[Array, "*rows"],
    ) -> Float[Array, "*rows"]:
        """The squared difference between the state-value function and the soft value of actions there."""
        soft = predict(state.critics, self.to_all(join(features, action)), self.pair).min(1).mean(0) + bonus
        return jnp.square(policy_output(network, features)[..., 0] - jax.lax.stop_gradient(soft))
