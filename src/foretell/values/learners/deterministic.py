"""What learners of deterministic policies share: the action is `tanh` of the policy's output, and noise explores."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import NonNegativeFloat

from foretell.nn import MLP
from foretell.values.learners.base import Learner
from foretell.values.learners.networks import policy_output
from foretell.values.learners.parameter_noise import ParameterNoise
from foretell.values.learners.state import LearnerState, Metrics


class Deterministic(Learner):
    """An actor-critic learner whose policy is a function."""

    noise_std: NonNegativeFloat = 0.0
    """Standard deviation of the exploration noise on actions, in units in which the bounds are -1 and 1. The sum is
    clipped to the bounds."""
    parameter_noise: ParameterNoise | None = None
    """Explore by noise on the policy's parameters too (MVE); null: by noise on actions only."""

    def act(
        self, policy: MLP, features: Float[Array, "rows features"], key: Key[Array, ""], *, explore: bool
    ) -> Float[Array, "rows action"]:
        """Actions to execute; with `explore`, noise is added."""
        action = jnp.tanh(policy_output(policy, features))
        if not explore or not self.noise_std:
            return action
        return jnp.clip(action + self.noise_std * jax.random.normal(key, action.shape), -1.0, 1.0)

    def init(self, key: Key[Array, ""], feature_size: int, action_size: int) -> LearnerState:
        """Untrained networks; the exploring policy is the first one with noise."""
        state = super().init(key, feature_size, action_size)
        if self.parameter_noise is None:
            return state
        return state._replace(explorer=self.parameter_noise.init(jax.random.fold_in(key, 2), state.policy))

    def explorer(self, state: LearnerState) -> MLP | None:
        """The policy with noise on its parameters, if there is one."""
        return None if state.explorer is None else state.explorer.policy

    def after_update(
        self, state: LearnerState, features: Float[Array, "batch features"], key: Key[Array, ""]
    ) -> tuple[LearnerState, Metrics]:
        """With a new exploring policy, if there is one."""
        if self.parameter_noise is None:
            return state, {}

        def act(policy: MLP) -> Float[Array, "batch action"]:
            return jnp.tanh(policy_output(policy, features))

        explorer, metrics = self.parameter_noise.renew(key, state.explorer, state.policy, act)
        return state._replace(explorer=explorer), metrics
