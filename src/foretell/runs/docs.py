"""What is written about settings in the code: the docstrings of their attributes, and their types in plain words."""

import ast
import inspect
import re
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from foretell import registry
from foretell.runs.schema import members
from foretell.settings import Name, section_of

_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "mapping"}


@cache
def attribute_docs(cls: type[BaseModel]) -> Mapping[str, str]:
    """The docstring of every setting of a class, those of its bases included, each on one line.

    They are read from the source here, where they are asked for: importing Foretell need not wait for it.
    """
    docs: dict[str, str] = {}
    for base in [base for base in reversed(cls.__mro__) if issubclass(base, BaseModel) and base is not BaseModel]:
        body = _module_classes(base.__module__).get(base.__qualname__, [])
        for before, after in pairwise(body):
            text = _text(after)
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and text:
                docs[before.target.id] = " ".join(text.split())
    return docs


def summary(text: str | None) -> str:
    """The first sentence of a docstring, without its full stop."""
    words = " ".join((text or "").split())
    return re.split(r"(?<=\.)\s(?=[A-Z`])|(?<=;)\s", words, maxsplit=1)[0].rstrip(".;")


def type_name(field: FieldInfo) -> str:
    """The type of a setting, in plain words."""
    name = next((mark for mark in field.metadata if isinstance(mark, Name)), None)
    if name is not None:
        return " or ".join(registry.kinds(name.section))
    mark = section_of(field)
    if mark is not None:
        return f"section, {mark.name}.kind of {' or '.join(mark.classes())}"
    annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return _type(annotation)


def flow(value: object) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        bounds = [bound for mark in marks for bound in _bounds(mark)]
        return " ".join([_type(inner), " and ".join(bounds)]).rstrip()
    kinds = members(annotation)
    if kinds != [annotation]:
        null = " or null" if type(None) in get_args(annotation) else ""
        return " or ".join(map(_type, kinds)) + null
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        return f"list of {_type(items[0])}" if items[-1] is ... else f"list of {len(items)}, each {_type(items[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return _WORDS.get(get_origin(annotation) or annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(mark: object) -> list[str]:
    """The limits of a number."""
    if isinstance(mark, FieldInfo):
        return [bound for inner in mark.metadata for bound in _bounds(inner)]
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    if isinstance(mark, annotated_types.Gt | annotated_types.Ge | annotated_types.Lt | annotated_types.Le):
        return [f"{sign} {getattr(mark, key)}" for key, sign in signs.items() if hasattr(mark, key)]
    return []


def _plain(value: object) -> Any:
    """The value as YAML has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value


@cache
def _module_classes(module: str) -> Mapping[str, list[ast.stmt]]:
    """The statements in every class of a module; none if there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return {}
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def _text(node: ast.stmt) -> str | None:
    """The docstring that a statement is, if it is one."""
    value = node.value if isinstance(node, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
