"""The plan of a study: its variants and seeds, checked before anything is written."""

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from os.path import isfile
from pathlib import Path
from typing import NamedTuple

from foretell.agents import RunSettings
from foretell.errors import UserError, nearest
from foretell.experiments.files import Variant, assignments, is_study, read_study, study_names
from foretell.runs.presets import is_file, parse_override, preset_label, preset_names, resolve, split_name
from foretell.tasks import make_task
from foretell.training.pretraining import stages

_SEEDS, _MOST_SEEDS = 5, 10_000
_RESERVED = ("logs",)
"""Folders of a study that do not belong to a variant."""


class Arm(NamedTuple):
    """A variant with its resolved and checked settings."""

    label: str
    preset: str
    env: str | None
    """Replaces the environment of the preset."""
    sets: tuple[str, ...]
    """Changed settings, as `key.path=value`."""
    settings: RunSettings
    bytes: int
    """Approximate size of the replay."""

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return re.sub(r"[^\w.+=-]+", "-", self.label).strip("-.")


class Plan(NamedTuple):
    """Everything that a study runs."""

    title: str
    arms: tuple[Arm, ...]
    seeds: int
    goal: float | None
    grows: bool = False
    """Whether a study with some of these variants is continued with all of them, as in a sweep."""


def make_plan(
    names: Sequence[str],
    *,
    env: str | None = None,
    seeds: int | None = None,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    paper: bool = False,
    goal: float | None = None,
) -> Plan:
    """The plan of a study.

    Args:
        names: presets, or one study.
        env: an environment for all of them.
        seeds: number of seeds of each variant, from 0; by default the number of the study file, or 5.
        overrides: settings for all variants, as `key.path=value`.
        only: patterns of labels, such as `halfcheetah*`, that select variants; by default all.
        paper: use the variants as published, in a study that has them.
        goal: a return to be reached; by default the goal of the study file.

    Raises:
        UserError: for the first mistake in any variant.
    """
    if not names:
        raise UserError(
            "name presets, or a study: foretell study pets/cartpole pets/cartpole+ts1; see `foretell studies`"
        )
    found, own_seeds, own_goal = _variants(names, paper)
    found = _matching(found, only)
    seeds = own_seeds if seeds is None else seeds
    if not 1 <= seeds <= _MOST_SEEDS:
        raise UserError(f"seeds must be from 1 to {_MOST_SEEDS}, not {seeds}")
    if goal is not None and not math.isfinite(goal):
        raise UserError(f"goal must be a finite number, not {goal}")
    arms = tuple(make_arm(label, variant, env, overrides) for label, variant in found.items())
    check_folders(arms)
    title = names[0] if len(names) == 1 else f"{len(names)} presets"
    return Plan(f"{title}{', paper' if paper else ''}", arms, seeds, own_goal if goal is None else goal)


def _variants(names: Sequence[str], paper: bool) -> tuple[dict[str, Variant], int, float | None]:
    """The variants by label, the number of seeds, and the goal."""
    if is_study(names[0]):
        if len(names) > 1:
            raise UserError(f"'{names[0]}' is a study and cannot be combined with '{names[1]}'")
        study, folder = read_study(names[0]), Path(names[0]).parent
        if paper and not study.has_paper:
            raise UserError(f"the study '{names[0]}' has no published variants; leave out --paper")
        chosen = {label: beside(variant, folder) for label, variant in study.chosen(paper=paper).items()}
        return chosen, study.seeds, study.goal
    for name in names:
        _check_name(name)
    if paper:
        raise UserError(f"--paper needs a study, but '{names[0]}' is a preset; some presets end in -paper")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UserError(f"the preset '{twice[0]}' is given twice; keep one")
    labels = [preset_label(name) for name in names]
    named = [label if labels.count(label) == 1 else name for label, name in zip(labels, names, strict=True)]
    return {label: Variant(preset=name) for label, name in zip(named, names, strict=True)}, _SEEDS, None


def _check_name(name: str) -> None:
    """Raises `UserError` if a name in a list of presets is a study, or unknown."""
    if is_study(name):
        raise UserError(f"'{name}' is a study and cannot be combined with presets")
    if split_name(name)[0] not in preset_names() and not is_file(name):
        raise UserError(f"no preset or study '{name}'{nearest(name, [*preset_names(), *study_names()])}")


def beside(variant: Variant, folder: Path) -> Variant:
    """The variant, with a path in place of its preset if that is a file in the study file's folder."""
    path = str(folder / variant.preset)
    is_there = is_file(variant.preset) and isfile(split_name(path)[0])
    return variant.model_copy(update={"preset": path}) if is_there else variant


def _matching(variants: dict[str, Variant], patterns: Sequence[str]) -> dict[str, Variant]:
    """The variants whose labels match one of the patterns; all if there are no patterns. Raises `UserError`."""
    for pattern in patterns:
        if not fnmatch.filter(variants, pattern):
            raise UserError(f"no variant matches '{pattern}'{nearest(pattern, variants)}")
    return {label: variant for label, variant in variants.items() if not patterns or _matches(label, patterns)}


def _matches(label: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(label, pattern) for pattern in patterns)


def make_arm(label: str, variant: Variant, env: str | None, overrides: Sequence[str]) -> Arm:
    """A variant with all its settings. Raises `UserError`, with the label, if they cannot be trained."""
    sets = (*assignments(variant.set), *overrides)
    chosen = {"task": {"env": env}} if env is not None else {"task": {}}
    try:
        settings = resolve(variant.preset, [chosen, *map(parse_override, sets)])
        task = make_task(settings.task)
        settings.build(task)
        stages(settings, chosen)
    except UserError as error:
        raise UserError(str(error) if label == variant.preset else f"variant '{label}': {error}") from None
    row = 4 * (2 * task.spec.obs_size + task.spec.action_size + 3)
    return Arm(label, variant.preset, env, sets, settings, settings.train.capacity * row)


def check_folders(arms: Sequence[Arm]) -> None:
    """Raises `UserError` unless every variant has a separate folder."""
    taken: Mapping[str, str] = {}
    for arm in arms:
        if not arm.folder or arm.folder in _RESERVED:
            raise UserError(f"a variant cannot be called '{arm.label}'")
        if arm.folder in taken:
            raise UserError(f"the variants '{taken[arm.folder]}' and '{arm.label}' would share a folder; rename one")
        taken = {**taken, arm.folder: arm.label}
