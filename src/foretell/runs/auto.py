"""The preset `auto`: it stands for the one that the rule in `choosing` chooses for an environment."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from foretell.envs.random_policy import random_episodes
from foretell.errors import UserError
from foretell.runs.arguments import whole_number
from foretell.runs.choosing import Seen, rule_for, sentence
from foretell.runs.presets import merge, resolve
from foretell.runs.trees import value_at
from foretell.tasks import Task, TaskSettings, make_task

AUTO = "auto"
_EPISODES, _SECONDS, _SEED = 3, 10.0, 0
"""Random episodes that are played to see whether episodes end early, and wall time after which no other one begins."""


class Decided(NamedTuple):
    """What is trained for `auto`."""

    preset: str
    overrides: list[Mapping[str, Any]]
    """With the length of the run in steps, if it was asked for in trials and the preset counts steps."""
    text: str
    """What was chosen, and why; empty if the preset was named."""


def decide(preset: str, overrides: Sequence[Mapping[str, Any]], functions: Mapping[str, Any] | None = None) -> Decided:
    """The preset that was named, or the one that is chosen for `auto`.

    Args:
        preset: a name, see `find_preset`, or `auto`.
        overrides: settings on top, in order; for `auto` they name the environment.
        functions: what `make_task` needs besides the settings.

    Raises:
        UserError: if `auto` cannot decide, in one sentence.
    """
    head, *parts = preset.split("+")
    if head != AUTO:
        return Decided(preset, list(overrides), "")
    if parts:
        raise UserError(f"auto takes no parts such as '{parts[0]}'; name a preset instead, as pets/default+{parts[0]}")
    tree: dict[str, Any] = {}
    for override in overrides:
        tree = merge(tree, override)
    only_task = [{"task": tree.get("task", {})}]
    settings = resolve("pets/default", only_task).task
    task = make_task(settings, functions)
    seen = look(task, settings, _steps_asked(tree, task.spec.horizon))
    rule = rule_for(seen)
    counts_steps = resolve(rule.preset, only_task).train.steps is not None
    more = [{"train": {"steps": seen.steps}}] if counts_steps and seen.steps is not None else []
    return Decided(rule.preset, [*overrides, *more], sentence(rule, seen))


def look(task: Task, settings: TaskSettings, steps: int | None) -> Seen:
    """What can be seen of an environment. Random episodes are played unless `task.check` is false.

    Args:
        task: made from these settings.
        settings: of the task.
        steps: length of the run, if it was asked for.

    Raises:
        UserError: if the environment fails.
    """
    terminates, longest = _tried(task, settings)
    return Seen(task.spec.obs_size, task.spec.action_size, longest, terminates, steps)


def _steps_asked(asked: Mapping[str, Any], horizon: int) -> int | None:
    """Environment steps, or whole trials in steps, if the user has given a number. Raises `UserError`."""
    for name, each in (("train.steps", 1), ("train.trials", horizon)):
        if (number := value_at(asked, name)) is not None:
            return each * whole_number(name, number, 1)
    return None


def _tried(task: Task, settings: TaskSettings) -> tuple[bool, int]:
    """Whether episodes may end early, and the steps of the longest one.

    The first is said by the task, seen in a few random episodes, or assumed if none may be played. Episodes that the
    environment truncates before the horizon do not end early: that is their length.
    """
    known, horizon = task.terminated is not None, task.spec.horizon
    if known or not task.learns_termination:
        return known, horizon
    if not settings.check:
        return True, horizon
    began, longest = time.monotonic(), 0
    for episode in random_episodes(task, _EPISODES, seed=_SEED):
        if episode.terminated:
            return True, horizon
        longest = max(longest, episode.length)
        if time.monotonic() - began > _SECONDS:
            break
    return False, longest
