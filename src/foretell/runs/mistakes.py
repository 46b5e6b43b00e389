"""Validation: from a tree to the settings it describes, every mistake reported in one sentence."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from foretell import registry
from foretell.errors import UserError, nearest
from foretell.runs.schema import Place, Tree, agent_class, locate, members, section_class, setting_paths
from foretell.settings import Name

if TYPE_CHECKING:  # it imports JAX, for which `foretell presets` must not wait
    import foretell.agents


def validate(tree: Mapping[str, Any]) -> "foretell.agents.RunSettings":
    """The settings that a complete tree describes. Raises `UserError`, naming the first fault."""
    cls = agent_class(tree.get("agent"))
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise UserError(_sentence(error.errors(include_url=False), cls, tree)) from None


def no_setting(path: str, cls: type[BaseModel], tree: Tree) -> str:
    """The sentence for a setting that is not there: who has it, or what is like it.

    Args:
        path: the setting, as `section.key`.
        cls: the class of all settings.
        tree: all settings, which name the kinds of sections.
    """
    place = locate(cls, tree, path.split("."))
    if place.section is None:
        return f"no setting '{path}'{_similar(path, place, setting_paths(cls, tree))}"
    among = f" with {path.rpartition('.')[0]}.kind={place.kind}"
    key = path.rpartition(".")[2]
    owners = [kind for kind, other in place.section.classes().items() if key in other.model_fields]
    if owners:
        return f"no setting '{path}'{among}, only {' or '.join(owners)}"
    return f"no setting '{path}'{among}{_similar(path, place, setting_paths(cls, tree))}"


def _sentence(faults: Sequence[Any], cls: type[BaseModel], tree: Tree) -> str:
    """What is wrong, of all that pydantic found."""
    place = locate(cls, tree, faults[0]["loc"])
    fault = _telling(faults, place)
    keys = [str(key) for key in fault["loc"]]
    path, value, kind = ".".join(keys[: place.depth]), fault["input"], fault["type"]
    if kind == "extra_forbidden":
        return no_setting(path, cls, tree)
    if kind == "missing":
        return f"the setting '{path}' is missing"
    if _is_section(place, kind) and not isinstance(value, Mapping):
        return f"'{path}' is a section and cannot be {value!r}; set one of {path}.KEY=VALUE"
    if kind == "value_error":
        return _told(path, value, fault["ctx"]["error"], place)
    inside = keys[place.depth + _is_union(place) :]
    message = fault["msg"].replace("tuple", "list")
    return f"{'.'.join([path, *inside])}={value!r}: {message[0].lower()}{message[1:]}"


def _telling(faults: Sequence[Any], place: Place) -> Any:
    """The first fault; of a value that may be of several types, that of the type it comes nearest to."""
    if not _is_union(place):
        return faults[0]
    same = [fault for fault in faults if fault["loc"][: place.depth] == faults[0]["loc"][: place.depth]]
    deepest = max(len(fault["loc"]) for fault in same)
    nearest_ones = [fault for fault in same if len(fault["loc"]) == deepest]
    messages = dict.fromkeys(fault["msg"].partition(", unable")[0] for fault in nearest_ones)
    wanted = [text.removeprefix("Input should be ") if i else text for i, text in enumerate(messages)]
    return {**nearest_ones[0], "msg": " or ".join(wanted)}


def _told(path: str, value: object, error: Exception, place: Place) -> str:
    """What a validator says, with the place unless it names that itself."""
    name = next((mark for mark in (place.field.metadata if place.field else ()) if isinstance(mark, Name)), None)
    if name is not None and ":" not in str(value):
        return f"no {path} '{value}'{nearest(str(value), registry.kinds(name.section))}"
    return str(error) if isinstance(error, UserError) or not path else f"{path}: {error}"


def _is_union(place: Place) -> bool:
    """Whether pydantic names the type in the place of a fault, as a further key."""
    return place.field is not None and len(members(place.field.annotation)) > 1


def _is_section(place: Place, kind: str) -> bool:
    if kind in ("model_type", "model_attributes_type"):
        return True
    return kind == "value_error" and place.field is not None and section_class(place.field, {}) is not None


def _similar(path: str, place: Place, paths: Sequence[str]) -> str:
    """The settings of that name, else of the most similar in the section, else anywhere; else where to look."""
    section, _, key = path.rpartition(".")
    sections = [found.partition(".")[0] for found in paths]
    names = {found: found.rpartition(".")[2] for found in dict.fromkeys([*sections, *paths])}
    inside = {found: name for found, name in names.items() if found.rpartition(".")[0] == section}
    namesakes = {found: name for found, name in names.items() if name == key}
    for scope in (namesakes, inside, names):
        close = get_close_matches(key, sorted(scope.values()), n=1)
        if close:
            return f"; did you mean {' or '.join(repr(found) for found, name in scope.items() if name == close[0])}?"
    few = nearest(key, (name for name in inside.values() if not (place.section and name == "kind")))
    return few or (f"; `foretell show {section}` lists them" if section in sections else "")
