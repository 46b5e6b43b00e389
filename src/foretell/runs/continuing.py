"""The settings of a run that continues, compared with those that its checkpoint was made with.

A checkpoint holds notes: the settings and the seed of its run, and what it was computed with. `config.yaml` is a file
that anyone may have edited; what it lacks is taken from the notes, and what would change the results is refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from foretell.agents import RunSettings
from foretell.errors import UserError
from foretell.runs.computing import computing, difference
from foretell.runs.directory import RunDirectory
from foretell.runs.docs import flow
from foretell.runs.trees import leaf_paths, value_at

_FIXED_IN_TRAIN = ("train.capacity", "train.environments", "train.steps_per_learning", "train.pretrained")
"""Settings of section `train` that decide what the steps so far were."""


class Notes(NamedTuple):
    """What a checkpoint says about its run."""

    settings: dict[str, Any]
    seed: int
    computing: dict[str, str]


def notes_of(settings: RunSettings, seed: int) -> dict[str, Any]:
    """What is stored with every checkpoint, as JSON has it."""
    return Notes(settings.model_dump(mode="json"), seed, computing())._asdict()


def read_notes(stored: Mapping[str, Any]) -> Notes | None:
    """What was stored; None if a checkpoint is from before there were notes."""
    try:
        return Notes(dict(stored["settings"]), int(stored["seed"]), dict(stored["computing"]))
    except (KeyError, TypeError, ValueError):
        return None


def check_continues(settings: RunSettings, seed: int, directory: RunDirectory, notes: Notes | None) -> list[str]:
    """Compare the settings of a run with those of its checkpoint.

    Args:
        settings: what `config.yaml` says, with what it lacks from the notes.
        seed: likewise.
        directory: of the run.
        notes: of the newest checkpoint, if there is any with notes.

    Returns:
        Sentences for the user about what has changed.

    Raises:
        UserError: if the run would not go on as it began.
    """
    if notes is None and not any(directory.checkpoints.glob("[0-9]*")):
        return []
    if notes is None:
        return ["the checkpoint does not say with which settings it was made, so config.yaml is not compared with it"]
    config, tree = directory.config, directory.read_tree()[0]
    if seed != notes.seed:
        raise UserError(_changed("seed", seed, notes.seed, config))
    now = settings.model_dump(mode="json")
    warnings = []
    for path in leaf_paths(notes.settings):
        value, before = value_at(now, path), value_at(notes.settings, path)
        if flow(value) == flow(before) or path == "description":
            continue
        if not path.startswith("train.") or path in _FIXED_IN_TRAIN:
            raise UserError(_changed(path, value, before, config))
        warnings.append(f"continuing with {path}={flow(value)}, which was {flow(before)} at the last checkpoint")
    lacking = [path for path in leaf_paths(notes.settings) if not _has(tree, path)]
    if lacking:
        warnings.insert(0, f"'{config}' lacks {_listed(lacking)}; taken from the checkpoint")
    if changed := difference(notes.computing, computing()):
        warnings.append(f"continuing with {changed}; results may differ from those of a run that never stopped")
    return warnings


def _changed(path: str, value: object, before: object, config: Path) -> str:
    return (
        f"'{config}' has {path}={flow(value)}, but the run was trained with {path}={flow(before)}; undo the change, "
        f"or begin another run with `foretell train {config}`"
    )


def _has(tree: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return True


def _listed(paths: list[str]) -> str:
    return f"{', '.join(paths[:3])}{f' and {len(paths) - 3} more' if len(paths) > 3 else ''}"
