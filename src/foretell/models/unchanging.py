"""Columns of observations that have never changed within a step, such as goals and payloads.

A network that learns such a column predicts small changes, which add up along imagined trajectories. Imagination
therefore keeps these columns as they are at its start.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from foretell.replay import Replay, newest_rows

_BLOCK = 256
"""Transitions that are compared at a time."""


class Unchanging(NamedTuple):
    """What is known of each column of the observations."""

    rows: Int[Array, "obs"]
    """Transitions in which it did not change; -1 once it has changed in one."""

    def after(self, replay: Replay) -> "Unchanging":
        """With the transitions that were added since the last call of `learn`."""
        count = jnp.minimum(replay.new, replay.size)

        def compare(block: Int[Array, ""], changed: Bool[Array, "obs"]) -> Bool[Array, "obs"]:
            first = block * _BLOCK
            rows = newest_rows(replay, first, min(_BLOCK, replay.capacity))
            new = (first + jnp.arange(len(rows.reward)) < count)[:, None]
            return changed | (new & (rows.next_obs != rows.obs)).any(0)

        changed = jax.lax.fori_loop(0, -(-count // _BLOCK), compare, self.rows < 0)
        return Unchanging(jnp.where(changed, -1, self.rows + count))

    def keep(self, before: Float[Array, "*rows obs"], after: Float[Array, "*rows obs"]) -> Float[Array, "*rows obs"]:
        """The next observation, with the columns that never change as they were."""
        return jnp.where(self.rows > 0, before, after)


def unknown_columns(obs_size: int) -> Unchanging:
    """Before there are data: no column is kept."""
    return Unchanging(jnp.zeros(obs_size, jnp.int32))


def kept_columns(state: Any, names: Sequence[str]) -> list[str]:
    """The names of the columns that imagination keeps, by what an agent has learned; none if it has no such model."""
    parts = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, Unchanging))
    found = next((part for part in parts if isinstance(part, Unchanging)), None)
    return [] if found is None else [name for name, kept in zip(names, np.asarray(found.rows) > 0, strict=True) if kept]
