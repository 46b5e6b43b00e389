"""Parts: what may follow a preset's name after a `+`. Each is about one axis, and a preset takes one part of each axis.

A part is a file in `presets/parts/` that holds, beside the settings it changes:

| key | what it says |
|---|---|
| `description` | what the part makes of a preset |
| `axis` | what it is about, see `AXES` |
| `needs` | conditions on the settings of the run, by path: the least value or values to avoid, and the reason |
| `undoes` | settings that must have been so before: the part is only there to change them |
| `not_with` | agents that it does not go with, and the reason |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pydantic import BaseModel

from foretell import registry
from foretell.errors import UserError, nearest
from foretell.runs.files import parse
from foretell.runs.mistakes import no_setting
from foretell.runs.schema import Tree, agent_class, locate
from foretell.runs.trees import leaf_paths, merge, value_at

PARTS = resources.files("foretell") / "presets" / "parts"
AXES = {
    "model": "the model of the dynamics",
    "propagation": "how particles go through the model",
    "planner": "the search for actions",
    "target": "what critics learn from",
    "networks": "ensembles or single networks",
    "pairs": "where critics learn",
    "learner": "the actor-critic learner",
    "data": "what the model learns from",
    "branches": "where imagined branches end",
    "schedule": "how much is learned for each step",
    "fidelity": "the paper, or its released code",
    "accuracy": "how exact model and search are",
}
"""In the order in which parts are applied, in whatever order they are written."""


@dataclass(frozen=True)
class Part:
    """A part, as its file has it."""

    name: str
    description: str
    axis: str
    settings: Tree
    needs: Mapping[str, Mapping[str, Any]]
    undoes: Mapping[str, Any]
    not_with: Mapping[str, str]


def part_names() -> list[str]:
    """All parts, in alphabetical order."""
    return sorted(file.name.removesuffix(".yaml") for file in PARTS.iterdir() if file.name.endswith(".yaml"))


def read_part(name: str) -> Part:
    """A part by its name. Raises `UserError` if there is none."""
    if name not in part_names():
        raise UserError(f"no part '{name}' for a preset{nearest(name, part_names())}")
    tree = parse((PARTS / f"{name}.yaml").read_text())
    conditions = [tree.pop(key, {}) for key in ("needs", "undoes", "not_with")]
    return Part(name, tree.pop("description"), tree.pop("axis"), tree, *conditions)


def parts_by_axis() -> dict[str, list[Part]]:
    """All parts, in the order of the axes."""
    parts = [read_part(name) for name in part_names()]
    return {axis: [part for part in parts if part.axis == axis] for axis in AXES}


def in_order(names: Sequence[str]) -> list[Part]:
    """The parts of these names, in the order in which they are applied. Raises `UserError` if two are of one axis."""
    chosen: dict[str, Part] = {}
    for part in map(read_part, names):
        other = chosen.setdefault(part.axis, part)
        if other.name == part.name and other is not part:
            raise UserError(f"the part '{part.name}' is given twice; keep one")
        if other is not part:
            raise UserError(f"the parts '{other.name}' and '{part.name}' both choose the {part.axis}; keep one")
    return sorted(chosen.values(), key=lambda part: list(AXES).index(part.axis))


def apply(part: Part, tree: Tree) -> dict[str, Any]:
    """The tree of a preset with a part on top. Raises `UserError` if the part does not fit."""
    cls = agent_class(tree.get("agent"))
    _check_agent(part, str(tree.get("agent")), cls)
    _check_undone(part, tree)
    merged = merge(tree, part.settings)
    for path in leaf_paths(part.settings):
        if locate(cls, merged, path.split(".")).field is None:
            raise UserError(f"the part '{part.name}' does not fit: {no_setting(path, cls, merged)}")
    return merged


def check_needs(part: Part, settings: BaseModel) -> None:
    """Raises `UserError` unless the settings of a run are such that a part says what it makes of them."""
    for path, need in part.needs.items():
        value = value_at(settings, path)
        if value in need.get("not", ()):
            raise UserError(f"the part '{part.name}' cannot be combined with {path}={value}: {need['reason']}")
        if "least" in need and value is not None and value < need["least"]:
            least = need["least"]
            raise UserError(f"the part '{part.name}' needs {path} of at least {least}, not {value}: {need['reason']}")


def _check_agent(part: Part, agent: str, cls: type[BaseModel]) -> None:
    """Raises `UserError` if a part is not for this agent."""
    foreign = [section for section in part.settings if section not in cls.model_fields]
    if foreign:
        raise UserError(f"the part '{part.name}' changes '{foreign[0]}', which the agent '{agent}' does not have")
    for other, reason in part.not_with.items():
        if issubclass(cls, registry.find("agent", other)):
            raise UserError(f"the part '{part.name}' cannot be combined with the agent '{agent}': {reason}")


def _check_undone(part: Part, tree: Tree) -> None:
    """Raises `UserError` if there is nothing to undo."""
    for path, value in part.undoes.items():
        if value_at(tree, path) != value:
            makers = [name for name in part_names() if value_at(read_part(name).settings, path) == value]
            said = str(value).lower()
            raise UserError(f"the part '{part.name}' has no effect without {path}={said}; add {' or '.join(makers)}")
