"""`Settings`: a frozen, validated record of an object's hyper-parameters.

Planners, models and learners are `Settings`: their fields are what a preset may set, their methods are pure functions.
A setting therefore lives where it is used, is checked once when it is made, and can be hashed, so that compiled
functions may close over it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from foretell import registry
from foretell.errors import UserError

LARGEST_INTEGER = 2**31 - 1
LARGEST_FLOAT, SMALLEST_FLOAT = 1e15, 1e-15
"""Magnitudes whose squares, and some multiples of these, single precision can hold."""


class Settings(BaseModel):
    """Base of everything configurable. Unknown fields and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="after")
    def _check_numbers(self) -> "Settings":
        for name in type(self).model_fields:
            check_number(name, getattr(self, name))
        return self


def check_number(name: str, value: object) -> None:
    """Raises `ValueError` if a number, or one in a list, is beyond what JAX computes with: 32 bits."""
    if isinstance(value, tuple | list):
        for each in value:
            check_number(name, each)
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ValueError(f"{name} ({value}) is not a number of 32 bits, which are up to {LARGEST_INTEGER} in magnitude")
    elif isinstance(value, float) and value and not SMALLEST_FLOAT <= abs(value) <= LARGEST_FLOAT:
        raise ValueError(
            f"{name} ({value:g}) must be 0 or from {SMALLEST_FLOAT:g} to {LARGEST_FLOAT:g} in magnitude, since it is "
            "squared in single precision"
        )


@dataclass(frozen=True)
class Section:
    """Marks a field whose class is selected by its `kind`: `Annotated[Planner, Section("planner", "cem")]`."""

    name: str
    """Of the registry's section."""
    default: str
    """The kind where none is given."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        base = BaseModel if source is Any else source

        def validate(value: Any) -> BaseModel:
            if isinstance(value, base):
                return cast(BaseModel, value)
            if not isinstance(value, Mapping):
                raise ValueError(f"it is a section and cannot be {value!r}; set one of its keys, KEY=VALUE")
            return self.class_of(value, base).model_validate(value)

        return core_schema.no_info_plain_validator_function(
            validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value, info: value.model_dump(mode=info.mode), info_arg=True
            ),
        )

    def class_of(self, value: Mapping[str, Any], base: type = BaseModel) -> type[BaseModel]:
        """The class that a section with these settings is of. Raises `UserError`."""
        kind = value.get("kind", self.default)
        if not isinstance(kind, str):
            raise UserError(f"{self.name}.kind must be a name, not {kind!r}")
        return registry.find(self.name, kind, base)

    def classes(self) -> dict[str, type[BaseModel]]:
        """All classes it may be of, by kind."""
        return registry.kinds(self.name)


@dataclass(frozen=True)
class Name:
    """Marks a field that holds the name of something registered: `Annotated[str, Name("reduction")]`."""

    section: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: str) -> str:
            registry.find(self.section, value)
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


def section_of(field: FieldInfo) -> Section | None:
    """The section that a field is, if its class is chosen by kind."""
    return next((mark for mark in field.metadata if isinstance(mark, Section)), None)
