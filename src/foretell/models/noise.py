"""Many cheap random numbers: a hash of their position.

Planning with independent particles takes millions of normals per action, for which JAX's default generator needs as
long as for the networks. Here a number is two rounds of a 32-bit mixing function with good avalanche over a counter,
keyed by the two words of a random key. It is not for cryptography.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32


def hashed_bits(key: Key[Array, ""], shape: tuple[int, ...], stream: int = 0) -> UInt32[Array, "..."]:
    """Uniform 32-bit words; fewer than 2^32 of them.

    Args:
        key: as `jax.random.split` gives it; its own words are used.
        shape: of the result.
        stream: a number below 2^16 for further words of the same key.
    """
    first, second = jax.random.key_data(key)[:2]
    count = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _mix(_mix(count + first) ^ (second + jnp.uint32(0x9E3779B9 * stream % 2**32)))


def hashed_normal(key: Key[Array, ""], shape: tuple[int, ...], stream: int = 0) -> Float[Array, "..."]:
    """Standard normals, cut at about 5.4 standard deviations by their 24 bits. Arguments as of `hashed_bits`."""
    return normal_of(hashed_bits(key, shape, stream))


def normal_of(bits: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The quantile of the standard normal that 32 random bits stand for."""
    uniform = (bits >> 8).astype(jnp.float32) * 2.0**-23 - (1.0 - 2.0**-24)  # in (-1, 1), symmetric
    return math.sqrt(2.0) * jax.lax.erf_inv(uniform)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32 bits; constants from Wellons' search for low bias ("Prospecting for hash functions", 2018)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
