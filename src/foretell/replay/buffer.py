"""A ring buffer of transitions whose length is traced: growing data never recompile a program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class Transitions(NamedTuple):
    """Rows of experience."""

    obs: Float[Array, "rows obs"]
    action: Float[Array, "rows action"]
    reward: Float[Array, "rows"]
    next_obs: Float[Array, "rows obs"]
    terminated: Bool[Array, "rows"]
    """Marks true ends only; a time limit is not one."""
    time: Int[Array, "rows"]
    """The step within its episode, 0 first."""
    environment: Int[Array, "rows"]
    """Of those stepped in lock-step, the one it happened in."""
    over: Bool[Array, "rows"]
    """Marks the last steps of episodes, terminated or cut. Random episodes that are cut where the random steps end are
    not marked: their rows were stored before."""


def single_steps(
    obs: Float[Array, "rows obs"],
    action: Float[Array, "rows action"],
    reward: Float[Array, "rows"],
    next_obs: Float[Array, "rows obs"],
    terminated: Bool[Array, "rows"],
) -> Transitions:
    """Rows of no known order: each is an episode of its own."""
    count = len(reward)
    zeros, ones = jnp.zeros(count, jnp.int32), jnp.ones(count, bool)
    return Transitions(obs, action, reward, next_obs, terminated, time=zeros, environment=zeros, over=ones)


class Replay(NamedTuple):
    """The newest `capacity` transitions; slot `added % capacity` is written next."""

    data: Transitions
    added: Int[Array, ""]
    """Transitions ever added."""

    @property
    def capacity(self) -> int:
        return self.data.reward.shape[0]

    @property
    def size(self) -> Int[Array, ""]:
        return jnp.minimum(self.added, self.capacity)

    @property
    def valid(self) -> Bool[Array, "capacity"]:
        return jnp.arange(self.capacity) < self.size


def init_replay(capacity: int, obs_size: int, action_size: int) -> Replay:
    data = Transitions(
        obs=jnp.zeros((capacity, obs_size)),
        action=jnp.zeros((capacity, action_size)),
        reward=jnp.zeros(capacity),
        next_obs=jnp.zeros((capacity, obs_size)),
        terminated=jnp.zeros(capacity, bool),
        time=jnp.zeros(capacity, jnp.int32),
        environment=jnp.zeros(capacity, jnp.int32),
        over=jnp.zeros(capacity, bool),
    )
    return Replay(data, jnp.zeros((), jnp.int32))


def add(replay: Replay, rows: Transitions, count: Int[Array, ""]) -> Replay:
    """Append the first `count` of `rows`, overwriting the oldest. More rows than the capacity are refused."""
    incoming = rows.reward.shape[0]
    if incoming > replay.capacity:
        raise ValueError(f"{incoming} rows do not fit into a replay of capacity {replay.capacity}")
    offset = jnp.arange(incoming)
    # Rows past `count` are sent out of bounds, where a scatter in "drop" mode ignores them.
    slot = jnp.where(offset < count, (replay.added + offset) % replay.capacity, replay.capacity)
    data = jax.tree.map(lambda store, new: store.at[slot].set(new, mode="drop"), replay.data, rows)
    return Replay(data, replay.added + count)


def sample(replay: Replay, key: Key[Array, ""], count: int) -> Transitions:
    """`count` transitions drawn uniformly, with replacement; there must be some."""
    slot = jax.random.randint(key, (count,), 0, replay.size)
    return jax.tree.map(lambda store: store[slot], replay.data)


def newest(replay: Replay, count: int) -> Transitions:
    """The `count` transitions added last, newest first; those never written are zeros."""
    slot = (replay.added - 1 - jnp.arange(count)) % replay.capacity
    return jax.tree.map(lambda store: store[slot], replay.data)
