"""A ring buffer of transitions whose length is traced: growing data never recompile a program."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class Transitions(NamedTuple):
    """Rows of experience, in the environment's units."""

    obs: Float[Array, "rows obs"]
    action: Float[Array, "rows action"]
    reward: Float[Array, "rows"]
    next_obs: Float[Array, "rows obs"]
    terminated: Bool[Array, "rows"]
    """Marks true ends only; a time limit is not one."""


class Replay(NamedTuple):
    """The newest `capacity` transitions; slot `added % capacity` is written next."""

    data: Transitions
    added: Int[Array, ""]
    """Transitions ever added."""
    new: Int[Array, ""]
    """Of these, transitions added since the last call of `learn`."""

    @property
    def capacity(self) -> int:
        return self.data.reward.shape[0]

    @property
    def size(self) -> Int[Array, ""]:
        return jnp.minimum(self.added, self.capacity)

    @property
    def grown(self) -> Bool[Array, ""]:
        """Whether, since the last call of `learn`, `added` has reached the next power of 1.05.

        What is computed of all transitions then costs little in all, and changes little each time.
        """
        after, before = (jnp.floor(jnp.log(count) / math.log(1.05)) for count in (self.added, self.added - self.new))
        return after > before

    @property
    def valid(self) -> Bool[Array, "capacity"]:
        return jnp.arange(self.capacity) < self.size


def init_replay(capacity: int, obs_size: int, action_size: int) -> Replay:
    """An empty replay."""
    data = Transitions(
        obs=jnp.zeros((capacity, obs_size)),
        action=jnp.zeros((capacity, action_size)),
        reward=jnp.zeros(capacity),
        next_obs=jnp.zeros((capacity, obs_size)),
        terminated=jnp.zeros(capacity, bool),
    )
    return Replay(data, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def add(replay: Replay, rows: Transitions, use: Bool[Array, "rows"] | None = None) -> Replay:
    """Append rows in order, overwriting the oldest.

    Args:
        replay: where to.
        rows: at most as many as the capacity.
        use: which of them to append; all if None.

    Raises:
        ValueError: if there are more rows than the capacity.
    """
    incoming = rows.reward.shape[0]
    if incoming > replay.capacity:
        raise ValueError(f"{incoming} rows do not fit into a replay of capacity {replay.capacity}")
    use = jnp.ones(incoming, bool) if use is None else use
    place = jnp.cumsum(use) - 1
    # Rows that are not used are sent out of bounds, where a scatter in "drop" mode ignores them.
    slot = jnp.where(use, (replay.added + place) % replay.capacity, replay.capacity)
    data = jax.tree.map(lambda store, new: store.at[slot].set(new, mode="drop"), replay.data, rows)
    count = use.sum(dtype=jnp.int32)
    return Replay(data, replay.added + count, replay.new + count)


def sample(replay: Replay, key: Key[Array, ""], count: int) -> Transitions:
    """`count` transitions drawn uniformly, with replacement; there must be some."""
    slot = jax.random.randint(key, (count,), 0, replay.size)
    return jax.tree.map(lambda store: store[slot], replay.data)


def newest(replay: Replay, count: int) -> Transitions:
    """The `count` transitions added last, newest first; those never written are zeros."""
    return newest_rows(replay, jnp.zeros((), jnp.int32), count)


def newest_rows(replay: Replay, first: Int[Array, ""], count: int) -> Transitions:
    """`count` of the transitions added last, newest first, without the very newest `first` ones."""
    slot = (replay.added - 1 - first - jnp.arange(count)) % replay.capacity
    return jax.tree.map(lambda store: store[slot], replay.data)
