"""Compares the settings of a resumed run with those of its checkpoint.

A checkpoint holds notes: the settings and the seed of its run, and the versions and device that computed it. A user may
have edited `config.yaml`: missing settings are taken from the notes, and changes that affect the results are refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from foretell.agents import RunSettings
from foretell.errors import UserError
from foretell.runs.computing import computing, difference
from foretell.runs.directory import RunDirectory
from foretell.runs.docs import flow
from foretell.runs.schema import FIXED_IN_TRAIN
from foretell.runs.trees import leaf_paths, value_at


class Notes(NamedTuple):
    """The notes of a checkpoint about its run."""

    settings: dict[str, Any]
    seed: int
    computing: dict[str, str]


def notes_of(settings: RunSettings, seed: int) -> dict[str, Any]:
    """The notes that are stored with every checkpoint, as JSON values."""
    return Notes(settings.model_dump(mode="json"), seed, computing())._asdict()


def read_notes(stored: Mapping[str, Any]) -> Notes | None:
    """The notes from a checkpoint; None without one."""
    return Notes(stored["settings"], stored["seed"], stored["computing"]) if stored else None


def check_continues(settings: RunSettings, seed: int, directory: RunDirectory, notes: Notes | None) -> list[str]:
    """Compare the settings of a run with those of its checkpoint.

    Args:
        settings: those of `config.yaml`, with missing ones from the notes.
        seed: the seed of `config.yaml`, or that of the notes.
        directory: the run directory.
        notes: those of the newest checkpoint; None without one.

    Returns:
        One sentence for the user about each change.

    Raises:
        UserError: if a change would affect the results.
    """
    if notes is None:
        return []
    config, tree = directory.config, directory.read_tree()[0]
    if seed != notes.seed:
        raise UserError(_changed("seed", seed, notes.seed, config))
    now = settings.model_dump(mode="json")
    warnings = []
    for path in leaf_paths(notes.settings):
        value, before = value_at(now, path), value_at(notes.settings, path)
        if flow(value) == flow(before) or path == "description":
            continue
        if not path.startswith("train.") or path in FIXED_IN_TRAIN:
            raise UserError(_changed(path, value, before, config))
        warnings.append(f"continuing with {path}={flow(value)}, which was {flow(before)} at the last checkpoint")
    lacking = [path for path in leaf_paths(notes.settings) if not _has(tree, path)]
    if lacking:
        warnings.insert(0, f"'{config}' does not have {_listed(lacking)}; using the values of the checkpoint")
    if changed := difference(notes.computing, computing()):
        warnings.append(f"continuing with {changed}; results may differ from those of an uninterrupted run")
    return warnings


def _changed(path: str, value: object, before: object, config: Path) -> str:
    return (
        f"'{config}' has {path}={flow(value)}, but the run was trained with {path}={flow(before)}; undo the change, "
        f"or start another run with `foretell train {config}`"
    )


def _has(tree: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return True


def _listed(paths: list[str]) -> str:
    return f"{', '.join(paths[:3])}{f' and {len(paths) - 3} more' if len(paths) > 3 else ''}"
