"""Checks of the arguments of the Python interface. All of these functions raise `UserError`."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from foretell.errors import UserError
from foretell.runs.trees import parse_override

Overrides = Mapping[str, Any] | str | Iterable[Mapping[str, Any] | str | tuple[str, Any]]
"""Settings as `{"planner": {"population": 200}}`, `{"planner.population": 200}`, `"planner.population=200"`, or several
of these, or of pairs `("planner.population", 200)`, in order."""

LARGEST = 2**31 - 1
"""Of whole numbers, also of seeds."""


def whole_number(name: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """An integer of Python or NumPy of 32 bits, within these limits if they are given."""
    try:
        number = None if isinstance(value, bool | np.bool_) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        limits = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
        expected = f"at least {least}" if number is not None and most is None else f"a whole number{limits}"
        raise UserError(f"{name} must be {expected}, not {value!r}")
    if number > LARGEST:
        raise UserError(f"{name} must be at most {LARGEST}, not {value!r}")
    return number


def seed_number(value: object) -> int:
    """A random seed."""
    return whole_number("seed", value, 0, LARGEST)


def switch(**values: object) -> None:
    """Check that these arguments are true or false."""
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise UserError(f"{name} must be True or False, not {value!r}")


def path(name: str, value: object) -> Path:
    """A path, from a string or a path."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise UserError(f"{name} must be a path, not {value!r}")
    return Path(os.fsdecode(value))


def paths(name: str, value: object) -> list[Path]:
    """A list of paths, from one path or several."""
    several = [value] if isinstance(value, str | os.PathLike) else value
    found = list(several) if isinstance(several, Iterable) and not isinstance(several, bytes | Mapping) else []
    if not found:
        raise UserError(f"{name} must be a path or a list of paths, not {value!r}")
    return [path(name, one) for one in found]


def choice(name: str, value: object, choices: Sequence[str]) -> str:
    """One of these names."""
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"{name} cannot be {value!r}; choose of: {', '.join(choices)}")
    return str(value)


def preset_name(value: object) -> str:
    """The name of a preset, or the path of its file."""
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"preset must be the name of a preset or the path of a file, not {value!r}")
    return str(os.fsdecode(value))


def number(name: str, value: object, least: float | None = None) -> float:
    """A finite real number of Python or NumPy, at least `least` if that is given."""
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise UserError(f"{name} must be a finite number, not {value!r}")
    if least is not None and value < least:
        raise UserError(f"{name} must be at least {least:g}, not {value!r}")
    return float(value)


def texts(name: str, value: object) -> list[str]:
    """A list of strings, from one string or several."""
    several = [value] if isinstance(value, str) else value
    found = list(several) if isinstance(several, Iterable) and not isinstance(several, bytes | Mapping) else [several]
    if wrong := [each for each in found if not isinstance(each, str)]:
        raise UserError(f"{name} must be a list of texts, not {wrong[0]!r}")
    return [str(each) for each in found]


def optional_text(name: str, value: object) -> str | None:
    """A string of Python or NumPy, or None."""
    if value is not None and not isinstance(value, str):
        raise UserError(f"{name} must be a text, not {value!r}")
    return None if value is None else str(value)


def function(name: str, value: object) -> None:
    """Check that a value is a function or None; names are not accepted."""
    if value is not None and not callable(value):
        raise UserError(
            f"{name} must be the function itself, or be left out if it can be imported by name, not {value!r}"
        )


def options(name: str, value: object) -> dict[str, Any]:
    """A dictionary of keyword arguments."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UserError(f"{name} must be a dictionary of arguments, such as {{'g': 9.81}}, not {value!r}")
    return plain(value)


def numbers(name: str, value: object) -> list[int]:
    """A list of integers, from one integer or several."""
    several = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return [whole_number(name, one) for one in several]


def overrides(value: object) -> list[dict[str, Any]]:
    """Settings in any of the forms of `Overrides`, as nested dictionaries in order."""
    if isinstance(value, str):
        return [parse_override(value)]
    if isinstance(value, Mapping):
        return [_joined([_nested(key, plain(part)) for key, part in value.items()])]
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        raise UserError(f"overrides must be like {{'planner': {{'population': 200}}}}, not {value!r}")
    entries = [dict([entry]) if _is_pair(entry) else entry for entry in value]
    if wrong := [entry for entry in entries if not isinstance(entry, str | Mapping)]:
        raise UserError(f"overrides must be dictionaries or 'key.path=value', not {wrong[0]!r}")
    return [tree for entry in entries for tree in overrides(entry)]


def plain(value: Any) -> Any:
    """A value for a settings file: numbers and arrays of NumPy or JAX become Python's, paths become strings."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, range):
        return list(value)
    if hasattr(value, "tolist"):  # of NumPy, JAX and others
        return value.tolist()
    return os.fsdecode(value) if isinstance(value, os.PathLike) else value


def _is_pair(entry: object) -> bool:
    """Whether it is `("planner.population", 200)`."""
    return isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], str) and "=" not in entry[0]


def _nested(key: object, value: Any) -> dict[str, Any]:
    """Nested dictionaries for the path `a.b`: `{"a": {"b": value}}`."""
    if not isinstance(key, str) or not all(key.split(".")):
        raise UserError(f"the names of settings must be like 'planner.population', not {key!r}")
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _joined(trees: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Several trees merged into one; later values replace earlier ones."""
    joined: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            both = isinstance(value, Mapping) and isinstance(joined.get(key), Mapping)
            joined[key] = _joined([joined[key], value]) if both else value
    return joined
