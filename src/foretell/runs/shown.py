"""The resolved settings of a run as text: YAML with a comment behind every setting."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from foretell.errors import UserError
from foretell.runs.docs import attribute_docs, flow, summary
from foretell.runs.presets import find_preset, read_preset, resolve, split_name, validate
from foretell.runs.trees import value_at
from foretell.settings import section_of

_COLUMN = 42
"""Where comments begin."""


class Departure(NamedTuple):
    """A setting that is another than elsewhere."""

    path: str
    value: Any
    there: Any
    """Its value elsewhere; None if there is no such setting, too."""


class _Base(NamedTuple):
    """What settings are compared with."""

    name: str
    settings: Any


def shown(preset: str, overrides: Sequence[Mapping[str, Any]] = ()) -> str:
    """The settings of a preset, each with the first sentence written about it: YAML, which is a preset in itself.

    Settings are marked with a * where they are others than those of the preset without parts and overrides; if there
    are none, than those of its base.

    Args:
        preset: its name, see `find_preset`.
        overrides: settings on top, as nested mappings.

    Raises:
        UserError: for the first mistake in them.
    """
    settings, base = resolve(preset, overrides), _base_of(preset, bool(overrides))
    marked = f", marked * where they are not those of {base.name}" if base else ""
    return "\n".join([f"# The settings of {preset}{marked}", *_lines(settings, base, "")])


def departures(preset: str, settings: BaseModel) -> list[Departure]:
    """Where the settings of a run are others than those of its preset without parts. Raises `UserError`."""
    other = validate(read_preset(split_name(preset)[0]))
    pairs = ((path, value, value_at(other, path)) for path, value in _leaves(settings))
    return [Departure(*pair) for pair in pairs if flow(pair[1]) != flow(pair[2]) and pair[0] != "description"]


def _base_of(preset: str, changed: bool) -> _Base | None:
    """What the settings of a preset are compared with, if anything; a base need not be complete by itself."""
    found = find_preset(preset)
    base = find_preset(split_name(preset)[0]) if found.parts or changed else found.base
    try:
        return None if base is None else _Base(base.name, validate(base.tree))
    except UserError:
        return None


def _lines(settings: BaseModel, base: _Base | None, within: str, kinds: Iterable[str] = ()) -> Iterator[str]:
    """A line for every setting; `kinds` are those that the section may be of."""
    docs, indent = attribute_docs(type(settings)), 2 * within.count(".") * " "
    for name, field in type(settings).model_fields.items():
        value, path, mark = getattr(settings, name), f"{within}{name}", section_of(field)
        about = docs.get(name, f"{' or '.join(kinds)}" if name == "kind" else "")
        if isinstance(value, BaseModel):
            about = about or type(value).__doc__ or ""
            yield _with_comment(f"{indent}{name}:", about, _mark(base, path, value))
            yield from _lines(value, base, f"{path}.", mark.classes() if mark else ())
        else:
            yield _with_comment(f"{indent}{name}: {flow(value)}", about, _mark(base, path, value))


def _mark(base: _Base | None, path: str, value: object) -> str:
    """How a setting differs from the base's, if it does."""
    if base is None or path == "description":
        return ""
    section, _, key = path.rpartition(".")
    around = value_at(base.settings, section) if section else base.settings
    if not hasattr(around, key):
        return "" if around is None else f"* not in {base.name}"
    there = getattr(around, key)
    if (isinstance(value, BaseModel) and isinstance(there, BaseModel)) or flow(value) == flow(there):
        return ""
    return "* other" if isinstance(there, BaseModel) else f"* {flow(there)}"


def _with_comment(text: str, about: str, mark: str) -> str:
    comment = "  ".join(filter(None, [mark, summary(about)]))
    return f"{text:{_COLUMN}}  # {comment}" if comment else text


def _leaves(settings: BaseModel, within: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting, as `section.key`, and its value."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value
