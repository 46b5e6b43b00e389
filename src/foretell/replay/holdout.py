"""Transitions that are kept out of training, for validation, from when they are added until they are overwritten.

Whether a transition is kept out follows from how many were added before it alone, by a hash.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, UInt32

from foretell.replay.buffer import Replay

_MOST_TRIES = 100
_FEW = 8192
"""Slots that are quickly sorted."""


def held_out(replay: Replay, slot: Int[Array, "*rows"], share: float) -> Bool[Array, "*rows"]:
    """Whether the transitions in these slots are kept out of training.

    Args:
        replay: the transitions.
        slot: places that have been written.
        share: of all transitions that is kept out, at least 0 and below 1.
    """
    return _hash(_number(replay, slot)) < _below(share)


def held_out_first(replay: Replay, share: float) -> tuple[Int[Array, "capacity"], Int[Array, ""]]:
    """An order of all slots, and the number of transitions kept out, which come first; slots never written come last.

    At least one transition is not kept out. Otherwise the order is random, and fixed.
    """

    def order_of(count: int) -> tuple[Int[Array, "capacity"], Int[Array, ""]]:
        """Of a replay whose transitions are all in the first `count` slots."""
        slot = jnp.arange(count)
        valid, number = slot < replay.size, _hash(_number(replay, slot))
        held = (number < _below(share)) & valid
        order = jnp.concatenate([jnp.lexsort((number, ~valid)), jnp.arange(count, replay.capacity)])
        return order, jnp.minimum(held.sum(dtype=jnp.int32), replay.size - 1)

    counts = _counts(replay.capacity)
    place = (replay.size > jnp.array(counts)).sum()
    return jax.lax.switch(place, [partial(order_of, count) for count in counts])


def training_slots(
    replay: Replay, key: Key[Array, ""], shape: tuple[int, ...], share: float
) -> tuple[Int[Array, "*shape"], Bool[Array, "*shape"]]:
    """Slots of transitions that are not kept out, drawn uniformly, with replacement.

    Returns:
        The slots, and which of them are to be used: all, unless there are hardly any transitions but those kept out.
    """

    def draw(tries: Int[Array, ""]) -> Int[Array, "*shape"]:
        return jax.random.randint(jax.random.fold_in(key, tries), shape, 0, replay.size)

    def fails(state: tuple[Int[Array, ""], Array, Array]) -> Bool[Array, ""]:
        tries, _, held = state
        return held.any() & (tries < _MOST_TRIES)

    def again(state: tuple[Int[Array, ""], Array, Array]) -> tuple[Int[Array, ""], Array, Array]:
        tries, slot, held = state
        slot = jnp.where(held, draw(tries), slot)
        return tries + 1, slot, held_out(replay, slot, share)

    nothing = jnp.zeros((), jnp.int32), jnp.zeros(shape, jnp.int32), jnp.ones(shape, bool)
    _, slot, held = jax.lax.while_loop(fails, again, nothing)
    return slot, ~held


def _counts(capacity: int) -> list[int]:
    """Numbers of slots to sort, so that little is sorted where there is little: the capacity, a quarter of it, ..."""
    counts = [capacity]
    while counts[0] > _FEW:
        counts.insert(0, -(-counts[0] // 4))
    return counts


def _below(share: float) -> UInt32[Array, ""]:
    """Hashes below this belong to transitions that are kept out."""
    return jnp.uint32(int(share * 2**32))


def _number(replay: Replay, slot: Int[Array, "*rows"]) -> Int[Array, "*rows"]:
    """How many transitions were added before the one in each slot."""
    newest = replay.added - 1
    return newest - (newest - slot) % replay.capacity


def _hash(number: Int[Array, "*rows"]) -> UInt32[Array, "*rows"]:
    key = jax.random.key(0)
    bits = jax.vmap(lambda n: jax.random.bits(jax.random.fold_in(key, n)))(number.ravel())
    return bits.reshape(number.shape)
