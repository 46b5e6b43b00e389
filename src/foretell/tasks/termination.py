"""When Gymnasium's robots end an episode, as functions of an imagined step: `task.terminated` of a preset names them.

They read heights and angles at the first places of observations that leave out the root's horizontal position, as those
of the versions v4 and v5 do, with the healthy ranges that these versions have by default. A next observation that is
not finite ends the episode. The functions are those of MBPO (Janner et al. 2019), whose hopper lets velocities below
-100 pass, and whose humanoid goes on where an observation is not a number.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Obs = Float[Array, "*rows obs"]
Action = Float[Array, "*rows action"]
Ends = Bool[Array, "*rows"]

_FASTEST = 100.0
"""Largest entry of a healthy hopper's state, apart from its height."""


def hopper(obs: Obs, action: Action, next_obs: Obs) -> Ends:
    """Hopper: below 0.7 m, leaning by 0.2 rad, or with an entry of its state beyond 100."""
    del obs, action
    calm = (jnp.abs(next_obs[..., 1:]) < _FASTEST).all(-1)
    return ~(_finite(next_obs) & calm & (next_obs[..., 0] > 0.7) & (jnp.abs(next_obs[..., 1]) < 0.2))


def walker2d(obs: Obs, action: Action, next_obs: Obs) -> Ends:
    """Walker2d: outside 0.8 to 2 m, or leaning by 1 rad."""
    del obs, action
    height, angle = next_obs[..., 0], next_obs[..., 1]
    return ~(_finite(next_obs) & (height > 0.8) & (height < 2.0) & (jnp.abs(angle) < 1.0))


def ant(obs: Obs, action: Action, next_obs: Obs) -> Ends:
    """Ant: outside 0.2 to 1 m."""
    del obs, action
    return ~(_finite(next_obs) & (next_obs[..., 0] >= 0.2) & (next_obs[..., 0] <= 1.0))


def humanoid(obs: Obs, action: Action, next_obs: Obs) -> Ends:
    """Humanoid: outside 1 to 2 m, bounds excluded."""
    del obs, action
    return ~(_finite(next_obs) & (next_obs[..., 0] > 1.0) & (next_obs[..., 0] < 2.0))


def inverted_pendulum(obs: Obs, action: Action, next_obs: Obs) -> Ends:
    """InvertedPendulum: more than 0.2 rad from upright."""
    del obs, action
    return ~(_finite(next_obs) & (jnp.abs(next_obs[..., 1]) <= 0.2))


def inverted_double_pendulum(obs: Obs, action: Action, next_obs: Obs) -> Ends:
    """InvertedDoublePendulum: the tip at 1 m or below."""
    del obs, action
    first, second = (jnp.arctan2(next_obs[..., i], next_obs[..., i + 2]) for i in (1, 2))
    height = 0.6 * (next_obs[..., 3] + jnp.cos(first + second))
    return ~(_finite(next_obs) & (height > 1.0))


def _finite(obs: Obs) -> Ends:
    return jnp.isfinite(obs).all(-1)
