"""Trees of settings: merged over each other, and read from the command line."""

from collections.abc import Mapping
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from foretell.errors import UserError
from foretell.runs.schema import Tree, agent_class, kind_of, section_class
from foretell.settings import section_of


def merge(base: Tree, over: Tree) -> dict[str, Any]:
    """`over` on top of `base`, section by section; neither is changed.

    A change of agent keeps the sections that the new agent has. A change of kind keeps the settings that both kinds
    have, where the new kind takes their values. A section that is not in `base` begins with the agent's own defaults.
    """
    agent = over.get("agent", base.get("agent"))
    cls = _class_or_none(agent)
    if cls is not None and agent != base.get("agent"):
        base = {key: value for key, value in base.items() if key in cls.model_fields}
    return _merged(base, over, cls)


def leaf_paths(tree: Tree, prefix: str = "") -> list[str]:
    """The settings in a tree, as `section.key`."""
    paths = []
    for key, value in tree.items():
        paths += leaf_paths(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return paths


def completed(tree: Tree, recorded: Tree) -> dict[str, Any]:
    """A tree of settings with what it lacks, sections or settings, from recorded ones of the same agent and kinds."""
    found = dict(tree)
    if any(key in tree and tree[key] != recorded.get(key) for key in ("agent", "kind")):
        return found  # which has other settings
    for key, value in recorded.items():
        below = found.get(key)
        if key not in found:
            found[key] = value
        elif isinstance(below, Mapping) and isinstance(value, Mapping):
            found[key] = completed(below, value)
    return found


def value_at(tree: object, path: str) -> Any:
    """The setting `section.key` of a tree, or of validated settings; None if there is none."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else getattr(tree, key, None)
    return tree


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=value` as a nested mapping; the value is read as YAML. Raises `UserError`."""
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals or not all(path.split(".")):
        raise UserError(f"--set takes key.path=value, not '{text}'")
    try:
        tree = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # the latter from a date that does not exist
        raise UserError(f"--set {path}: '{value[:80]}' is not valid YAML") from None
    for key in reversed(path.split(".")):
        tree = {key: tree}
    return tree


def _merged(base: Tree, over: Tree, cls: type[BaseModel] | None) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        field = None if cls is None else cls.model_fields.get(str(key))
        below = merged[key] if key in merged else _default(field)
        merged[key] = _joined(below, value, field)
    return merged


def _joined(below: Any, value: Any, field: FieldInfo | None) -> Any:
    """The value of one key."""
    if not (isinstance(below, Mapping) and isinstance(value, Mapping)):
        return value
    if field is None:
        return _merged(below, value, None)
    mark, inner = section_of(field), section_class(field, {**below, **value})
    if mark is not None and inner is not None and kind_of(mark, {**below, **value}) != kind_of(mark, below):
        below = {key: old for key, old in below.items() if key != "kind" and _takes(inner, key, old)}
    return _merged(below, value, inner)


def _takes(cls: type[BaseModel], key: str, value: Any) -> bool:
    """Whether settings of a class have this one, with this value."""
    field = cls.model_fields.get(key)
    if field is None:
        return False
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def _default(field: FieldInfo | None) -> Any:
    """The settings that a section has unless others are given."""
    default = None if field is None else field.default
    return default.model_dump() if isinstance(default, BaseModel) else None


def _class_or_none(agent: object) -> type[BaseModel] | None:
    """The settings of an agent; None if there is none."""
    try:
        return None if agent is None else agent_class(agent)
    except UserError:
        return None
