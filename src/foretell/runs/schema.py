"""What settings there are: which class each section of a tree of settings is of, and where a setting is in it."""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from foretell import registry
from foretell.errors import UserError, nearest
from foretell.settings import Section, section_of

if TYPE_CHECKING:  # it imports JAX, for which `foretell presets` must not wait
    import foretell.agents

Tree = Mapping[str, Any]
"""Settings as YAML has them: sections are mappings."""

FIXED_IN_TRAIN = ("train.capacity", "train.environments", "train.steps_per_learning", "train.lag", "train.pretrained")
"""Settings of section `train` that affect the steps so far, and so do not change when a run is resumed."""


class Place(NamedTuple):
    """Where a path of keys leads in a tree of settings."""

    field: FieldInfo | None
    """The setting; None if there is none."""
    around: type[BaseModel]
    """The class of the innermost section."""
    section: Section | None
    """Its mark, if its class is chosen by kind."""
    kind: str
    """That kind."""
    depth: int
    """Keys that name the setting. Further ones lie within its value."""


def agent_class(name: object) -> "type[foretell.agents.RunSettings]":
    """The settings of an agent.

    Args:
        name: that of a registered agent, or `module:Class`.

    Raises:
        UserError: if there is none.
    """
    from foretell.agents import RunSettings

    if isinstance(name, str) and ":" in name:
        return registry.import_object("agent", name, RunSettings)
    agents = registry.kinds("agent")
    if str(name) not in agents:
        raise UserError(f"no agent '{name}'{nearest(str(name), agents)}")
    return agents[str(name)]


def section_class(field: FieldInfo, settings: object) -> type[BaseModel] | None:
    """The class of the section that a field is.

    Args:
        field: a field of an agent's settings, or of a section.
        settings: the tree in that place, which names the kind if there are several.

    Returns:
        None if the field is a plain setting, or of a kind that does not exist.
    """
    mark = section_of(field)
    if mark is None:
        return _plain_section(field.annotation)
    try:
        return mark.class_of(settings if isinstance(settings, Mapping) else {})
    except UserError:
        return None


def section_classes(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """Every class that a section may be of, by kind; of one class alone under the name ''."""
    mark = section_of(field)
    if mark is not None:
        return mark.classes()
    plain = _plain_section(field.annotation)
    return {} if plain is None else {"": plain}


def kind_of(section: Section, settings: object) -> str:
    """The kind that the settings of a section name, or the default."""
    return str(settings.get("kind", section.default)) if isinstance(settings, Mapping) else section.default


def locate(cls: type[BaseModel], tree: object, keys: Sequence[str | int]) -> Place:
    """Follow keys into settings.

    Args:
        cls: the class of the settings.
        tree: the settings.
        keys: of the section, its section, ..., the setting.
    """
    section, kind = None, ""
    for depth, key in enumerate(keys, 1):
        field = cls.model_fields.get(str(key))
        below = tree.get(key) if isinstance(tree, Mapping) else None
        inner = None if field is None else section_class(field, below)
        if field is None or inner is None or depth == len(keys):
            return Place(field, cls, section, kind, depth)
        section = section_of(field)
        kind = "" if section is None else kind_of(section, below)
        cls, tree = inner, below
    return Place(None, cls, section, kind, 0)


def setting_paths(cls: type[BaseModel], tree: Tree | None = None) -> list[str]:
    """Every setting, as `section.key`.

    Args:
        cls: the class of the settings.
        tree: settings that name the kinds of sections; without one, or where a kind does not exist, the settings of all
            kinds are listed.
    """
    paths: list[str] = []
    for name, field in cls.model_fields.items():
        below = None if tree is None else tree.get(name)
        chosen = None if tree is None else section_class(field, below)
        inside = section_classes(field).values() if chosen is None else [chosen]
        within = below if chosen is not None and isinstance(below, Mapping) else None
        found = [f"{name}.{path}" for inner in inside for path in setting_paths(inner, within)]
        paths += dict.fromkeys(found) if inside else [name]
    return paths


def members(annotation: object) -> list[Any]:
    """The types that a value may be of, None left out."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for kind in get_args(annotation) if kind is not NoneType]
    return [annotation]


def _plain_section(annotation: object) -> type[BaseModel] | None:
    kinds = members(annotation)
    return kinds[0] if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel) else None
