"""Tiny runs of `walk.py` with every setting that is accepted, many settings at a time.

A run has as many settings with unusual values as go together. Where it fails, or is refused, it is halved until it is
clear which setting is the cause.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import bad_input
import foretell
from foretell.errors import UserError
from foretell.runs.mistakes import validate
from foretell.runs.schema import agent_class
from foretell.runs.trees import leaf_paths, merge, value_at
from foretell.training.events import Callback, StopTraining
from walked import Fault, Found, outcome
from walked_settings import BASES, Leaf, base_tree, kind_of, leaves, nested, taken

STEPS = 60
"""After which a run has gone far enough, those of evaluation included."""
SECONDS = 60, 15
"""CPU time of a run, at most: of many settings, and of one alone."""
TOGETHER = 12
"""Settings that a run changes, at most."""
MODERATE = 10
"""Numbers up to this one, and the smallest, are tried in company; larger ones alone."""
_MODES = ("pets", "sac", "trpo")
"""Agents with which the settings of `train` mean something else."""


class Change(NamedTuple):
    """A setting of a tiny run and its value."""

    base: str
    """Of `BASES`."""
    leaf: Leaf
    value: Any
    alone: bool
    """Whether the value is likely to be refused, or to take long."""

    @property
    def name(self) -> str:
        return f"{self.base}: {kind_of(self.leaf)}{self.leaf.path}={bad_input.shown(self.value)}"


Group = Sequence[Change]


class Tried(NamedTuple):
    """What came of a group."""

    group: Group
    found: Found


def changes() -> Iterator[Change]:
    """Every setting of every tiny run with values of each kind that are accepted."""
    seen: set[Any] = set()
    for name, base in BASES.items():
        tree = base_tree(*base)
        for leaf in leaves(agent_class(tree["agent"]), tree):
            place = leaf.owner, leaf.path, name if leaf.owner.__name__ == "Schedule" and name in _MODES else ""
            if place not in seen:
                seen.add(place)
                yield from (Change(name, leaf, value, alone) for value, alone in chosen(leaf))


def chosen(leaf: Leaf) -> Iterator[tuple[Any, bool]]:
    """Of the accepted values every choice, three numbers, and one or two of each other kind; whether to try it alone.

    The numbers are the smallest, the largest up to `MODERATE`, and the largest.
    """
    choices, found = list(bad_input.of_type(leaf.field)), dict[str, list[Any]]()
    distinct: dict[str, Any] = {}
    for value in (*choices, *bad_input.SETTINGS):
        with suppress(Fault, UserError):
            distinct.setdefault(repr(taken(leaf, value)), value)
    for value in distinct.values():
        found.setdefault(bad_input.sort_of(value), []).append(value)
    numbers = sorted(found.pop("number", []))
    moderate = [value for value in numbers if abs(value) <= MODERATE]
    yield from ((value, False) for value in dict.fromkeys([*moderate[:1], *moderate[-1:]]))
    yield from ((value, True) for value in numbers[-1:] if value not in moderate)
    names = [value for value in found.get("text", []) if value in choices]
    yield from ((value, False) for value in dict.fromkeys(names))
    for kind, values in found.items():
        for value in values[: 2 if kind in ("switch", "list") else 1]:
            if value not in names:
                yield value, kind == "text"


# Groups.


def name_of(group: Group) -> str:
    """The changes of a group on one line."""
    return " & ".join([group[0].name, *(change.name.partition(": ")[2] for change in group[1:])])


def packed(found: Sequence[Change]) -> list[Group]:
    """All changes in groups that go together, those that are to be tried alone by themselves."""
    groups: list[list[Change]] = []
    for change in found:
        open_ones = [] if change.alone else groups
        fitting = (group for group in open_ones if len(group) < TOGETHER and _fits(group, change))
        group = next(fitting, None)
        if group is None:
            groups.append([change])
        else:
            group.append(change)
    return groups


def _fits(group: Group, change: Change) -> bool:
    """Whether a change goes together with those of a group."""
    if group[0].alone or group[0].base != change.base or change.leaf.path in {one.leaf.path for one in group}:
        return False
    return together([*group, change]) is not None


def together(group: Group) -> dict[str, Any] | None:
    """All settings with these changes; None if they are not valid, or one undoes another."""
    tree = base_tree(*BASES[group[0].base])
    trees = [*(change.leaf.chosen for change in group), *(nested(one.leaf.path, one.value) for one in group)]
    tree = reduce(merge, trees, tree)
    wanted = {path: value_at(change.leaf.chosen, path) for change in group for path in leaf_paths(change.leaf.chosen)}
    wanted |= {change.leaf.path: change.value for change in group if not isinstance(change.value, Mapping)}
    if any(value_at(tree, path) != value for path, value in wanted.items()):
        return None
    try:
        validate(tree)
    except UserError:
        return None
    return tree


def tested(groups: Sequence[Group], run: Callable[[Sequence[Group]], Sequence[Found]]) -> list[list[Tried]]:
    """What came of each group: of the whole group if it was accepted, else of its parts, down to single changes.

    A group that failed although its parts do not is the last one in its list.

    Args:
        groups: of changes.
        run: runs groups, each in one run.
    """
    tried = list(map(Tried, groups, run(groups))) if groups else []
    split = [one for one in tried if one.found.outcome != "accepted" and len(one.group) > 1]
    parts = tested([half for one in split for half in _halves(one.group)], run) if split else []
    below = {id(one): [*parts[2 * i], *parts[2 * i + 1]] for i, one in enumerate(split)}
    for one in split:
        if one.found.fault and not any(part.found.fault for part in below[id(one)]):
            below[id(one)].append(one)
    return [below.get(id(one), [one]) for one in tried]


def _halves(group: Group) -> tuple[Group, Group]:
    middle = len(group) // 2
    return group[:middle], group[middle:]


# Runs.


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


def trained(group: Group) -> str:
    """A run with these changes; raises `Fault` if it fails, warns, or learns what is not a number."""
    tree = together(group)
    if tree is None:  # a part of a group may need the rest of it
        return "refused"
    Path("own.yaml").write_text(yaml.safe_dump(tree))

    def train() -> None:
        check_finite(foretell.train("./own.yaml", out="new", callbacks=[Stops()], quiet=True))

    with silent():
        return outcome(train)


def check_finite(run: Any) -> None:
    """Raises `Fault` if an agent has learned what is not a number."""
    import jax
    import numpy as np

    for path, leaf in jax.tree_util.tree_leaves_with_path(run._controller.state):
        if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating) and np.isnan(np.asarray(leaf)).any():
            raise Fault(f"it has learned NaN in {jax.tree_util.keystr(path)}")


@contextmanager
def silent() -> Iterator[None]:
    """Raises `Fault` at the end if a library has given a warning."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            for category in (RuntimeWarning, UserWarning, FutureWarning):
                warnings.simplefilter("always", category)
            yield
    finally:
        logging.getLogger().removeHandler(handler)
    said += [f"{one.category.__name__}: {one.message} ({Path(one.filename).name}:{one.lineno})" for one in caught]
    if said:
        raise Fault(f"a warning: {said[0]}")
