"""The cases of `walk.py` for settings, made from their classes."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import bad_input
import foretell
import tiny_runs
from foretell.errors import UserError, one_line
from foretell.runs.mistakes import validate
from foretell.runs.presets import families, preset_names, read_preset
from foretell.runs.schema import agent_class, section_class, section_classes
from foretell.runs.trees import merge, value_at
from foretell.training.events import Callback, StopTraining
from walked import Case, Fault, check_sentence, outcome

STEPS = 150
"""After which a run with an accepted setting has gone far enough."""


class Stops(Callback):
    """Ends a run after some steps."""

    walks = True
    """Its runs are not shortened otherwise."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step(self, event: Any) -> None:
        self.steps += 1
        if self.steps >= STEPS:
            raise StopTraining("far enough")


BASES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    **{name: base for name, base in tiny_runs.AGENTS.items() if name not in ("staged", "workers")},
    "mve": ("mve/default", [tiny_runs.EXPANSION, tiny_runs.STEPWISE]),
    "trpo": (
        "trpo/default",
        [{key: tiny_runs.STAGES["tuner"][key] for key in ("task", "policy", "train")}, {"train": {"pretrained": None}}],
    ),
    "imitation": ("kills/imitator", [{"train": {"pretrained": "planner"}}]),
}
"""Tiny runs of all agents, which together have all settings."""
_MODES = ("pets", "sac", "trpo")
"""Agents with which the settings of `train` mean something else."""


class Leaf(NamedTuple):
    """A setting in a tree."""

    path: str
    field: FieldInfo
    owner: type[BaseModel]
    tree: Mapping[str, Any]
    """All settings, among which the section of this one has its kind."""


def settings() -> Iterator[Case]:
    """Every setting of every family with every kind of value, and runs with some of each kind that are accepted."""
    for name in (f"{family}/default" for family in families() if f"{family}/default" in preset_names()):
        tree = merge(read_preset(name), {"task": tiny_runs.ENV})
        for leaf in leaves(agent_class(tree["agent"]), tree):
            yield Case(f"{name} {leaf.path}, every kind of value", lambda leaf=leaf: _validated(leaf))
    seen: set[Any] = set()
    for name, base in BASES.items():
        tree = base_tree(*base)
        for leaf in leaves(agent_class(tree["agent"]), tree):
            place = leaf.owner, leaf.path, name if leaf.owner.__name__ == "Schedule" and name in _MODES else ""
            if place not in seen:
                seen.add(place)
                for value in _chosen(leaf):
                    run = lambda leaf=leaf, value=value: _trained(leaf, value)  # noqa: E731
                    yield Case(f"{name}: {_kind(leaf)}{leaf.path}={bad_input.shown(value)}", run)


def base_tree(preset: str, overrides: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings of a tiny run."""
    return reduce(merge, overrides, read_preset(preset))


def leaves(cls: type[BaseModel], tree: Mapping[str, Any]) -> Iterator[Leaf]:
    """All settings, those of a section's every kind."""
    for section, field in cls.model_fields.items():
        kinds = section_classes(field)
        if not kinds:
            yield Leaf(section, field, cls, tree)
        for kind in kinds:
            changed = merge(tree, {section: {"kind": kind} if kind else {}})
            with suppress(UserError):
                validate(changed)
                yield from _inside(section, field, changed)


def _inside(path: str, field: FieldInfo, tree: Mapping[str, Any]) -> Iterator[Leaf]:
    """The settings of a section, and of the sections in it."""
    cls = section_class(field, value_at(tree, path))
    assert cls is not None
    for name, inner in cls.model_fields.items():
        below = f"{path}.{name}"
        if section_class(inner, {}) is None:
            yield Leaf(below, inner, cls, tree)
        else:
            changed = merge(tree, nested(below, {}))
            with suppress(UserError):
                validate(changed)
                yield from _inside(below, inner, changed)


def nested(path: str, value: Any) -> dict[str, Any]:
    """A setting as a tree."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def _kind(leaf: Leaf) -> str:
    """The kind of its section, if it has one."""
    kind = value_at(leaf.tree, f"{leaf.path.rpartition('.')[0]}.kind")
    return f"{kind} " if kind else ""


def _accepted(leaf: Leaf, value: Any) -> bool:
    """Whether settings with this value are valid; raises `Fault` if that is not said as it should be."""
    try:
        validate(merge(leaf.tree, nested(leaf.path, value)))
    except UserError as error:
        check_sentence(str(error))
        return False
    except Exception as error:
        raise Fault(f"{leaf.path}={bad_input.shown(value)}: {one_line(repr(error))}") from error
    return True


def _validated(leaf: Leaf) -> str:
    found = [_accepted(leaf, value) for value in (*bad_input.SETTINGS, *bad_input.of_type(leaf.field))]
    return f"refused {len(found) - sum(found)} of {len(found)}"


def _chosen(leaf: Leaf) -> list[Any]:
    """Of the accepted values every choice, the smallest and the largest number, and one of each other kind."""
    choices = list(bad_input.of_type(leaf.field))
    found: dict[str, list[Any]] = {}
    for value in (*choices, *bad_input.SETTINGS):
        with suppress(Fault):
            if _accepted(leaf, value):
                found.setdefault(bad_input.sort_of(value), []).append(value)
    numbers = sorted(found.pop("number", []))
    names = [value for value in found.get("text", []) if value in choices]
    few = [value for kind, values in found.items() for value in values[: 2 if kind in ("switch", "list") else 1]]
    return [*dict.fromkeys([*numbers[:1], *numbers[-1:]]), *names, *(value for value in few if value not in names)]


def _trained(leaf: Leaf, value: Any) -> str:
    """A run with the setting."""
    Path("own.yaml").write_text(yaml.safe_dump({**merge(leaf.tree, nested(leaf.path, value))}))
    return outcome(lambda: foretell.train("./own.yaml", out="new", callbacks=[Stops()], quiet=True))
