"""Study files: which presets are compared, with which settings. Some are included; users write their own.

A study file is YAML: an included one, such as `pets/ablation`, or a user's, such as `./mine.yaml`. `foretell studies`
lists the included ones.
"""

from collections.abc import Iterator, Mapping
from importlib import resources
from os.path import isfile
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, FiniteFloat, PositiveInt, ValidationError

from foretell.errors import UserError, brief, nearest
from foretell.runs.files import parse
from foretell.settings import Settings

STUDIES = resources.files("foretell") / "studies"


class Variant(Settings):
    """A preset with changed settings, one of those that a study compares. A preset's name alone is a variant too."""

    preset: str
    """A preset with parts, or the path of a YAML file, relative to the study file."""
    set: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Settings on top of the preset, as `key.path: value` or as nested mappings."""


def _from_name(value: object) -> object:
    return {"preset": value} if isinstance(value, str) else value


class StudyFile(Settings):
    """The content of a study file."""

    description: str
    """What the study shows."""
    seeds: PositiveInt = 5
    """Default number of seeds of every variant; they start at 0."""
    goal: FiniteFloat | None = None
    """A return; the summary then says when each run first reached it."""
    set: dict[str, Any] = {}  # noqa: RUF012
    """Settings that change every variant at the default cost; those of the variant are applied after them."""
    variants: Annotated[dict[str, Annotated[Variant, BeforeValidator(_from_name)]], Field(min_length=1)]
    """The variants that are compared, by their labels in tables and figures."""
    paper: dict[str, Annotated[Variant, BeforeValidator(_from_name)]] = {}  # noqa: RUF012
    """Variants that `--paper` replaces, by label. It uses the other variants as they are, without `set`."""

    @property
    def has_paper(self) -> bool:
        """Whether `--paper` changes anything."""
        return bool(self.paper or self.set)

    def chosen(self, *, paper: bool) -> dict[str, Variant]:
        """The variants at the default cost, or as published."""
        if paper:
            return {**self.variants, **self.paper}
        return {
            label: Variant(preset=variant.preset, set={**self.set, **variant.set})
            for label, variant in self.variants.items()
        }


def study_names() -> list[str]:
    """All included studies, as `family/name`."""
    return sorted(
        f"{family.name}/{file.name.removesuffix('.yaml')}"
        for family in STUDIES.iterdir()
        if family.is_dir()
        for file in family.iterdir()
        if file.name.endswith(".yaml")
    )


def is_study(name: str) -> bool:
    """Whether this is the name of an included study or the path of a study file."""
    return name in study_names() or (isfile(name) and "variants" in _tree(name))


def read_study(name: str) -> StudyFile:
    """A study by its name, or from a file. Raises `UserError`."""
    try:
        found = StudyFile.model_validate(_tree(name))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        near = nearest(where, StudyFile.model_fields) if fault["type"] == "extra_forbidden" else ""
        raise UserError(f"'{name}': {where}={fault['input']!r}: {fault['msg'].lower()}{near}") from None
    if strange := [label for label in found.paper if label not in found.variants]:
        raise UserError(f"'{name}': paper names no variant '{strange[0]}'{nearest(strange[0], found.variants)}")
    return found


def assignments(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Settings as `--set` takes them: `key.path=value`, with the value as YAML on one line."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from assignments(value, f"{prefix}{key}.")
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=100_000).removesuffix("...\n").strip()
            yield f"{prefix}{key}={text}"


def _tree(name: str) -> dict[str, Any]:
    """The content of a study file, not yet validated."""
    if name in study_names():
        return parse((STUDIES / f"{name}.yaml").read_text())
    try:
        tree = parse(Path(name).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read '{name}' ({brief(error)})") from error
    return tree if isinstance(tree, dict) else {}
