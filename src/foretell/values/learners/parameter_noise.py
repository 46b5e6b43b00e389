"""Exploration by noise on a policy's parameters, whose scale adapts to the noise that it makes in actions.

Plappert et al. 2018, "Parameter space noise for exploration"; the constants are those of the released MVE (Feinberg et
al. 2018).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from pydantic import Field, PositiveFloat, PositiveInt

from foretell.nn import MLP
from foretell.settings import Settings

Metrics = dict[str, Float[Array, ""]]


class Perturbed(NamedTuple):
    """A policy with noise on its parameters, and what adapts the noise."""

    policy: MLP
    std: Float[Array, ""]
    """Standard deviation of the noise."""
    distance: Float[Array, ""]
    """Sum of the distances in action space since the last adaptation."""
    measured: Int[Array, ""]
    """Number of these distances."""


class ParameterNoise(Settings):
    """Exploration by noise on the policy's parameters, whose standard deviation adapts to a target."""

    target: PositiveFloat = 0.2
    """Desired root mean square difference of exploring and greedy actions on a minibatch, as a share of the action
    range. A share of 0.2 is 0.4 in units in which the bounds are -1 and 1."""
    adapt_every: PositiveInt = 50
    """Updates between two adaptations of the noise, each of which uses the mean difference since the previous one."""
    factor: Annotated[float, Field(gt=1)] = 1.01
    """Factor by which an adaptation multiplies or divides the standard deviation of the noise."""

    def init(self, key: Key[Array, ""], policy: MLP) -> Perturbed:
        """The first exploring policy. The noise starts at `target` over the number of layers."""
        std = jnp.asarray(self.target / len(policy.weights), jnp.float32)
        return Perturbed(perturbed(key, policy, std), std, jnp.zeros(()), jnp.zeros((), jnp.int32))

    def renew(
        self, key: Key[Array, ""], last: Perturbed, policy: MLP, act: Callable[[MLP], Float[Array, "rows action"]]
    ) -> tuple[Perturbed, Metrics]:
        """A new exploring policy around the newest greedy one, and the noise adapted when that is due.

        Args:
            key: for the noise.
            last: the exploring policy before.
            policy: the greedy policy.
            act: the actions of a policy on a minibatch, in [-1, 1].

        Returns:
            The exploring policy, and metrics: `action_noise`, its distance from the greedy policy on the minibatch,
            and `parameter_noise`, the standard deviation.
        """
        explorer = perturbed(key, policy, last.std)
        distance = 0.5 * jnp.sqrt(jnp.square(act(explorer) - act(policy)).mean())
        total, measured = last.distance + distance, last.measured + 1
        due = measured == self.adapt_every
        adapted = jnp.where(total / measured < self.target, last.std * self.factor, last.std / self.factor)
        std = jnp.where(due, adapted, last.std)
        state = Perturbed(explorer, std, jnp.where(due, 0.0, total), jnp.where(due, 0, measured))
        return state, {"action_noise": distance, "parameter_noise": std}


def perturbed(key: Key[Array, ""], policy: MLP, std: Float[Array, ""]) -> MLP:
    """The policy with normal noise on all weights and biases, but not on the gains and shifts of layer norms."""
    leaves, tree = jax.tree.flatten((policy.weights, policy.biases))
    keys = jax.random.split(key, len(leaves))
    noisy = [leaf + std * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    weights, biases = jax.tree.unflatten(tree, noisy)
    return replace(policy, weights=weights, biases=biases)
