"""Random action sequences: truncated normal (PETS) or coloured noise (iCEM)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key


def truncated_normal(
    key: Key[Array, ""],
    count: int,
    mean: Float[Array, "horizon action"],
    std: Float[Array, "horizon action"],
    low: Float[Array, "action"],
    high: Float[Array, "action"],
) -> Float[Array, "count horizon action"]:
    """Samples of a normal distribution truncated at two standard deviations (the released PETS code).

    The standard deviation is first reduced so that no sample leaves the bounds:
    `std <- min(std, (mean - low) / 2, (high - mean) / 2)`. The truncation leaves 0.8796 of it.

    Args:
        key: for the draws.
        count: number of action sequences.
        mean: of the sequences, within the bounds.
        std: wanted standard deviation.
        low: the lowest action.
        high: the highest action.
    """
    std = jnp.minimum(std, 0.5 * jnp.minimum(mean - low, high - mean))
    return mean + std * jax.random.truncated_normal(key, -2.0, 2.0, (count, *mean.shape))


def clipped_coloured(
    key: Key[Array, ""],
    count: int,
    mean: Float[Array, "horizon action"],
    std: Float[Array, "horizon action"],
    low: Float[Array, "action"],
    high: Float[Array, "action"],
    *,
    exponent: float,
) -> Float[Array, "count horizon action"]:
    """Normal samples correlated in time, clipped to the bounds (Pinneri et al. 2020, iCEM, section 3.1).

    Args:
        key: for the draws.
        count: number of action sequences.
        mean: of the sequences.
        std: standard deviation before clipping.
        low: the lowest action.
        high: the highest action.
        exponent: the power of the noise falls with frequency as `1 / f^exponent`; 0 is white noise.
    """
    horizon, action = mean.shape
    white = jax.random.normal(key, (count, horizon, action))
    noise = jnp.einsum("nta,ts->nsa", white, colouring(horizon, exponent))
    return jnp.clip(mean + std * noise, low, high)


def colouring(horizon: int, exponent: float) -> np.ndarray:
    """The `[horizon, horizon]` matrix that turns rows of unit white noise into unit coloured noise.

    The method of Timmer and Koenig (1995), random Fourier coefficients scaled by frequency, is linear in its normal
    draws; this is its matrix, which saves the transform. Every column has norm 1: unit variance at every time.
    """
    frequencies = np.fft.rfftfreq(horizon)
    frequencies[0] = 1.0 / horizon if horizon > 1 else 1.0
    scale = frequencies ** (-exponent / 2.0)
    # One real coefficient for the mean (and for the Nyquist frequency), two for every other frequency.
    real = np.eye(horizon)[:, : len(scale)]
    imag = np.zeros_like(real)
    paired = range(1, (horizon + 1) // 2)
    for column, frequency in enumerate(paired):
        imag[len(scale) + column, frequency] = 1.0
    real[:, list(paired)] /= np.sqrt(2.0)
    imag[:, list(paired)] /= np.sqrt(2.0)
    matrix = np.fft.irfft((real + 1j * imag) * scale, n=horizon)
    return (matrix / np.linalg.norm(matrix, axis=0)).astype(np.float32)


def released_scale(horizon: int, exponent: float) -> float:
    """The standard deviation of the noise of the generator in the released iCEM (colorednoise 2, Felix Patzelt).

    It divides by an estimate of the standard deviation that leaves out the frequency zero, which its noise does contain
    with the power of the lowest other one.
    """
    scale = np.fft.rfftfreq(horizon)[1:] ** (-exponent / 2.0)
    if not len(scale):
        return 1.0
    halved = 0.5 if horizon % 2 == 0 else 1.0
    pairs = np.square(scale) * np.append(np.ones(len(scale) - 1), halved)
    estimated = 2 * np.linalg.norm([*scale[:-1], halved * scale[-1]])
    return float(np.sqrt(2 * (np.square(scale[0]) + 2 * pairs.sum())) / estimated)
