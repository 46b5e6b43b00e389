"""Environments stepped together.

An action beyond the bounds is kept as the agent gave it, and executed as the nearest within them (`tasks/border.py`).
"""

from collections.abc import Mapping
from contextlib import closing
from types import MappingProxyType

import gymnasium
import numpy as np
from jaxtyping import Float

from foretell.envs.episodes import Episodes
from foretell.envs.physics import physics
from foretell.envs.simulators import Options, Past, begin_episode, repeat_episode, restore_episode, take_step
from foretell.envs.workers import make_simulators
from foretell.keys import Stream, environment_seed, numpy_generator
from foretell.tasks import Task, TaskSpec


class Environments:
    """Copies of a task's environment; an episode in one is decided by the run's seed, its number and the actions."""

    def __init__(self, task: Task, count: int, seed: int, workers: int = 1) -> None:
        """Make the copies.

        Args:
            task: the task.
            count: how many.
            seed: the run's.
            workers: processes that step them; 1: this process.

        Raises:
            UserError: if they cannot be made.
        """
        self._task, self._spec, self._seed = task, task.spec, seed
        self._simulators = make_simulators(task, count, workers)
        self.copies = self._simulators.envs
        self._random: dict[int, np.ndarray] = {}

    def close(self) -> None:
        self._simulators.close()

    def begin(self, episodes: Episodes, numbers: Mapping[int, int], *, random: bool = False) -> None:
        """Start the episode of this number in each of these environments. Raises `UserError`.

        Args:
            episodes: those under way.
            numbers: by the index of the environment.
            random: whether to act randomly in them.
        """
        starts = {row: start(self._task, self._seed, number, random=random) for row, number in numbers.items()}
        found = self._simulators.call(begin_episode, starts)
        for (row, number), obs in zip(numbers.items(), found, strict=True):
            episodes.clear(row)
            episodes.obs[row, 0] = obs
            episodes.number[row] = number
            if row == 0:
                episodes.clock[...] = 0

    def repeat(
        self, episodes: Episodes, states: Mapping[int, np.ndarray] = MappingProxyType({}), *, random: bool = False
    ) -> dict[int, bool]:
        """Bring every environment to where its episode was left, by repeating the actions of the episode.

        Args:
            episodes: those under way.
            states: what `physics` returned when they were left, for environments that do not repeat themselves.
            random: whether the episodes are random ones.

        Returns:
            For each environment whose episode cannot be repeated, whether its physical state was restored instead.

        Raises:
            UserError: if an environment fails.
        """
        under_way = np.flatnonzero(episodes.number >= 0).tolist()
        past = {row: self._past(episodes, row, random) for row in under_way}
        differs = self._simulators.call(repeat_episode, past)
        lost = [row for row, step in zip(under_way, differs, strict=True) if step is not None]
        offered = {row: (*past[row], states[row]) for row in lost if row in states}
        restored = dict(zip(offered, self._simulators.call(restore_episode, offered), strict=True))
        return {row: restored.get(row, False) for row in lost}

    def physics(self, episodes: Episodes) -> dict[int, Float[np.ndarray, "numbers"]]:
        """The physical state of each environment with an episode under way, where MuJoCo offers it."""
        under_way = np.flatnonzero(episodes.number >= 0).tolist()
        states = self._simulators.call(physics, dict.fromkeys(under_way, ()))
        return {row: state for row, state in zip(under_way, states, strict=True) if state.size}

    def random_actions(self, episodes: Episodes) -> Float[np.ndarray, "environments action"]:
        """Uniform within the bounds; those of an episode are decided by the run's seed and its number."""
        numbers, spec = episodes.number.tolist(), self._spec
        for number in numbers:
            if number not in self._random:
                self._random[number] = random_actions(spec, self._seed, number)
        self._random = {number: self._random[number] for number in numbers}
        last = spec.horizon - 1  # for environments that wait
        return np.stack([self._random[n][min(t, last)] for n, t in zip(numbers, episodes.length, strict=True)])

    def step(self, episodes: Episodes, actions: Float[np.ndarray, "environments action"], limit: int) -> None:
        """Execute one action in each environment whose episode goes on. Raises `UserError`.

        An episode is over when the environment says so, or after `limit` steps.
        """
        rows = episodes.running
        found = self._simulators.call(take_step, {row: (actions[row],) for row in rows})
        for row, (obs, reward, terminated, truncated, success) in zip(rows, found, strict=True):
            t = int(episodes.length[row])
            episodes.obs[row, t + 1], episodes.actions[row, t] = obs, actions[row]
            episodes.rewards[row, t], episodes.success[row] = reward, success
            episodes.length[row] = t + 1
            episodes.terminated[row] = terminated
            episodes.over[row] = terminated or truncated or t + 1 == limit
        episodes.clock[...] += 1

    def _past(self, episodes: Episodes, row: int, random: bool) -> tuple[int, Options, Past]:
        """How the episode in an environment has started, and the steps since then."""
        length = int(episodes.length[row])
        actions = episodes.actions[row, :length].astype(np.float32)  # the type they were given in
        past = Past(episodes.obs[row, : length + 1].copy(), actions, episodes.rewards[row, :length].copy())
        return *start(self._task, self._seed, int(episodes.number[row]), random=random), past


def random_actions(spec: TaskSpec, seed: int, number: int) -> Float[np.ndarray, "horizon action"]:
    """The actions of a random episode, as many as it may have."""
    generator = numpy_generator(seed, Stream.RANDOM, number)
    return generator.uniform(spec.action_low, spec.action_high, (spec.horizon, spec.action_size)).astype(np.float32)


def reset(env: gymnasium.Env, task: Task, seed: int, number: int, *, random: bool) -> np.ndarray:
    """Begin episode `number` of the run with this seed, to act randomly or not; its first observation."""
    return begin_episode(env, *start(task, seed, number, random=random))


def start(task: Task, seed: int, number: int, *, random: bool) -> tuple[int, Options]:
    """The seed and the options of the reset with which episode `number` of the run with this seed begins."""
    return environment_seed(seed, number), task.reset_options(random=random)


def first_difference(task: Task, seed: int, number: int, past: Past, *, random: bool) -> int | None:
    """Play an episode of a run again in a new environment, see `repeat_episode`. Raises `UserError`."""
    with closing(task.make()) as made:
        return repeat_episode(made, *start(task, seed, number, random=random), past)
