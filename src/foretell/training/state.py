"""The state of a run: one tree of arrays that holds everything needed to continue it to the last bit.

There are no generator states in it. Every random key is derived from the seed and the counters here, and the
simulator's state is the episode's seed and the actions taken since: a Gymnasium environment that is reset with a seed
and given the same actions goes to the same state.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from foretell.agents import Agent
from foretell.replay import Replay, init_replay
from foretell.tasks import TaskSpec


class Stream(IntEnum):
    """What a random key is for."""

    INIT = 0
    ACT = 1
    LEARN = 2
    RANDOM = 3
    ENVIRONMENT = 4
    EVALUATION = 5
    IMAGINE = 6


def key_for(seed: int | Array, stream: Stream, *counters: int | Array) -> Key[Array, ""]:
    """The key for one use; the uses of a stream differ in their counters."""
    key = jax.random.fold_in(jax.random.key(seed), stream)
    for counter in counters:
        key = jax.random.fold_in(key, counter)
    return key


def numpy_generator(seed: int, stream: Stream, *counters: int) -> np.random.Generator:
    """As `key_for`, for the host's own draws."""
    return np.random.default_rng([seed, stream, *counters])


def environment_seed(seed: int, episode: int) -> int:
    """What the environment is reset with for an episode of a run."""
    return int(numpy_generator(seed, Stream.ENVIRONMENT, episode).integers(2**31))


class Counters(NamedTuple):
    """How far the run is."""

    episode: np.ndarray
    """Episodes finished."""
    warmups: np.ndarray
    """Of these, episodes of kind "warmup"."""
    trials: np.ndarray
    """Of these, episodes of kind "train"."""
    evals: np.ndarray
    """Evaluation episodes since the last trial."""
    env_steps: np.ndarray
    """Steps in finished episodes of kinds "random", "warmup" and "train": those that can be learned from."""
    new_steps: np.ndarray
    """Of these, steps not learned from yet."""
    learned: np.ndarray
    """Calls of `learn`."""
    saved: np.ndarray
    """Checkpoints written."""
    seconds: np.ndarray
    """Wall time so far."""


class Episode(NamedTuple):
    """The current episode, with room for its whole horizon."""

    obs: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    length: np.ndarray
    terminated: np.ndarray


class RunState(NamedTuple):
    agent: Any
    memory: Any
    replay: Replay
    episode: Episode
    counters: Counters


def empty_episode(spec: TaskSpec) -> Episode:
    return Episode(
        obs=np.zeros((spec.horizon + 1, spec.obs_size)),
        actions=np.zeros((spec.horizon, spec.action_size)),
        rewards=np.zeros(spec.horizon),
        length=np.zeros((), np.int64),
        terminated=np.zeros((), np.int64),
    )


def init_run(agent: Agent, spec: TaskSpec, capacity: int, seed: int) -> RunState:
    """The state before anything has happened."""

    def arrays() -> tuple[Any, Any, Replay]:
        replay = init_replay(capacity, spec.obs_size, spec.action_size)
        return agent.init(key_for(seed, Stream.INIT)), agent.start(1), replay

    counters = Counters(**{name: np.zeros((), np.int64) for name in Counters._fields})
    learned, memory, replay = jax.jit(arrays)()
    return RunState(learned, memory, replay, empty_episode(spec), counters._replace(seconds=np.zeros(())))
