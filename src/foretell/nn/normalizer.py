"""Standardisation of network inputs and targets with statistics that are safe for constant dimensions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


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
    with jax.enable_x64(True):
        use = (valid & jnp.isfinite(x).all(-1))[:, None]
        rows, weight = jnp.where(use, x, 0).astype(jnp.float64), use.astype(jnp.float64)
        count = jnp.maximum(weight.sum(), 1.0)
        mean = (rows * weight).sum(0) / count
        std = jnp.sqrt((jnp.square(rows - mean) * weight).sum(0) / count)
        std = jnp.where(std < min_std, 1.0, std)
        return Normalizer(mean.astype(jnp.float32), std.astype(jnp.float32))
