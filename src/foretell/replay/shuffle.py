"""Bootstraps and shuffles that are computed element by element.

No array of the buffer's capacity is sorted. So an epoch costs no more than its batches, and a seed gives the same
batches at any capacity.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

from foretell.replay.threefry import bits_at

_ROUNDS = 4


def bootstrap(
    key: Key[Array, ""], position: Int[Array, "*positions"], size: Int[Array, ""]
) -> Int[Array, "*positions"]:
    """Entries of a bootstrap sample: draws with replacement from `0..size-1`, which follow from key and position."""
    # The remainder of 32 random bits favours small numbers by at most size / 2^32, which is negligible.
    return (bits_at(key, position) % size.astype(jnp.uint32)).astype(jnp.int32)


def shuffle(
    key: Key[Array, ""], position: Int[Array, "*positions"], length: Int[Array, ""]
) -> Int[Array, "*positions"]:
    """The images of `position` (each in `0..length-1`) under a random permutation of `0..length-1`.

    A keyed bijection of the integers below the next power of two is applied until the result is below `length`
    (cycle walking; Black and Rogaway 2002), which makes it a bijection of `0..length-1`.
    """
    bits = 32 - jax.lax.clz(jnp.maximum(length.astype(jnp.uint32) - 1, 1))
    mask = (jnp.uint32(1) << bits) - 1
    words = bits_at(key, jnp.arange(2 * _ROUNDS)).reshape(_ROUNDS, 2)
    limit = length.astype(jnp.uint32)
    start = position.astype(jnp.uint32)

    def outside(x: UInt32[Array, "*positions"]) -> Array:
        return (x >= limit).any()

    def walk(x: UInt32[Array, "*positions"]) -> UInt32[Array, "*positions"]:
        return jnp.where(x >= limit, _scramble(x, words, bits, mask), x)

    return jax.lax.while_loop(outside, walk, _scramble(start, words, bits, mask)).astype(jnp.int32)


def _scramble(
    x: UInt32[Array, "*n"], words: UInt32[Array, "rounds 2"], bits: UInt32[Array, ""], mask: UInt32[Array, ""]
) -> UInt32[Array, "*n"]:
    """A bijection of the `bits`-bit integers: odd multiplications, additions and xor-shifts all are."""
    for multiplier, offset in words:
        x = (x * (multiplier | 1) + offset) & mask
        x ^= x >> ((bits + 1) // 2)
    return x
