"""The values that a sweep tries: domains of settings, and settings that are computed from others."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from itertools import product
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, FiniteFloat, PositiveInt, model_validator

from foretell.errors import UserError, nearest
from foretell.runs.trees import Tree, value_at
from foretell.settings import Settings

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "round": round, "int": int, "sqrt": math.sqrt}
_SAID = "+ - * / // %, min, max, round, int and sqrt"

Values = dict[str, Any]
"""Settings of a trial by their paths, such as `{"planner.horizon": 20}`."""


class Domain(Settings):
    """The values that a setting may take: choices, a range of numbers, or a range of integers. A list is choices."""

    choices: Annotated[list[Any], Field(min_length=1)] | None = None
    """These values."""
    range: tuple[FiniteFloat, FiniteFloat] | None = None
    """Numbers from the first to the second."""
    integers: tuple[int, int] | None = None
    """Integers from the first to the second, both included."""
    log: bool = False
    """Whether the logarithm of a range is searched uniformly, in place of the range itself."""
    points: PositiveInt | None = None
    """How many values of a range a grid has, at equal distances. A grid has all integers unless this is given."""

    @model_validator(mode="after")
    def _check(self) -> "Domain":
        given = [name for name in ("choices", "range", "integers") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of choices, range and integers, not {' and '.join(given) or 'none of them'}")
        if self.choices is not None and (self.log or self.points):
            raise ValueError(f"choices take no {'log' if self.log else 'points'}; leave it out")
        if self.choices is None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"{given[0]} must go from a smaller to a larger number, not {list(self.bounds)}")
        if self.log and self.bounds[0] <= 0:
            raise ValueError(f"a logarithmic {given[0]} must begin above 0, not at {self.bounds[0]:g}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of a range."""
        low, high = self.range or self.integers or (0, 0)
        return float(low), float(high)

    def holds(self, value: Any) -> bool:
        """Whether this is one of the values."""
        if self.choices is not None:
            return value in self.choices
        return (
            isinstance(value, int if self.integers is not None else float) and self.bounds[0] <= value <= self.bounds[1]
        )

    def grid(self) -> list[Any] | None:
        """The values of a grid; None for a range of numbers without `points`."""
        if self.choices is not None:
            return self.choices
        low, high = self.bounds
        if self.integers is not None and self.points is None:
            return list(range(self.integers[0], self.integers[1] + 1))
        if self.points is None:
            return None
        values = np.geomspace(low, high, self.points) if self.log else np.linspace(low, high, self.points)
        return list(dict.fromkeys(map(self.typed, values)))

    def draw(self, rng: np.random.Generator) -> Any:
        """A random value."""
        if self.choices is not None:
            return self.choices[rng.integers(len(self.choices))]
        low, high = self.bounds
        if self.integers is not None and not self.log:
            return int(rng.integers(int(low), int(high), endpoint=True))
        return self.typed(math.exp(rng.uniform(math.log(low), math.log(high))) if self.log else rng.uniform(low, high))

    def typed(self, value: float) -> float | int:
        """A number of this range, rounded to an integer or to six digits."""
        low, high = self.bounds
        bounded = float(min(max(value, low), high))  # rounding must not leave the range
        return round(bounded) if self.integers is not None else float(f"{bounded:.6g}")


def _listed(value: object) -> object:
    return {"choices": value} if isinstance(value, list) else value


class Table(Settings):
    """A value that depends on that of one other setting."""

    of: str
    """The path of the other setting."""
    values: Annotated[dict[Any, Any], Field(min_length=1)]
    """The value for each value of the other setting."""


Space = dict[str, Annotated[Domain, BeforeValidator(_listed)]]
"""Domains by the paths of the settings."""
Derived = dict[str, Table | str]
"""Settings that are computed: by a table, or by arithmetic such as `planner.population // 10`."""


def cells(space: Mapping[str, Domain]) -> list[Values]:
    """All combinations of the values of a grid. Raises `UserError` for a range without `points`."""
    axes = {path: domain.grid() for path, domain in space.items()}
    for path, values in axes.items():
        if values is None:
            raise UserError(f"a grid needs the number of values of {path}: points: 5")
    return [dict(zip(axes, values, strict=True)) for values in product(*(axis or [] for axis in axes.values()))]


def derived(values: Values, rules: Mapping[str, Table | str], settings: Tree | object) -> Values:
    """The values of a trial together with those that are computed from them.

    Args:
        values: those that the search chose.
        rules: how others are computed, in this order.
        settings: of the preset, for settings that are neither chosen nor computed.

    Raises:
        UserError: if a rule names an unknown setting, or cannot be computed.
    """
    found = dict(values)
    for path, rule in rules.items():
        found[path] = _looked_up(path, rule, found, settings) if isinstance(rule, Table) else _computed(
            path, rule, found, settings
        )  # fmt: skip
    return found


def _looked_up(path: str, table: Table, values: Values, settings: object) -> Any:
    value = _value(path, table.of, values, settings)
    if value not in table.values:
        raise UserError(
            f"{path}: the table has no value for {table.of}={value!r}{nearest(str(value), map(str, table.values))}"
        )
    return table.values[value]


def _computed(path: str, text: str, values: Values, settings: object) -> Any:
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise UserError(f"{path}: '{text}' is not arithmetic; it may have numbers, settings, {_SAID}") from None
    try:
        return _arithmetic(tree, lambda name: _value(path, name, values, settings), f"{path}: '{text}'")
    except (ArithmeticError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: '{text}' cannot be computed ({error})") from None


def _arithmetic(node: ast.expr, value_of: Callable[[str], Any], where: str) -> Any:
    """The value of an expression, of which every part is one that is allowed."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name() | ast.Attribute():
            return value_of(ast.unparse(node))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_arithmetic(left, value_of, where), _arithmetic(right, value_of, where))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_arithmetic(operand, value_of, where)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_arithmetic(arg, value_of, where) for arg in args))
    raise UserError(f"{where} may not have '{ast.unparse(node)}'; it may have numbers, settings, {_SAID}")


def _value(path: str, name: str, values: Values, settings: object) -> Any:
    """The value of a setting in a trial. Raises `UserError` if it is unknown."""
    found = values.get(name, value_at(settings, name))
    if found is None:
        raise UserError(f"{path}: no setting '{name}' to compute it from{nearest(name, values)}")
    return found
