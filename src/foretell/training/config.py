"""Presets and overrides: from YAML to validated settings, every mistake told in one sentence."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from foretell.errors import UserError, nearest

if TYPE_CHECKING:  # it imports JAX, for which `foretell presets` must not wait
    import foretell.agents

PRESETS = resources.files("foretell") / "presets"


def preset_names() -> list[str]:
    """All presets, as `family/name`."""
    return sorted(
        f"{family.name}/{file.name.removesuffix('.yaml')}"
        for family in PRESETS.iterdir()
        if family.is_dir()
        for file in family.iterdir()
        if file.name.endswith(".yaml")
    )


def read_preset(name: str) -> dict[str, Any]:
    """A preset merged over the preset it names as its `base`, if any. Raises `UserError`."""
    if name not in preset_names():
        raise UserError(f"no preset '{name}'{nearest(name, preset_names()) or '; see `foretell presets`'}")
    tree = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    base = tree.pop("base", None)
    return merge(read_preset(base), tree) if base else tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, section by section; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=value` as a nested mapping; the value is read as YAML."""
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise UserError(f"--set takes key.path=value, not '{text}'")
    try:
        tree = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # the latter from a date that does not exist
        raise UserError(f"--set {path}: '{value[:80]}' is not valid YAML") from None
    for key in reversed(path.split(".")):
        tree = {key: tree}
    return tree


def leaf_paths(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The settings an override sets, as `section.key`."""
    paths = []
    for key, value in tree.items():
        paths += leaf_paths(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return paths


def resolve(preset: str, overrides: Sequence[Mapping[str, Any]] = ()) -> "foretell.agents.RunSettings":
    """The settings of a preset with overrides applied in order. Raises `UserError`."""
    tree = read_preset(preset)
    for override in overrides:
        tree = merge(tree, override)
    return validate(tree)


def validate(tree: dict[str, Any]) -> "foretell.agents.RunSettings":
    """The settings a complete tree describes. Raises `UserError`, naming the first fault."""
    from foretell.agents import AGENTS

    name = str(tree.get("agent"))
    if name not in AGENTS:
        raise UserError(f"no agent '{name}'{nearest(name, AGENTS)}")
    try:
        return AGENTS[name].model_validate(tree)
    except ValidationError as error:
        raise UserError(_sentence(error, AGENTS[name])) from None


def _sentence(error: ValidationError, settings: type[BaseModel]) -> str:
    fault = error.errors(include_url=False)[0]
    path = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"no setting '{path}'{_nearest_setting(path, settings)}"
    if fault["type"] == "model_type":
        return f"'{path}' is a section and cannot be {fault['input']!r}; set one of {path}.KEY=VALUE"
    if fault["type"] == "value_error":
        return f"{path}: {fault['ctx']['error']}" if path else str(fault["ctx"]["error"])
    if fault["type"] == "missing":
        return f"the setting '{path}' is missing"
    return f"{path}={fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:].replace('tuple', 'list')}"


def _nearest_setting(path: str, settings: type[BaseModel]) -> str:
    """The settings of that name, else of the most similar in the section, else anywhere; else all in the section."""
    section, _, key = path.rpartition(".")
    names = {p: p.rpartition(".")[2] for p in [*settings.model_fields, *setting_paths(settings)]}
    inside = {p: name for p, name in names.items() if p.rpartition(".")[0] == section}
    namesakes = {p: name for p, name in names.items() if name == key}
    for scope in (namesakes, inside, names):
        close = get_close_matches(key, sorted(scope.values()), n=1)
        if close:
            return f"; did you mean {' or '.join(repr(p) for p, name in scope.items() if name == close[0])}?"
    return nearest(key, inside.values())


def setting_paths(settings: type[BaseModel], prefix: str = "") -> list[str]:
    """Every setting as `section.key`."""
    paths = []
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            paths += setting_paths(field.annotation, f"{prefix}{name}.")
        else:
            paths.append(f"{prefix}{name}")
    return paths
