"""Presets and overrides: from YAML to validated settings, every mistake told in one sentence."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from foretell.errors import UserError, nearest

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
        raise UserError(f"no preset '{name}'{nearest(name, preset_names())}")
    tree = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    base = tree.pop("base", None)
    return merge(read_preset(base), tree) if base else tree


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, section by section; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=value` as a nested mapping; the value is read as YAML."""
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise UserError(f"--set takes key.path=value, not '{text}'")
    try:
        tree = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {path}: '{value}' is not valid YAML") from None
    for key in reversed(path.split(".")):
        tree = {key: tree}
    return tree


def resolve(preset: str, overrides: Sequence[dict[str, Any]] = ()) -> "RunSettings":
    """The settings of a preset with overrides applied in order. Raises `UserError`."""
    tree = read_preset(preset)
    for override in overrides:
        tree = merge(tree, override)
    return validate(tree)


def validate(tree: dict[str, Any]) -> "RunSettings":
    """The settings a complete tree describes. Raises `UserError`, naming the first fault."""
    from foretell.agents import AGENTS

    name = tree.get("agent")
    if name not in AGENTS:
        raise UserError(f"no agent '{name}'{nearest(str(name), AGENTS)}")
    try:
        return AGENTS[name].model_validate(tree)
    except ValidationError as error:
        raise UserError(_sentence(error, AGENTS[name])) from None


def _sentence(error: ValidationError, settings: type[BaseModel]) -> str:
    fault = error.errors(include_url=False)[0]
    path = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        section = _section(settings, fault["loc"][:-1])
        prefix = path.rpartition(".")[0]
        choices = [f"{prefix}.{field}" if prefix else field for field in section.model_fields]
        return f"no setting '{path}'{nearest(path, choices)}"
    if fault["type"] == "value_error":
        return f"{path}: {fault['ctx']['error']}" if path else str(fault["ctx"]["error"])
    if fault["type"] == "missing":
        return f"the setting '{path}' is missing"
    return f"{path}={fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _section(settings: type[BaseModel], path: tuple[Any, ...]) -> type[BaseModel]:
    for key in path:
        settings = settings.model_fields[key].annotation
    return settings
