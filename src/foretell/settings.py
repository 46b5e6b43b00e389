"""`Settings`: a frozen, validated record of an object's hyper-parameters.

Planners, models and agents are `Settings`: their fields are what a preset may set, their methods are pure functions.
A setting therefore lives where it is used, is checked once when it is made, and can be hashed, so that compiled
functions may close over it.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of everything configurable. Unknown fields and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def kind_of(default: str) -> Callable[[Any], str]:
    """For a section that may be one of several classes: which, by its field `kind`; `default` where it is not given."""

    def kind(value: Any) -> str:
        found = value.get("kind", default) if isinstance(value, Mapping) else getattr(value, "kind", default)
        return str(found)

    return kind


def kinds(annotation: Any) -> dict[str, type[BaseModel]]:
    """The classes a field of this type may hold, by their `kind` (or by "" if they have none); empty for a value."""
    if get_origin(annotation) is Annotated:
        return kinds(get_args(annotation)[0])
    if isinstance(annotation, type):
        if not issubclass(annotation, BaseModel):
            return {}
        field = annotation.model_fields.get("kind")
        return {str(field.default) if field else "": annotation}
    return {kind: cls for option in get_args(annotation) for kind, cls in kinds(option).items()}
