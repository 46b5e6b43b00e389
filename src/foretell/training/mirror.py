"""A copy of the replay on the host, for checkpoints: only what was added since the last one is copied."""

from functools import partial

import jax
import numpy as np
from jaxtyping import Array

from foretell.replay import Replay, Transitions

BLOCK = 4096
"""Rows that are copied from the device at a time."""


class Mirror:
    """Follows one replay from its beginning. Rows stay as they are until they are overwritten."""

    def __init__(self, replay: Replay) -> None:
        """Copy what there is; rows that were never written are zeros, as in the replay."""
        self._data: Transitions = jax.tree.map(lambda store: np.zeros(store.shape, store.dtype), replay.data)
        self._added = 0
        self._copy(0, replay)  # also compiles
        self.follow(replay)

    def follow(self, replay: Replay) -> Replay:
        """The replay on the host, after more was added; its rows change at the next call."""
        added = int(replay.added)
        for start in blocks(self._added, added, replay.capacity):
            self._copy(start, replay)
        self._added = added
        return Replay(self._data, *jax.tree.map(np.array, replay[1:]))

    def _copy(self, start: int, replay: Replay) -> None:
        """One block of rows."""
        block = _rows(replay.data, start, min(BLOCK, replay.capacity))
        jax.tree.map(partial(_write, start), self._data, block)


def blocks(before: int, added: int, capacity: int) -> list[int]:
    """The first rows of the blocks that hold everything that was added to a ring buffer, in any order.

    Args:
        before: number of rows that had been added at the last copy.
        added: the number now.
        capacity: number of rows of the buffer; blocks have `BLOCK` rows, or all if there are fewer.
    """
    size, new = min(BLOCK, capacity), min(added - before, capacity)
    first = (added - new) % capacity
    parts = [(first, min(first + new, capacity)), (0, max(0, first + new - capacity))]
    return [min(start, capacity - size) for low, high in parts for start in range(low, high, size)]


@partial(jax.jit, static_argnums=2)
def _rows(data: Transitions, start: Array | int, count: int) -> Transitions:
    return jax.tree.map(lambda store: jax.lax.dynamic_slice_in_dim(store, start, count), data)


def _write(start: int, store: np.ndarray, block: Array) -> None:
    store[start : start + len(block)] = block
