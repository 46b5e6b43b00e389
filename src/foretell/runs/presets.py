"""Presets and overrides: from YAML to validated settings, every mistake told in one sentence."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from foretell.errors import UserError, nearest
from foretell.settings import kinds

if TYPE_CHECKING:  # it imports JAX, for which `foretell presets` must not wait
    import foretell.agents

PRESETS = resources.files("foretell") / "presets"
PARTS = PRESETS / "parts"


def preset_names() -> list[str]:
    """All presets, as `family/name`."""
    return sorted(
        f"{family.name}/{file.name.removesuffix('.yaml')}"
        for family in PRESETS.iterdir()
        if family.is_dir() and family.name != PARTS.name
        for file in family.iterdir()
        if file.name.endswith(".yaml")
    )


def part_names() -> list[str]:
    """What may follow a preset's name after a `+`."""
    return sorted(file.name.removesuffix(".yaml") for file in PARTS.iterdir() if file.name.endswith(".yaml"))


def describe(name: str) -> str:
    """A preset's or part's line in a list."""
    file = PARTS / f"{name}.yaml" if "/" not in name else PRESETS / f"{name}.yaml"
    return yaml.safe_load(file.read_text())["description"]


def read_preset(name: str) -> dict[str, Any]:
    """A preset with the parts that follow it merged over it in order, as in `pets/cartpole+de+ts1`. Raises `UserError`.

    A preset may name another as its `base`, over which it is merged.
    """
    name, *parts = name.split("+")
    if name not in preset_names():
        raise UserError(f"no preset '{name}'{nearest(name, preset_names()) or '; see `foretell presets`'}")
    tree = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    base = tree.pop("base", None)
    tree = merge(read_preset(base), tree) if base else tree
    for part in parts:
        if part not in part_names():
            raise UserError(f"no part '{part}' for a preset{nearest(part, part_names())}")
        over = yaml.safe_load((PARTS / f"{part}.yaml").read_text())
        _check_part(part, over, str(tree["agent"]))
        tree = merge(tree, {**over, "description": f"{tree['description']}; {over['description']}"})
    return tree


def _check_part(part: str, over: Mapping[str, Any], agent: str) -> None:
    """Raises `UserError` if a part changes sections that the agent does not have."""
    foreign = [section for section in over if section not in _fields(str(over.get("agent", agent)))]
    if foreign:
        raise UserError(f"the part '{part}' changes '{foreign[0]}', which the agent '{agent}' does not have")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, section by section; neither is changed.

    Where it changes what kind a section is of, the settings that the new kind does not have are left out.
    """
    merged = dict(base)
    if over.get("agent", base.get("agent")) != base.get("agent"):
        merged = {name: value for name, value in merged.items() if name in _fields(str(over["agent"]))}
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            if value.get("kind", below.get("kind")) != below.get("kind"):
                below = _known(str({**base, **over}.get("agent")), key, value["kind"], below)
            value = merge(below, value)
        merged[key] = value
    return merged


def _fields(agent: str) -> Mapping[str, Any]:
    """The sections of an agent's settings; none if there is no such agent."""
    from foretell.agents import AGENTS

    return AGENTS[agent].model_fields if agent in AGENTS else {}


def _known(agent: str, section: str, kind: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """What of a section's settings it also has as another kind."""
    field = _fields(agent).get(section)
    cls = kinds(field.annotation).get(str(kind)) if field else None
    return {key: value for key, value in tree.items() if cls is None or key in cls.model_fields}


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
    loc = list(map(str, fault["loc"]))
    options = kinds(settings.model_fields[loc[0]].annotation) if loc and loc[0] in settings.model_fields else {}
    kind = loc.pop(1) if len(options) > 1 and len(loc) > 1 else None  # it is in the tree, not in the path
    path = ".".join(loc)
    if fault["type"] == "extra_forbidden":
        among = f" with {loc[0]}.kind={kind}" if kind else ""
        owners = [name for name, cls in options.items() if kind and loc[-1] in cls.model_fields]
        if owners:
            return f"no setting '{path}'{among}, only {' or '.join(owners)}"
        return f"no setting '{path}'{among}{_nearest_setting(path, kind, settings)}"
    if fault["type"] in ("model_type", "model_attributes_type"):
        return f"'{path}' is a section and cannot be {fault['input']!r}; set one of {path}.KEY=VALUE"
    if fault["type"] == "union_tag_invalid":
        if not isinstance(fault["input"], Mapping):
            return f"'{path}' is a section and cannot be {fault['input']!r}; set one of {path}.KEY=VALUE"
        return f"no {path}.kind '{fault['ctx']['tag']}'{nearest(fault['ctx']['tag'], options)}"
    if fault["type"] == "value_error":
        return f"{path}: {fault['ctx']['error']}" if path else str(fault["ctx"]["error"])
    if fault["type"] == "missing":
        return f"the setting '{path}' is missing"
    return f"{path}={fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:].replace('tuple', 'list')}"


def _nearest_setting(path: str, kind: str | None, settings: type[BaseModel]) -> str:
    """The settings of that name, else of the most similar in the section, else anywhere; else all in the section."""
    section, _, key = path.rpartition(".")
    paths = setting_paths(settings, {section: kind} if kind else {})
    names = {p: p.rpartition(".")[2] for p in [*settings.model_fields, *paths]}
    inside = {p: name for p, name in names.items() if p.rpartition(".")[0] == section}
    namesakes = {p: name for p, name in names.items() if name == key}
    for scope in (namesakes, inside, names):
        close = get_close_matches(key, sorted(scope.values()), n=1)
        if close:
            return f"; did you mean {' or '.join(repr(p) for p, name in scope.items() if name == close[0])}?"
    return nearest(key, (name for name in inside.values() if not (kind and name == "kind")))


def setting_paths(settings: type[BaseModel], chosen: Mapping[str, str] | None = None) -> list[str]:
    """Every setting as `section.key`; of a section that may be of several kinds those of the chosen one, or of all."""
    paths: list[str] = []
    for name, field in settings.model_fields.items():
        options = kinds(field.annotation)
        wanted = (chosen or {}).get(name)
        inside = [cls for kind, cls in options.items() if wanted in (None, kind)]
        paths += dict.fromkeys(f"{name}.{key}" for cls in inside for key in setting_paths(cls)) if options else [name]
    return paths


def continued(
    settings: "foretell.agents.RunSettings", overrides: Sequence[Mapping[str, Any]]
) -> "foretell.agents.RunSettings":
    """The settings of a run with what may still change in it changed. Raises `UserError`."""
    tree = settings.model_dump()
    free = [path for path in setting_paths(type(settings)) if path.startswith("train.") and path != "train.capacity"]
    for override in overrides:
        for path in leaf_paths(override):
            if not path.startswith("train.") or path == "train.capacity":
                raise UserError(
                    f"a resumed run keeps its settings: '{path}' cannot change"
                    f"{nearest(path, free) or ', only those of section train'}"
                )
        tree = merge(tree, dict(override))
    return validate(tree)
