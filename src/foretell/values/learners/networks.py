"""The networks of actors and critics, applied to batches of any shape."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from foretell.nn import MLP


def join(
    features: Float[Array, "*rows features"], action: Float[Array, "*rows action"]
) -> Float[Array, "*rows features+action"]:
    """The critics' inputs."""
    return jnp.concatenate([features, action], -1)


def predict(critics: MLP, x: Float[Array, "critics *rows in"], pair: int) -> Float[Array, "critics pair *rows"]:
    """Outputs of each network of each critic on that critic's rows; a critic has `pair` networks."""
    rows = x.reshape(len(x), -1, x.shape[-1])
    return critics(jnp.repeat(rows, pair, 0)).reshape(len(x), pair, *x.shape[1:-1])


def policy_output(policy: MLP, features: Float[Array, "*rows features"]) -> Float[Array, "*rows out"]:
    """The policy's output before it is squashed."""
    return policy(features.reshape(1, -1, features.shape[-1])).reshape(*features.shape[:-1], -1)
