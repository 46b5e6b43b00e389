"""Runs that go on from others: the stages before a run, and the agent it starts with."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from foretell.agents import Agent, Pretrained, RunSettings
from foretell.agents.base import State
from foretell.errors import UserError
from foretell.runs.checkpoint import Checkpoints
from foretell.runs.directory import RunDirectory
from foretell.runs.docs import flow
from foretell.runs.presets import preset_names, resolve
from foretell.runs.trees import leaf_paths, value_at
from foretell.tasks import Task, make_task
from foretell.training.state import init_run


def stages(settings: RunSettings, chosen: Mapping[str, Any]) -> list[str]:
    """The presets that must have been trained before one of these settings, first stage first. Raises `UserError`."""
    found: list[str] = []
    while (preset := str(settings.train.pretrained)).partition("+")[0] in preset_names():
        found.insert(0, preset)
        settings = resolve(preset, [chosen])
    return found


class Stage(NamedTuple):
    """A preset that is trained before a run."""

    preset: str
    path: Path
    """Its run directory."""
    settings: RunSettings


def stages_of(settings: RunSettings, chosen: Mapping[str, Any], out: Path) -> list[Stage]:
    """What must have been trained before a run in `out`, first stage first. Raises `UserError`."""
    found: list[Stage] = []
    for preset in stages(settings, chosen):
        settings = resolve(preset, [chosen])
        if found:
            earlier = settings.train.model_copy(update={"pretrained": str(found[-1].path)})
            settings = settings.model_copy(update={"train": earlier})
        found.append(Stage(preset, out.with_name(f"{out.name}-{preset.replace('/', '-')}"), settings))
    return found


def to_replace(found: Sequence[Stage], seed: int, *, overwrite: bool) -> list[Stage]:
    """The stages whose directory holds another run, and those after them. Raises `UserError` unless `overwrite`."""
    for i, stage in enumerate(found):
        if not stage.path.exists() or {*stage.path.glob("*")} <= {stage.path / ".lock"}:
            continue
        settings, _, their_seed = RunDirectory.open(stage.path).read_config()
        difference = _difference(stage.settings, settings, seed, their_seed)
        if difference and not overwrite:
            raise UserError(
                f"the stage '{stage.preset}' in '{stage.path}' has {difference}; "
                "replace it with --overwrite, or choose another --out"
            )
        if difference:
            return list(found[i:])
    return []


def _difference(wanted: RunSettings, there: RunSettings, seed: int, their_seed: int) -> str:
    if seed != their_seed:
        return f"seed={their_seed}, not {seed}"
    tree, other = ({"description": "", **s.model_dump(mode="json")} for s in (wanted, there))
    for path in dict.fromkeys([*leaf_paths(tree), *leaf_paths(other)]):
        value, their_value = value_at(tree, path), value_at(other, path)
        if path == "train.pretrained":  # in a folder that may have been moved
            value, their_value = Path(str(value)).name, Path(str(their_value)).name
        if value != their_value and path != "description":
            return f"{path}={flow(their_value)}, not {flow(value)}"
    return ""


def supplied(functions: Mapping[str, Any]) -> list[str]:
    """The settings whose functions or environment are given, so that nothing is imported for them."""
    return [f"task.{name}" for name, thing in functions.items() if thing is not None and not isinstance(thing, str)]


def pretrained(
    settings: RunSettings, task: Task, agent: Agent, seed: int, functions: Mapping[str, Any]
) -> State | None:
    """The agent to start with, from another run's newest checkpoint. Raises `UserError` if it does not fit."""
    if settings.train.pretrained is None:
        return None
    directory = RunDirectory.open(Path(settings.train.pretrained))
    other, _, their_seed = directory.read_config(unused=supplied(functions))
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
