"""The state of a run: one tree of arrays that holds everything needed to continue it bit for bit.

It contains no states of random generators: every random key is derived from the seed and the counters. It contains no
state of the simulator, but the seed and the actions of each episode: a deterministic Gymnasium environment that is
reset with the same seed and given the same actions reaches the same state.
"""

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from foretell.agents import Agent, Schedule
from foretell.agents.base import Carry, Metrics, PolicyParams, State
from foretell.compilation import check_fits, traced_once
from foretell.envs import Episodes, empty_episodes
from foretell.keys import Stream, key_for
from foretell.replay import Replay, Trajectories, init_replay
from foretell.tasks import TaskSpec
from foretell.training.clock import Counters
from foretell.training.programs import Part, programs, whole


class Collected(NamedTuple):
    """Steps that are not yet in the replay, or not yet learned from. Its arrays change in place."""

    steps: Trajectories
    """Arrays on the host, with room for a fixed number of times."""
    times: np.ndarray
    """Number of times that are filled."""

    @property
    def is_full(self) -> bool:
        return int(self.times) == len(self.steps.time)

    def take(self, episodes: Episodes, stepped: list[int], time_limit: int | None = None) -> None:
        """Append the latest step of each environment in `stepped`; a step at `time_limit` counts as a termination."""
        at = int(self.times)
        for row in stepped:
            t = int(episodes.length[row]) - 1
            step = (
                episodes.obs[row, t],
                episodes.actions[row, t],
                episodes.rewards[row, t],
                episodes.obs[row, t + 1],
                episodes.terminated[row] > 0 or t + 1 == time_limit,
                episodes.over[row] > 0,
                t,
                True,
            )  # in the order of `Trajectories`
            for store, value in zip(self.steps, step, strict=True):
                store[at, row] = value
        self.times[...] += 1

    def clear(self) -> None:
        self.shorten(0)

    def shorten(self, times: int) -> None:
        """Keep only the steps of the first `times` times."""
        self.times[...] = times
        self.steps.valid[times:] = False

    def end(self, row: int) -> None:
        """Mark the latest step of this environment as the last one of its episode."""
        if (found := np.flatnonzero(self.steps.valid[: int(self.times), row])).size:
            self.steps.over[found[-1], row] = True


class RunState(NamedTuple):
    """A whole run."""

    agent: State
    carry: Carry
    """The agent's carry in the unfinished episodes."""
    replay: Replay | Part | None
    """None for an agent that learns from trajectories."""
    metrics: Metrics | Part
    """The metrics of `learn` since they were last logged, summed."""
    collected: Collected
    episodes: Episodes
    counters: Counters
    lagging: tuple[PolicyParams, ...] = ()
    """With `train.lag`, the policies before the newest one, oldest first. The oldest one acts."""

    def lagged(self, policy: PolicyParams, *, all: bool = False) -> "RunState":
        """The state with this policy appended and the oldest removed; with `all`, every policy becomes this one."""
        return self._replace(lagging=(policy,) * len(self.lagging) if all else (*self.lagging, policy)[1:])

    def without_metrics(self) -> "RunState":
        """The state with all metrics zero, for after they were logged."""
        return self._replace(metrics=jax.tree.map(jnp.zeros_like, whole(self.metrics)))


def init_run(agent: Agent, spec: TaskSpec, schedule: Schedule, seed: int) -> tuple[RunState, PolicyParams]:
    """The initial state, and the parameters of its policy."""
    times, environments = schedule.room(spec.horizon, agent.data), schedule.environments
    # The seed is an argument, not a constant, so that one compiled program serves all seeds.
    stepwise = schedule.steps_per_learning is not None
    arrays = programs().for_one("init", partial(_arrays, agent, spec, times, environments, schedule.capacity, stepwise))
    check_fits(arrays.trace(key_for(seed, Stream.INIT)).jaxpr)
    state, policy, carry, replay, metrics = arrays(key_for(seed, Stream.INIT))
    collected = Collected(no_steps(spec, times, environments), np.zeros((), np.int64))
    episodes, lagging = empty_episodes(spec, environments), (policy,) * schedule.lag
    return RunState(state, carry, replay, metrics, collected, episodes, Counters(), lagging), policy


def _arrays(
    agent: Agent,
    spec: TaskSpec,
    times: int,
    environments: int,
    capacity: int,
    stepwise: bool,
    key: Key[Array, ""],
) -> tuple[State, PolicyParams, Carry, Replay | None, Metrics]:
    """The arrays of the initial state that are on the device."""
    obs = jax.ShapeDtypeStruct((environments, spec.obs_size), np.float32)
    state, replay = agent.init(key), None
    if agent.data == "replay":
        replay = init_replay(capacity, spec.obs_size, spec.action_size)
    policy = agent.policy(state)
    data = replay if agent.data == "replay" else no_steps(spec, times, environments)
    # Stepwise agents learn after every few steps, which would be many lines; the others log each call as it is.
    metrics = jax.eval_shape(traced_once(agent.learn), state, data, key)[1] if stepwise else {}
    return state, policy, _zeros(jax.eval_shape(agent.begin, policy, obs, key)), replay, _zeros(metrics)


def no_steps(spec: TaskSpec, times: int, environments: int) -> Trajectories:
    """Empty arrays for the steps of `times` times in each environment."""
    rows, zeros = (times, environments), cast(Any, np.zeros)
    return Trajectories(
        obs=zeros((*rows, spec.obs_size), np.float32),
        action=zeros((*rows, spec.action_size), np.float32),
        reward=zeros(rows, np.float32),
        next_obs=zeros((*rows, spec.obs_size), np.float32),
        terminated=zeros(rows, bool),
        over=zeros(rows, bool),
        time=zeros(rows, np.int32),
        valid=zeros(rows, bool),
    )


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), tree)
