"""Standardisation of network inputs and targets with statistics that are safe for constant dimensions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_CHUNK = 4096
"""Rows that are summed together, so that a replay with few rows costs little at any capacity."""


class Normalizer(NamedTuple):
    """`z = (x - mean) / std`, per feature."""

    mean: Float[Array, "features"]
    std: Float[Array, "features"]

    def normalize(self, x: Float[Array, "*rows features"]) -> Float[Array, "*rows features"]:
        return (x - self.mean) / self.std

    def denormalize(self, z: Float[Array, "*rows features"]) -> Float[Array, "*rows features"]:
        return z * self.std + self.mean


def identity_normalizer(features: int) -> Normalizer:
    """The normaliser that changes nothing."""
    return Normalizer(jnp.zeros(features), jnp.ones(features))


def fit_normalizer(x: Float[Array, "rows features"], valid: Bool[Array, "rows"], *, min_std: float) -> Normalizer:
    """Mean and population standard deviation of the valid rows that are finite.

    They are computed in float64. In float32 the standard deviation of a constant comes out near 1e-8 instead of 0,
    which is above a small `min_std`, and the standardised input explodes.

    Args:
        x: the rows.
        valid: which of them count.
        min_std: a standard deviation below this is replaced by 1.
    """
    chunks = _chunks(valid)
    with jax.enable_x64(True):
        count = jnp.maximum(_sum_over(x, valid, chunks, jnp.ones_like), 1.0)
        mean = _sum_over(x, valid, chunks, lambda rows: rows) / count
        std = jnp.sqrt(_sum_over(x, valid, chunks, lambda rows: jnp.square(rows - mean)) / count)
        std = jnp.where(std < min_std, 1.0, std)
        return Normalizer(mean.astype(jnp.float32), std.astype(jnp.float32))


def _chunks(valid: Bool[Array, "rows"]) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """The first chunk with a valid row, and the one after the last."""
    size, rows = min(_CHUNK, len(valid)), len(valid)
    after = jnp.where(valid.any(), rows - jnp.argmax(valid[::-1]), 0)
    return jnp.argmax(valid) // size, -(-after // size)


def _sum_over(
    x: Float[Array, "rows features"],
    valid: Bool[Array, "rows"],
    chunks: tuple[Int[Array, ""], Int[Array, ""]],
    term: Callable[[Float[Array, "chunk features"]], Float[Array, "chunk features"]],
) -> Float[Array, "features"]:
    """The sum of terms over the valid rows that are finite."""
    size = min(_CHUNK, len(x))
    place = jnp.arange(size, dtype=jnp.int32)

    def add(i: Int[Array, ""], total: Float[Array, "features"]) -> Float[Array, "features"]:
        start = jnp.minimum(i * size, len(x) - size)
        rows, use = (jax.lax.dynamic_slice_in_dim(a, start, size) for a in (x, valid))
        use &= jnp.isfinite(rows).all(-1) & (start + place >= i * size)
        return total + jnp.where(use[:, None], term(rows.astype(jnp.float64)), 0).sum(0)

    return jax.lax.fori_loop(*chunks, add, jnp.zeros(x.shape[1], jnp.float64))
