"""What is known of `InvertedPendulum-v5`: an example of the functions that `--reward` and `--terminated` take."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def centred(
    obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"], next_obs: Float[Array, "*rows obs"]
) -> Float[Array, "*rows"]:
    """1 for each step, less ten times the square of the pole's angle (rad) and the square of the cart's place (m)."""
    del obs, action
    place, angle = next_obs[..., 0], next_obs[..., 1]
    return 1.0 - 10.0 * angle**2 - place**2


def fallen(
    obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"], next_obs: Float[Array, "*rows obs"]
) -> Bool[Array, "*rows"]:
    """Whether the pole leans by more than 0.2 rad, which ends an episode."""
    del obs, action
    return jnp.abs(next_obs[..., 1]) > 0.2
