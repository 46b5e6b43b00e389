"""Presets that imitate any planner: task and planner are those of the run or preset in `train.pretrained`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell.errors import UserError
from foretell.runs.parts import Part
from foretell.runs.schema import Tree
from foretell.runs.trees import merge, value_at

_TAKEN_OVER = ("task", "model", "fit", "imagination", "reward_model", "reward_fit", "planner", "guide")


def with_planner(tree: Tree, parts: Sequence[Part], overrides: Sequence[Tree]) -> Tree:
    """A preset with the task and the planner of the run or preset that overrides choose as `train.pretrained`.

    This concerns presets of imitation that leave the environment open; others come back as they are.

    Args:
        tree: the preset.
        parts: those that it was made with, which are applied again.
        overrides: settings on top of it.

    Raises:
        UserError: if what they choose is no planner.
    """
    stages = [str(stage) for over in overrides if (stage := value_at(over, "train.pretrained")) is not None]
    is_open = "imitation" in tree and value_at(tree, "task.env") is None
    if not is_open or not stages or stages[-1] == value_at(tree, "train.pretrained"):
        return tree
    theirs = _settings_of(stages[-1])
    if "planner" not in theirs or "imitation" in theirs:
        raise UserError(
            f"train.pretrained must be a run or a preset of a planner: '{stages[-1]}' is of '{theirs['agent']}'"
        )
    taken = {section: theirs[section] for section in _TAKEN_OVER if section in theirs}
    tree = {**tree, **taken}
    for part in parts:
        tree = merge(tree, part.settings)
    return tree


def _settings_of(stage: str) -> Mapping[str, Any]:
    """The settings of a preset, or of a run, as a tree. Raises `UserError`."""
    from foretell.runs.directory import RunDirectory
    from foretell.runs.presets import preset_names, resolve, split_name

    is_preset = split_name(stage)[0] in preset_names()
    settings = resolve(stage) if is_preset else RunDirectory.open(Path(stage)).read_config()[0]
    return settings.model_dump(mode="json")
