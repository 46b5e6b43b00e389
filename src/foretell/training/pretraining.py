"""Runs that go on from others: the stages before a run, and the agent it starts with."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from foretell.agents import Agent, Pretrained, RunSettings
from foretell.agents.base import State
from foretell.errors import UserError
from foretell.runs.checkpoint import Checkpoints
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import preset_names, resolve
from foretell.tasks import Task, make_task
from foretell.training.state import init_run


def stages(settings: RunSettings, chosen: Mapping[str, Any]) -> list[str]:
    """The presets that must have been trained before one of these settings, first stage first. Raises `UserError`."""
    found: list[str] = []
    while (preset := str(settings.train.pretrained)).partition("+")[0] in preset_names():
        found.insert(0, preset)
        settings = resolve(preset, [chosen])
    return found


def pretrained(
    settings: RunSettings, task: Task, agent: Agent, seed: int, functions: Mapping[str, Any]
) -> State | None:
    """The agent to start with, from another run's newest checkpoint. Raises `UserError` if it does not fit."""
    if settings.train.pretrained is None:
        return None
    directory = RunDirectory.open(Path(settings.train.pretrained))
    other, _, their_seed = directory.read_config()
    own = init_run(agent, task.spec, settings.train, seed)[0].agent
    their_task = make_task(other.task, functions)
    sizes, theirs = ((t.spec.obs_size, t.spec.action_size) for t in (task, their_task))
    if sizes != theirs:
        raise UserError(
            f"the run in train.pretrained='{settings.train.pretrained}' has observations and actions of sizes {theirs} "
            f"in '{their_task.spec.env_id}', not {sizes} as '{task.spec.env_id}'"
        )
    like, _ = init_run(other.build(their_task), their_task.spec, other.train, their_seed)
    settings.start_from(Pretrained(other, like.agent), own)  # what does not fit is said before it is read
    with closing(Checkpoints(directory.checkpoints)) as checkpoints:
        return settings.start_from(Pretrained(other, checkpoints.restore(like, lambda _: None).agent), own)
