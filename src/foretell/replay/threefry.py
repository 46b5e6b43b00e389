"""JAX's random generator on CPUs without its loop: the same numbers, sooner where they are few.

JAX compiles Threefry (Salmon et al. 2011) as a loop of five rounds there, whose overhead matters in short gradient
steps. For many numbers, such as the noise of a minibatch, JAX's own is as fast.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

Words = tuple[UInt32[Array, "*places"], UInt32[Array, "*places"]]
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def fold_in(key: Key[Array, ""], data: Int[Array, ""]) -> Key[Array, ""]:
    """The same key as `jax.random.fold_in` gives."""
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.fold_in(key, data)
    words = _threefry(key, jnp.asarray(data, jnp.uint32))
    return jax.random.wrap_key_data(jnp.stack(words), impl="threefry2x32")


def bits_at(key: Key[Array, ""], place: Int[Array, "*places"]) -> UInt32[Array, "*places"]:
    """What `jax.random.bits` has at these places of an array that is long enough, without that array.

    With keys of another generator it is other bits.
    """
    first, second = _threefry(key, place.astype(jnp.uint32))
    return first ^ second


def _threefry(key: Key[Array, ""], count: UInt32[Array, "*places"]) -> Words:
    """The two words of each count, in 20 rounds."""
    first, second = jax.random.key_data(key)[:2]
    schedule = first, second, first ^ second ^ jnp.uint32(0x1BD11BDA)
    x, y = jnp.full_like(count, first), count + second
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x += y
            y = x ^ (y << rotation | y >> 32 - rotation)
        x += schedule[(group + 1) % 3]
        y += schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y
