"""Much noise for little: normals from a hash of their position.

Planning with independent particles takes millions of normals per action, for which the default generator needs as long
as for the networks. Here a word is two rounds of a 32-bit mixing function with good avalanche over a counter, keyed by
two random words; it is not for cryptography, and neither are particles.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32


def hashed_normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normals, cut at about 5.4 deviations by their 24 bits; fewer than 2^32 of them."""
    start, other = jax.random.bits(key, (2,))
    count = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return normal_of(_mix(_mix(count + start) ^ other))


def normal_of(bits: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The quantile of the standard normal that 32 random bits stand for."""
    uniform = (bits >> 8).astype(jnp.float32) * 2.0**-23 - (1.0 - 2.0**-24)  # in (-1, 1), symmetric
    return math.sqrt(2.0) * jax.lax.erf_inv(uniform)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32 bits; constants from Wellons' search for low bias ("Prospecting for hash functions", 2018)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
