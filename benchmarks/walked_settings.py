"""The cases of `walk.py` for settings, made from their classes: every setting with every kind of value."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import reduce
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import bad_input
import tiny_runs
from foretell.errors import UserError, one_line
from foretell.runs.mistakes import validate
from foretell.runs.presets import families, preset_names, read_preset
from foretell.runs.schema import agent_class, section_class, section_classes
from foretell.runs.trees import merge, value_at
from walked import Case, Fault, check_sentence

BASES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    **{name: base for name, base in tiny_runs.AGENTS.items() if name not in ("imitation", "staged", "workers")},
    "mve": ("mve/default", [tiny_runs.EXPANSION, tiny_runs.STEPWISE]),
    "trpo": (
        "trpo/default",
        [{key: tiny_runs.STAGES["tuner"][key] for key in ("task", "policy", "train")}, {"train": {"pretrained": None}}],
    ),
    "imitation": ("kills/imitator", [{"train": {"pretrained": "planner"}}]),
}
"""Tiny runs of all agents, which together have all settings."""


class Leaf(NamedTuple):
    """A setting in a tree."""

    path: str
    field: FieldInfo
    owner: type[BaseModel]
    tree: Mapping[str, Any]
    """All settings, among which the section of this one is there and has its kind."""
    chosen: Mapping[str, Any]
    """The settings of this tree that chose the section and its kind."""


def settings() -> Iterator[Case]:
    """Every setting of every family with every kind of value."""
    for name in (f"{family}/default" for family in families() if f"{family}/default" in preset_names()):
        tree = merge(read_preset(name), {"task": tiny_runs.ENV})
        for leaf in leaves(agent_class(tree["agent"]), tree):
            yield Case(f"{name} {leaf.path}, every kind of value", lambda leaf=leaf: _validated(leaf))


def base_tree(preset: str, overrides: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings of a tiny run."""
    return reduce(merge, overrides, read_preset(preset))


def leaves(cls: type[BaseModel], tree: Mapping[str, Any]) -> Iterator[Leaf]:
    """All settings, those of a section's every kind."""
    for section, field in cls.model_fields.items():
        kinds = section_classes(field)
        if not kinds:
            yield Leaf(section, field, cls, tree, {})
        for kind in kinds:
            chosen = {section: {"kind": kind} if kind else {}}
            changed = merge(tree, chosen)
            with suppress(UserError):
                validate(changed)
                yield from _inside(section, field, changed, chosen)


def _inside(path: str, field: FieldInfo, tree: Mapping[str, Any], chosen: Mapping[str, Any]) -> Iterator[Leaf]:
    """The settings of a section, and of the sections in it."""
    cls = section_class(field, value_at(tree, path))
    assert cls is not None
    for name, inner in cls.model_fields.items():
        below = f"{path}.{name}"
        if section_class(inner, {}) is None:
            yield Leaf(below, inner, cls, tree, chosen)
        else:
            added = nested(below, {})
            changed = merge(tree, added)
            with suppress(UserError):
                validate(changed)
                yield from _inside(below, inner, changed, merge(chosen, added))


def nested(path: str, value: Any) -> dict[str, Any]:
    """A setting as a tree."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def kind_of(leaf: Leaf) -> str:
    """The kind of its section, if it has one."""
    kind = value_at(leaf.tree, f"{leaf.path.rpartition('.')[0]}.kind")
    return f"{kind} " if kind else ""


def taken(leaf: Leaf, value: Any) -> Any:
    """What becomes of an accepted value, such as 3 of "3"; raises `UserError` if it is not accepted.

    Raises `Fault` if that is not said as it should be.
    """
    try:
        return value_at(validate(merge(leaf.tree, nested(leaf.path, value))), leaf.path)
    except UserError as error:
        check_sentence(str(error))
        raise
    except Exception as error:
        raise Fault(f"{leaf.path}={bad_input.shown(value)}: {one_line(repr(error))}") from error


def accepted(leaf: Leaf, value: Any) -> bool:
    """Whether settings with this value are valid; raises `Fault` if that is not said as it should be."""
    try:
        taken(leaf, value)
    except UserError:
        return False
    return True


def _validated(leaf: Leaf) -> str:
    found = [accepted(leaf, value) for value in (*bad_input.SETTINGS, *bad_input.of_type(leaf.field))]
    return f"refused {len(found) - sum(found)} of {len(found)}"
