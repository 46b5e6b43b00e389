"""The state of a run: one tree of arrays that holds everything needed to continue it to the last bit.

There are no generator states in it. Every random key is derived from the seed and the counters here, and the
simulator's state is the episode's seed and the actions taken since: a Gymnasium environment that is reset with a seed
and given the same actions goes to the same state.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from foretell.agents import Agent, Schedule
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
    """How far the run is. An episode has its number from when it begins."""

    episode: np.ndarray
    """Episodes finished: rows of `episodes.csv`."""
    begun: np.ndarray
    """Episodes begun: the number of the next one."""
    warmups: np.ndarray
    """Of those finished, episodes of kind "warmup"."""
    trials: np.ndarray
    """Of those finished, episodes of kind "train"."""
    evaluations: np.ndarray
    """Rounds of evaluation episodes finished."""
    evals: np.ndarray
    """Evaluation episodes since then."""
    env_steps: np.ndarray
    """Steps in episodes of kinds "random", "warmup" and "train": those that can be learned from."""
    new_steps: np.ndarray
    """Of these, steps not learned from yet."""
    learned: np.ndarray
    """Calls of `learn`."""
    logged: np.ndarray
    """Rows of `metrics.csv`."""
    unlogged: np.ndarray
    """Calls of `learn` since then."""
    saved: np.ndarray
    """Checkpoints written."""
    seconds: np.ndarray
    """Wall time so far."""


class Episodes(NamedTuple):
    """The episodes under way, one per environment, with room for their whole horizon. Its arrays change in place."""

    obs: np.ndarray
    """`[environments, horizon + 1, obs]`"""
    actions: np.ndarray
    """`[environments, horizon, action]`"""
    rewards: np.ndarray
    """`[environments, horizon]`"""
    number: np.ndarray
    """Of the episode in each environment; -1 where none has begun."""
    length: np.ndarray
    """Steps taken."""
    terminated: np.ndarray
    """1 where the last step has ended the episode for good; a time limit does not."""
    over: np.ndarray
    """1 where no further step is to be taken."""
    clock: np.ndarray
    """Steps of all environments since the episode in the first one began."""

    @property
    def running(self) -> list[int]:
        """Indices of the environments that go on."""
        return np.flatnonzero((self.number >= 0) & (self.over == 0)).tolist()

    def forget(self, row: int) -> None:
        """No episode has begun in this environment."""
        for array in (self.obs, self.actions, self.rewards, self.length, self.terminated, self.over):
            array[row] = 0
        self.number[row] = -1


def empty_episodes(spec: TaskSpec, count: int) -> Episodes:
    """Room for the episodes of `count` environments, none of which has begun."""
    return Episodes(
        obs=np.zeros((count, spec.horizon + 1, spec.obs_size)),
        actions=np.zeros((count, spec.horizon, spec.action_size)),
        rewards=np.zeros((count, spec.horizon)),
        number=np.full(count, -1, np.int64),
        length=np.zeros(count, np.int64),
        terminated=np.zeros(count, np.int64),
        over=np.zeros(count, np.int64),
        clock=np.zeros((), np.int64),
    )


class Pending(NamedTuple):
    """Transitions on their way to the replay. Its arrays change in place."""

    rows: Any
    """`Transitions`, on the host."""
    waiting: np.ndarray
    """How many."""

    @property
    def room(self) -> int:
        return len(self.rows.reward) - int(self.waiting)

    def take(self, episodes: Episodes, stepped: list[int]) -> None:
        """Append the latest step of each environment in `stepped`."""
        for row in stepped:
            slot, t = int(self.waiting), int(episodes.length[row]) - 1
            for store, value in zip(self.rows, _transition(episodes, row, t), strict=True):
                store[slot] = value
            self.waiting[...] += 1


def no_pending(spec: TaskSpec, room: int) -> Pending:
    rows = jax.tree.map(np.array, init_replay(room, spec.obs_size, spec.action_size).data)
    return Pending(rows, np.zeros((), np.int64))


def _transition(episodes: Episodes, row: int, t: int) -> Iterator[Any]:
    yield episodes.obs[row, t]
    yield episodes.actions[row, t]
    yield episodes.rewards[row, t]
    yield episodes.obs[row, t + 1]
    yield episodes.terminated[row] > 0
    yield t
    yield row
    yield episodes.over[row] > 0


class RunState(NamedTuple):
    """A whole run."""

    agent: Any
    memory: Any
    replay: Replay
    metrics: Any
    """What `learn` has told since it was last logged, summed."""
    pending: Pending
    episodes: Episodes
    counters: Counters


def init_run(agent: Agent, spec: TaskSpec, schedule: Schedule, seed: int) -> RunState:
    """The state before anything has happened."""
    number = jax.ShapeDtypeStruct((), np.int32)

    def arrays() -> tuple[Any, Any, Replay, Any]:
        replay = init_replay(schedule.capacity, spec.obs_size, spec.action_size)
        key = key_for(seed, Stream.INIT)
        state = agent.init(key)
        # Told after every few steps, which are many lines; between episodes each is logged as it is.
        told = jax.eval_shape(agent.learn, state, replay, number, key)[1] if schedule.steps_per_learning else ()
        metrics = {name: jnp.zeros(()) for name in told}
        return state, agent.start(schedule.environments), replay, metrics

    counters = Counters(**{name: np.zeros((), np.int64) for name in Counters._fields})
    learned, memory, replay, metrics = jax.jit(arrays)()
    return RunState(
        learned,
        memory,
        replay,
        metrics,
        no_pending(spec, schedule.room(spec.horizon)),
        empty_episodes(spec, schedule.environments),
        counters._replace(seconds=np.zeros(())),
    )
