"""The simulators of a batch of environments, and the functions called for each: reset, step, repeat an episode."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from jaxtyping import Float

from foretell.envs.episodes import UNSAID
from foretell.tasks import Task
from foretell.tasks.border import SUCCESS

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
    """Whether an environment reports that the goal is reached; None if it reports nothing."""
    said = next((info[key] for key in SUCCESS if info.get(key) is not None), None)
    return None if said is None else bool(np.any(said))


def repeat_episode(
    env: gymnasium.Env, seed: int, options: Options, actions: Float[np.ndarray, "steps action"]
) -> np.ndarray:
    """Begin an episode, execute the actions taken in it before, and return the latest observation."""
    obs = begin_episode(env, seed, options)
    for action in actions:
        obs = env.step(action)[0]
    return obs


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
