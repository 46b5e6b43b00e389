"""rllab's baseline: returns as a linear function of features of the observation and of the time within the episode.

Duan, Chen, Houthooft, Schulman, Abbeel: "Benchmarking deep reinforcement learning for continuous control", ICML 2016.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_CLIP = 10.0
"""Features are clipped to plus and minus this (rllab)."""
_TIME_UNIT = 100.0
"""Unit of the time within an episode, in steps (rllab)."""


def regressors(features: Float[Array, "*rows features"], time: Int[Array, "*rows"]) -> Float[Array, "*rows regressors"]:
    """Clipped features, their squares, the powers 1 to 3 of the time within the episode, and 1."""
    clipped = jnp.clip(features, -_CLIP, _CLIP)
    t = (time / _TIME_UNIT)[..., None]
    return jnp.concatenate([clipped, jnp.square(clipped), t, t**2, t**3, jnp.ones_like(t)], -1)


def zero_weights(feature_size: int) -> Float[Array, "regressors"]:
    """Weights of the baseline before the first iteration: its value is 0."""
    return jnp.zeros(2 * feature_size + 4)


def fitted(
    x: Float[Array, "rows regressors"], returns: Float[Array, "rows"], ridge: float
) -> Float[Array, "regressors"]:
    """Ridge regression: weights with the least sum of squared errors plus `ridge` times the squared weights.

    It uses a QR decomposition of the regressors with the ridge below them. The normal equations, which rllab solves in
    double precision, are too badly conditioned for single precision.
    """
    count = x.shape[1]
    q, r = jnp.linalg.qr(jnp.concatenate([x, ridge**0.5 * jnp.eye(count)]))
    return jax.scipy.linalg.solve_triangular(r, q[: len(x)].T @ returns)
