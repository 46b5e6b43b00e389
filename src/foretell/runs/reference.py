"""The reference of settings, as `foretell show planner.cem` prints it: what there is, with types and defaults."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from foretell import registry
from foretell.errors import UserError, nearest
from foretell.runs.docs import attribute_docs, flow, summary, type_name
from foretell.runs.parts import AXES, Part, part_names, read_part
from foretell.runs.presets import preset_names
from foretell.runs.schema import section_class, section_classes

_NAMED = {"agent": "agent", "propagation": "imagination.propagation", "reduction": "expansion.reduction"}
"""Sections of the registry that are no sections of settings, and the setting that names one of theirs."""
_INDENT = "  "


class _User(NamedTuple):
    """An agent, and the field that it has for a section."""

    agent: str
    field: FieldInfo


def reference(name: str) -> str:
    """What there is to know about a section, a kind, a setting or a part.

    Args:
        name: such as `planner`, `planner.cem`, `planner.population`, `train`, `agent`, `pets` or `de`.

    Raises:
        UserError: if there is none of that name.
    """
    users, section = _sections(), name.partition(".")[0]
    if name in part_names():
        return _part(read_part(name))
    if name in _NAMED:
        return _registered(name)
    if name in registry.kinds("agent"):
        return _agent(name, registry.kinds("agent")[name])
    text = _section(name, users[section]) if section in users else None
    if text is None:
        known = [*reference_names(), *_setting_names(users), *preset_names()]
        raise UserError(f"there is no preset, section, setting or part '{name}'{nearest(name, known)}")
    return text


def reference_names() -> list[str]:
    """Everything that `reference` knows, but for single settings."""
    users = _sections()
    kinds = [f"{name}.{kind}" for name, found in users.items() for kind in section_classes(found[0].field) if kind]
    return sorted({*users, *kinds, *_NAMED, *registry.kinds("agent"), *part_names()})


def _setting_names(users: Mapping[str, list[_User]]) -> set[str]:
    classes = ((name, cls) for name, found in users.items() for cls in section_classes(found[0].field).values())
    return {f"{name}.{field}" for name, cls in classes for field in cls.model_fields}


def _sections() -> dict[str, list[_User]]:
    """Every section of settings, with the agents that have it."""
    found: dict[str, list[_User]] = {}
    for agent, cls in registry.kinds("agent").items():
        for name, field in cls.model_fields.items():
            if section_classes(field):
                found.setdefault(name, []).append(_User(agent, field))
    return found


def _section(name: str, users: list[_User]) -> str | None:
    """A whole section, one of its kinds, or one of its settings; None if there is no such thing.

    A section that is of another class with other agents is described once for each class.
    """
    groups: dict[tuple, list[_User]] = {}
    for user in users:
        groups.setdefault(tuple(section_classes(user.field).values()), []).append(user)
    return "\n\n".join(filter(None, (_same_section(name, group) for group in groups.values()))) or None


def _same_section(name: str, users: list[_User]) -> str | None:
    """What `_section` says of a section that is of the same class with all its users."""
    section, _, inner = name.partition(".")
    classes = section_classes(users[0].field)
    if not inner:
        only = classes.get("")
        about = summary(only.__doc__) if only else f"chosen by {section}.kind"
        head = [f"{section}: {about}", f"{_INDENT}agents: {', '.join(user.agent for user in users)}", *_off(users)]
        return "\n".join(
            [*head, "", *(_settings(only, users) if only else _all_kinds(section, classes)), *_tasks(name)]
        )
    if inner in classes:
        return "\n".join([f"{section}.kind={inner}: {summary(classes[inner].__doc__)}", "", *_settings(classes[inner])])
    found: dict[str, list[str]] = {}
    for kind, cls in classes.items():
        if inner in cls.model_fields:
            found.setdefault("\n".join(_settings(cls, users, {inner})), []).append(kind)
    return "\n".join(f"{_head(section, kinds)}\n{text}" for text, kinds in found.items()) or None


def _off(users: list[_User]) -> list[str]:
    """Which agents do without a section unless it is asked for."""
    agents = [user.agent for user in users if user.field.default is None]
    return [f"{_INDENT}null by default: {', '.join(agents)}"] if agents else []


def _tasks(name: str) -> list[str]:
    text = f"registered tasks: {', '.join(registry.kinds('task'))}"
    return ["", *textwrap.wrap(text, 118, subsequent_indent=_INDENT, break_on_hyphens=False)] if name == "task" else []


def _all_kinds(section: str, classes: Mapping[str, type[BaseModel]]) -> Iterator[str]:
    """The kinds of a section: what they are, what they share, and what each has for itself."""
    width = max(map(len, classes))
    for kind, cls in classes.items():
        yield f"{_INDENT}{kind:{width}}  {summary(cls.__doc__)}"
    shared = set.intersection(*(set(cls.model_fields) for cls in classes.values())) - {"kind"}
    if shared:
        yield from ("", _head(section, list(classes)), *_settings(next(iter(classes.values())), only=shared))
    for kind, cls in classes.items():
        own = set(cls.model_fields) - shared - {"kind"}
        if own:
            yield from ("", _head(section, [kind]), *_settings(cls, only=own))


def _head(section: str, kinds: list[str]) -> str:
    return f"{section}.kind={' or '.join(kinds)}:" if any(kinds) else f"{section}:"


def _settings(cls: type[BaseModel], users: list[_User] | None = None, only: set[str] | None = None) -> Iterator[str]:
    """Each setting of a class: its name, type and default, and below that what is written about it."""
    docs, indent = attribute_docs(cls), 3 * _INDENT
    for name, field in cls.model_fields.items():
        if (only is None and name != "kind") or (only is not None and name in only):
            yield f"{_INDENT}{name}: {type_name(field)}{_default(name, field, users or [])}"
            yield from textwrap.wrap(
                docs.get(name, ""), 116, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
            )


def _default(name: str, field: FieldInfo, users: list[_User]) -> str:
    """The default of a setting, which may depend on the agent whose section it is in."""
    agents: dict[str, list[str]] = {}
    for user in users:
        section = user.field.default
        value = getattr(section, name, None) if isinstance(section, BaseModel) else _fresh(field)
        agents.setdefault(flow(value), []).append(user.agent)
    if field.is_required() and not any(isinstance(user.field.default, BaseModel) for user in users):
        return ""
    first, *others = agents or [flow(_fresh(field))]
    return f" = {first}" + "".join(f", or {value} with {' and '.join(agents[value])}" for value in others)


def _fresh(field: FieldInfo) -> Any:
    """The default that a field itself has."""
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _part(part: Part) -> str:
    lines = [line for section, value in part.settings.items() for line in _wrapped(f"{section}: {flow(value)}")]
    head = f"part {part.name}: {part.description}"
    return "\n".join([head, f"{_INDENT}axis: {part.axis}, {AXES[part.axis]}", *lines])


def _wrapped(text: str) -> list[str]:
    """A section of a part as lines."""
    return textwrap.wrap(
        text, 116, initial_indent=_INDENT, subsequent_indent=3 * _INDENT, break_on_hyphens=False, break_long_words=False
    )


def _registered(name: str) -> str:
    """What a setting may name."""
    found = registry.kinds(name)
    width = max(map(len, found))
    lines = [f"{_INDENT}{kind:{width}}  {summary(thing.__doc__)}".rstrip() for kind, thing in found.items()]
    return "\n".join([f"{_NAMED[name]}, one of:", *lines])


def _agent(name: str, cls: type[BaseModel]) -> str:
    """The sections of an agent."""
    lines, docs = [], attribute_docs(cls)
    for section, field in cls.model_fields.items():
        if section_classes(field):
            inner = section_class(field, {})
            text = docs.get(section) or (inner.__doc__ if inner else "")
            lines.append(f"{_INDENT}{section:13}  {summary(text)}")
    return "\n".join([f"agent {name}: {summary(cls.__doc__)}", *lines])
