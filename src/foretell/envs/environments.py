"""Environments stepped together.

An action beyond the bounds is kept as the agent gave it, and executed as the nearest within them (`tasks/border.py`).
"""

from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float

from foretell.envs.episodes import UNSAID, Episodes
from foretell.errors import UserError
from foretell.keys import Stream, environment_seed, numpy_generator
from foretell.tasks import Task
from foretell.tasks.border import SUCCESS


class Environments:
    """Copies of a task's environment; an episode in one is decided by the run's seed, its number and the actions."""

    def __init__(self, task: Task, count: int, seed: int) -> None:
        self._task, self._spec, self._seed = task, task.spec, seed
        self.copies = [task.make() for _ in range(count)]
        self._random: dict[int, np.ndarray] = {}

    def close(self) -> None:
        for env in self.copies:
            env.close()

    def begin(self, episodes: Episodes, row: int, number: int, *, random: bool = False) -> None:
        """Start episode `number` in environment `row`, to act randomly or not. Raises `UserError`."""
        episodes.clear(row)
        episodes.obs[row, 0] = self._reset(row, number, random=random)
        episodes.number[row] = number
        if row == 0:
            episodes.clock[...] = 0

    def repeat(self, episodes: Episodes, *, random: bool = False) -> None:
        """Bring every environment to where its episode was left, a random one or not.

        Raises `UserError` if it does not get there.
        """
        for row, env in enumerate(self.copies):
            number, length = int(episodes.number[row]), int(episodes.length[row])
            if number < 0:
                continue
            obs = self._reset(row, number, random=random)
            for action in episodes.actions[row, :length].astype(np.float32):  # the type they were given in
                obs = env.step(action)[0]
            if not np.array_equal(obs, episodes.obs[row, length]):
                raise UserError(
                    f"'{self._spec.env_id}' did not repeat the first {length} steps of episode {number}: it is not "
                    "deterministic given its seed, so a run cannot be resumed within an episode"
                )

    def random_actions(self, episodes: Episodes) -> Float[np.ndarray, "environments action"]:
        """Uniform within the bounds; those of an episode are decided by the run's seed and its number."""
        numbers, spec = episodes.number.tolist(), self._spec
        for number in numbers:
            if number not in self._random:
                generator = numpy_generator(self._seed, Stream.RANDOM, number)
                drawn = generator.uniform(spec.action_low, spec.action_high, (spec.horizon, spec.action_size))
                self._random[number] = drawn.astype(np.float32)
        self._random = {number: self._random[number] for number in numbers}
        last = spec.horizon - 1  # for environments that wait
        return np.stack([self._random[n][min(t, last)] for n, t in zip(numbers, episodes.length, strict=True)])

    def step(self, episodes: Episodes, actions: Float[np.ndarray, "environments action"], limit: int) -> None:
        """Execute one action in each environment whose episode goes on. Raises `UserError`.

        An episode is over when the environment says so, or after `limit` steps.
        """
        for row in episodes.running:
            t = int(episodes.length[row])
            obs, reward, terminated, truncated, info = self.copies[row].step(actions[row])
            episodes.obs[row, t + 1], episodes.actions[row, t] = obs, actions[row]
            episodes.rewards[row, t] = float(reward)
            success = succeeded(info)
            episodes.success[row] = UNSAID if success is None else success
            episodes.length[row] = t + 1
            episodes.terminated[row] = terminated
            episodes.over[row] = terminated or truncated or t + 1 == limit
        episodes.clock[...] += 1

    def _reset(self, row: int, number: int, *, random: bool) -> np.ndarray:
        return reset(self.copies[row], self._task, self._seed, number, random=random)


def reset(env: gymnasium.Env, task: Task, seed: int, number: int, *, random: bool) -> np.ndarray:
    """Begin episode `number` of the run with this seed, to act randomly or not; its first observation."""
    options = dict(task.collecting_reset) if random and task.collecting_reset is not None else None
    return env.reset(seed=environment_seed(seed, number), options=options)[0]


def succeeded(info: dict[str, Any]) -> bool | None:
    """Whether an environment says after a step that the goal is reached; None if it does not say."""
    said = next((info[key] for key in SUCCESS if info.get(key) is not None), None)
    return None if said is None else bool(np.any(said))
