"""Values for `walk.py`: of every kind that a user could give by mistake."""

import datetime
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
import numpy as np
from pydantic.fields import FieldInfo

from foretell import registry
from foretell.runs.schema import members
from foretell.settings import Name

LARGEST = 2**31 - 1
WORDS = ("", " ", "x", "0", "-1", "3", "1.5", "nan", "inf", "-inf", "1e400", "9" * 30, str(LARGEST), str(LARGEST + 1))
"""Numbers as the command line gives them, and what is none."""
TEXTS = (
    "ünïcödé 🙂",
    "x" * 5000,
    "a\nb",
    "\0",
    "\udcff",
    "%s %d {0}",
    "*[",
    "a=b",
    "planner.population=[",
    "-",
    "~",
    "$",
)
PATHS = ("nowhere", "folder", "file.txt", "file.txt/x", ".", "/", "/proc/x", "x" * 300)
NUMBERS = (0, -1, 1, 2, 3, 7, LARGEST, LARGEST + 1, 2**63, 10**30, -(10**30))
FRACTIONS = (0.0, -0.5, 0.3, 1.5, 5e-324, 1e-39, 1e-30, 1e-12, 1e12, 1e30, 1e39, 1e308, math.nan, math.inf, -math.inf)
LISTS: tuple[Any, ...] = ([], [0], [1], [-1], [2, 3], [0.5, 0.5], ["x"], [None], [[1]], [LARGEST], [10**30], [math.nan])
DICTS: tuple[Any, ...] = ({}, {"x": 1}, {1: 2}, {"": None})
SETTINGS: tuple[Any, ...] = (None, True, False, *NUMBERS, *FRACTIONS, *LISTS, *DICTS, *WORDS, *TEXTS, *PATHS)
"""What YAML may hold."""


def words() -> tuple[str, ...]:
    """What a command's option or argument may be given."""
    return (*WORDS, *TEXTS, *PATHS)


def objects() -> tuple[Any, ...]:
    """What an argument of a function may be given."""
    generated = (each for each in (1, 2))
    arrays = (
        np.zeros(0),
        np.zeros(3),
        np.full(3, np.nan),
        np.zeros((2, 3)),
        np.float32(1.5),
        np.int64(2),
        np.str_("x"),
    )
    things = (
        object(),
        int,
        len,
        lambda: None,
        lambda obs, action, next_obs: obs,
        generated,
        range(2),
        {1, 2},
        b"x",
        3 + 4j,
    )
    places = (Path("folder"), Path("file.txt"), datetime.date(2020, 1, 1))
    return (*SETTINGS, (), *arrays, *things, *places)


def of_type(field: FieldInfo) -> Iterator[Any]:
    """Values that the type of a setting suggests: its choices, and numbers at its limits."""
    for mark in field.metadata:
        if isinstance(mark, Name):
            yield from registry.kinds(mark.section)
    yield from _of(field.annotation)
    yield from _limits(field.metadata)


def _of(annotation: Any) -> Iterator[Any]:
    for kind in members(annotation):
        if get_origin(kind) is Literal:
            yield from get_args(kind)
        for mark in getattr(kind, "__metadata__", ()):
            yield from _limits([mark])


def _limits(marks: Any) -> Iterator[Any]:
    """At, above and below each limit."""
    for mark in marks:
        for name in ("gt", "ge", "lt", "le"):
            if (
                isinstance(mark, annotated_types.BaseMetadata | FieldInfo)
                and (limit := getattr(mark, name, None)) is not None
            ):
                yield from (
                    limit,
                    limit + 1,
                    limit - 1,
                    math.nextafter(limit, math.inf),
                    math.nextafter(limit, -math.inf),
                )


def sort_of(value: Any) -> str:
    """What kind of value it is."""
    names = {bool: "switch", int: "number", float: "number", str: "text", list: "list", tuple: "list", dict: "section"}
    return "null" if value is None else names.get(type(value), "object")


def shown(value: Any) -> str:
    """The value on one line, not longer than a line."""
    text = f"array{value.shape}" if isinstance(value, np.ndarray) else repr(value)
    return text if len(text) < 60 else f"{text[:40]}... ({len(text)} characters)"
