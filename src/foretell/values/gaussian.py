"""Gaussian policies: a network gives the mean of the action; the standard deviations do not depend on the observation.

This is the policy of TRPO, and of the imitation of a planner that TRPO fine-tunes (Nagabandi et al. 2018, "Neural
network dynamics for model-based deep RL with model-free fine-tuning", arXiv:1708.02596). Actions are in units in which
the bounds are -1 and 1, but may lie beyond the bounds: densities are those of the sampled actions.
"""

import math
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field, PositiveInt

from foretell.nn import MLP, init_mlp
from foretell.nn.mlp import Activation
from foretell.settings import Settings
from foretell.values.learners.networks import policy_output


class GaussianState(NamedTuple):
    """The parameters of a policy."""

    network: MLP
    """From features to the mean of the action; one member."""
    log_std: Float[Array, "action"]
    """Logarithm of the standard deviation of each dimension of the action."""


class GaussianPolicy(Settings):
    """A Gaussian policy (section `policy`). Its methods are pure functions of a `GaussianState`."""

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 64)
    """Widths of the hidden layers (Nagabandi et al.)."""
    activation: Activation = "tanh"
    """Activation function of the hidden layers (Nagabandi et al.)."""
    initial_std: Annotated[float, Field(ge=1e-6)] = 1.0
    """Initial standard deviation of every dimension, in units in which the bounds are -1 and 1. Nagabandi et al.: 1.0
    in the paper; in their scripts, after imitation, 0.5 for the cheetah and the ant, 1.0 for the others."""
    learn_std: bool = True
    """Learn the standard deviations, as the code of Nagabandi et al. does; their paper calls them fixed."""

    def init(self, key: Key[Array, ""], feature_size: int, action_size: int) -> GaussianState:
        """An untrained policy: Glorot's uniform weights, as in rllab."""
        sizes = (feature_size, *self.hidden, action_size)
        network = init_mlp(key, sizes, members=1, activation=self.activation, initializer="glorot")
        return GaussianState(network, jnp.full(action_size, math.log(self.initial_std), jnp.float32))

    def mean(self, state: GaussianState, features: Float[Array, "*rows features"]) -> Float[Array, "*rows action"]:
        """The greedy actions, not clipped to the bounds."""
        return policy_output(state.network, features)

    def sample(
        self, state: GaussianState, features: Float[Array, "*rows features"], key: Key[Array, ""]
    ) -> Float[Array, "*rows action"]:
        """Actions drawn from the policy, not clipped to the bounds."""
        mean = self.mean(state, features)
        return mean + jnp.exp(state.log_std) * jax.random.normal(key, mean.shape)

    def log_prob(
        self, state: GaussianState, features: Float[Array, "*rows features"], action: Float[Array, "*rows action"]
    ) -> Float[Array, "*rows"]:
        """Logarithm of the density of sampled actions, before they are clipped to the bounds."""
        log_std = self._log_std(state)
        z = (action - self.mean(state, features)) * jnp.exp(-log_std)
        return (-0.5 * jnp.square(z) - log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)

    def kl(
        self, old: GaussianState, new: GaussianState, features: Float[Array, "*rows features"]
    ) -> Float[Array, "*rows"]:
        """Kullback-Leibler divergence KL(old, new) of the action distributions, in nats."""
        before, after = self._log_std(old), self._log_std(new)
        shift = self.mean(old, features) - self.mean(new, features)
        spread = 0.5 * (jnp.exp(2.0 * (before - after)) + jnp.square(shift * jnp.exp(-after)) - 1.0)
        return (after - before + spread).sum(-1)

    def entropy(self, state: GaussianState) -> Float[Array, ""]:
        """Entropy of an action, in nats; it does not depend on the observation."""
        return (state.log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum()

    def _log_std(self, state: GaussianState) -> Float[Array, "action"]:
        """The log-std, without a gradient where it is not learned, so that no optimiser moves it."""
        return state.log_std if self.learn_std else jax.lax.stop_gradient(state.log_std)
