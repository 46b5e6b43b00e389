"""The simulators of a batch of environments, and the functions called for each: reset, step, repeat an episode."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from jaxtyping import Float

from foretell.envs.episodes import UNSAID
from foretell.envs.physics import put_physics
from foretell.errors import UserError
from foretell.tasks import Task
from foretell.tasks.border import SUCCESS, truth

Options = dict[str, Any] | None
"""The options of a reset."""


class Step(NamedTuple):
    """The result of a step of an environment."""

    obs: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    success: int
    """1 if the goal is reached, 0 if not, `UNSAID` if the environment does not say."""


def begin_episode(env: gymnasium.Env, seed: int, options: Options) -> np.ndarray:
    """Begin an episode, and return its first observation."""
    return env.reset(seed=seed, options=options)[0]


def take_step(env: gymnasium.Env, action: Float[np.ndarray, "action"]) -> Step:
    """Execute an action."""
    obs, reward, terminated, truncated, info = env.step(action)
    success = succeeded(info)
    return Step(obs, float(reward), bool(terminated), bool(truncated), UNSAID if success is None else int(success))


def succeeded(info: dict[str, Any]) -> bool | None:
    """Whether an environment reports that the goal is reached; None if it reports nothing that is true or false."""
    said = (truth(info[key]) for key in SUCCESS if info.get(key) is not None)
    return next((each for each in said if each is not None), None)


class Past(NamedTuple):
    """The steps of an episode that were taken before."""

    obs: Float[np.ndarray, "steps+1 obs"]
    actions: Float[np.ndarray, "steps action"]
    rewards: Float[np.ndarray, "steps"]


def repeat_episode(env: gymnasium.Env, seed: int, options: Options, past: Past) -> int | None:
    """Begin an episode and execute its actions again, up to the first step that differs.

    Returns:
        The number of that step, 0 if the reset differs; None if the whole episode is as before.
    """
    if not np.array_equal(begin_episode(env, seed, options), past.obs[0]):
        return 0
    for t, action in enumerate(past.actions):
        try:
            obs, reward, terminated, truncated, _ = env.step(action)
        except UserError:
            return t + 1
        ended = (terminated or truncated) and t + 1 < len(past.actions)
        if ended or float(reward) != past.rewards[t] or not np.array_equal(obs, past.obs[t + 1]):
            return t + 1
    return None


def restore_episode(
    env: gymnasium.Env, seed: int, options: Options, past: Past, state: Float[np.ndarray, "numbers"]
) -> bool:
    """Put an environment that does not repeat an episode into the physical state in which it was; whether that works.

    The actions are executed first, so that wrappers count their steps.
    """
    begin_episode(env, seed, options)
    try:
        for action in past.actions:
            env.step(action)
    except UserError:
        return False
    return put_physics(env, state, past.obs[-1])


class Simulators:
    """Simulators in this process, called one after the other."""

    def __init__(self, task: Task, count: int) -> None:
        """Make `count` simulators. Raises `UserError` if that fails."""
        self.envs: Sequence[gymnasium.Env] = [task.make() for _ in range(count)]

    def call(self, function: Callable[..., Any], arguments: Mapping[int, tuple]) -> list[Any]:
        """Call one of the functions above for some of the simulators.

        Args:
            function: a function whose first argument is the simulator.
            arguments: its other arguments, by the index of the simulator.

        Returns:
            The results, in the same order.
        """
        return [function(self.envs[row], *args) for row, args in arguments.items()]

    def close(self) -> None:
        for env in self.envs:
            env.close()
