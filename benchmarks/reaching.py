"""What is known of `Reacher-v5`: its reward, for `--reward`."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def distance_and_effort(
    obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"], next_obs: Float[Array, "*rows obs"]
) -> Float[Array, "*rows"]:
    """Minus the distance of fingertip and target (m), the last two numbers, and minus the square of the action."""
    del obs
    return -jnp.linalg.norm(next_obs[..., -2:], axis=-1) - jnp.square(action).sum(-1)
