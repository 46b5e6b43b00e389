"""Checks a task before training: its environment must be reproducible, and its functions must return numbers."""

from contextlib import closing
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium.wrappers.utils import RunningMeanStd
from jaxtyping import Float

from foretell.tasks.base import Task
from foretell.tasks.choice import TaskSettings
from foretell.tasks.functions import check_function

_STEPS, _FEW = 10, 2
"""Steps of a normal episode of the check, and of one that is stopped early."""
_SEEDS = (1_111_111_111, 2_111_111_111)
"""As large as those of a run: an environment may take only small ones."""


class _Episode(NamedTuple):
    obs: Float[np.ndarray, "t+1 obs"]
    action: Float[np.ndarray, "t action"]
    reward: Float[np.ndarray, "t"]


def examine(task: Task, settings: TaskSettings) -> list[str]:
    """Run `check` with the functions that the settings name, unless `task.check` is false."""
    names = {"reward": settings.reward, "terminated": settings.terminated}
    own = {role: name for role, name in names.items() if name not in ("auto", "learned", "none")}
    return check(task, own) if settings.check else []


def check(task: Task, names: dict[str, str]) -> list[str]:
    """Play short episodes of random actions.

    Args:
        task: the task.
        names: the names of the user's functions, by role (`reward`, `terminated`).

    Returns:
        Warnings for the user, one sentence each.

    Raises:
        UserError: if the environment fails, or one of the functions returns no number on its steps.
    """
    with closing(task.make()) as env:
        bare = env.unwrapped
        _play(task, env, _SEEDS[0])
        _play(task, env, _SEEDS[0], _FEW)
        used = _play(task, env, _SEEDS[1])
    obs = used.obs.astype(np.float32)
    values = {role: check_function(task, role, name, (obs[:-1], used.action, obs[1:])) for role, name in names.items()}
    return [*_differs(task, names, values, used.reward), *_repeats(task, used, bare)]


def _differs(
    task: Task, names: dict[str, str], values: dict[str, Float[np.ndarray, "t"]], rewards: Float[np.ndarray, "t"]
) -> list[str]:
    """Whether the user's reward function is another one than the environment's."""
    if "reward" not in names or np.allclose(values["reward"], rewards, rtol=1e-2, atol=1e-3):
        return []
    apart = np.abs(values["reward"] - rewards).mean()
    return [
        f"reward '{names['reward']}' differs from the rewards of '{task.spec.env_id}' by {apart:.3g} on average of "
        f"{len(rewards)} steps; imagined rewards are the former, returns and data the latter"
    ]


def _repeats(task: Task, used: _Episode, bare: gymnasium.Env) -> list[str]:
    """Whether new copies of the environment, and one that has been used, do the same."""
    (fresh, first), (again, second) = (_play_anew(task) for _ in range(2))
    if bare is first or bare is second:
        return [
            f"'{task.spec.env_id}' is one object, which what makes it returns each time, so two cannot be used in "
            "turn, and state of earlier episodes may decide results"
        ]
    if not _same(fresh, again):
        return [
            f"'{task.spec.env_id}' is not reproducible: two new copies differ after the same seed and actions, so "
            "results cannot be repeated, and a resumed run begins a new episode"
        ]
    if not _same(fresh, used):
        return [
            f"'{task.spec.env_id}' keeps state from one episode to the next{_statistics(task)}: after reset(seed=...) "
            "a used copy differs from a new one, so results depend on earlier episodes, a run may not resume exactly, "
            "and evaluation plays in copies that lack this state"
        ]
    return []


def _statistics(task: Task) -> str:
    """The names of wrappers with running statistics, which are the usual reason."""
    names = []
    with closing(task.make()) as env:
        layer: gymnasium.Env = env
        while isinstance(layer, gymnasium.Wrapper):
            if any(isinstance(part, RunningMeanStd) for part in vars(layer).values()):
                names.append(type(layer).__name__)
            layer = layer.env
    return f", as the statistics of {' and '.join(names)}" if names else ""


def _play_anew(task: Task) -> tuple[_Episode, gymnasium.Env]:
    """An episode in a new environment, and the bare environment."""
    with closing(task.make()) as env:
        return _play(task, env, _SEEDS[1]), env.unwrapped


def _play(task: Task, env: gymnasium.Env, seed: int, steps: int = _STEPS) -> _Episode:
    """The first steps of an episode that is determined by the seed."""
    generator, spec = np.random.default_rng(seed), task.spec
    obs, actions, rewards = [env.reset(seed=seed)[0]], [], []
    for _ in range(min(steps, spec.horizon)):
        actions.append(generator.uniform(spec.action_low, spec.action_high).astype(np.float32))
        following, reward, terminated, truncated, _ = env.step(actions[-1])
        obs.append(following)
        rewards.append(reward)
        if terminated or truncated:
            break
    return _Episode(np.array(obs), np.array(actions), np.array(rewards))


def _same(one: _Episode, other: _Episode) -> bool:
    return all(map(np.array_equal, one, other))
