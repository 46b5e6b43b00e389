"""Which rows a gradient step takes, computed from the number of the step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from foretell.replay import shuffle
from foretell.replay.threefry import fold_in


def minibatch(
    i: Int[Array, ""], keys: Key[Array, "members"], size: Int[Array, ""], batch_size: int
) -> tuple[Int[Array, "members batch"], Float[Array, "batch"]]:
    """Which rows of each member's sample gradient step `i` takes, and their weights.

    Weights sum to 1. They are equal, but 0 beyond the end of the epoch.
    """
    epoch, batch = jnp.divmod(i, -(-size // batch_size))
    position = batch * batch_size + jnp.arange(batch_size)
    inside = position < size

    def pick(key: Key[Array, ""]) -> Int[Array, "batch"]:
        return shuffle(fold_in(key, epoch), jnp.where(inside, position, 0), size)

    return jax.vmap(pick)(keys), inside / inside.sum()


def mixed_minibatch(
    i: Int[Array, ""],
    keys: Key[Array, "members"],
    new: Int[Array, ""],
    batches: Int[Array, ""],
    size: Int[Array, ""],
    first: Int[Array, ""],
    batch_size: int,
) -> tuple[Int[Array, "members batch"], Float[Array, "batch"]]:
    """Rows of gradient step `i`: the next of a permutation of the old data, random ones of the new; equal weights.

    Args:
        i: number of the step.
        keys: for the order of rows.
        new: number of rows of the new data in each batch.
        batches: in each pass over the old data.
        size: number of rows.
        first: of them, old ones.
        batch_size: rows of each batch.
    """
    epoch, batch = jnp.divmod(i, batches)
    slot, old = jnp.arange(batch_size), batch_size - new

    def pick(key: Key[Array, ""]) -> Int[Array, "batch"]:
        old_key, new_key = jax.random.split(jax.random.fold_in(key, epoch))
        walked = shuffle(old_key, (batch * old + slot) % first, first)
        drawn = jax.random.randint(
            jax.random.fold_in(new_key, batch), (batch_size,), first, jnp.maximum(size, first + 1)
        )
        return jnp.where(slot < old, walked, drawn)

    return jax.vmap(pick)(keys), jnp.full(batch_size, 1.0 / batch_size)
