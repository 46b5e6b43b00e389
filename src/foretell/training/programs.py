"""The programs of a run, and arrays that the runs of several seeds share.

A single run compiles its own programs. If several seeds are trained together, a program runs for all of them at once,
on arrays with a leading axis of seeds; each run then holds a `Part` of these arrays.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from foretell.compilation import BackgroundProgram


@runtime_checkable
class Program(Protocol):
    """A function that is compiled before it is called."""

    def compile(self, *example: Any) -> None:
        """Begin to compile for arguments with the shapes and types of these."""

    def __call__(self, *args: Any) -> Any: ...


class Programs:
    """Makes the programs of a single run."""

    def in_background(self, name: str, function: Callable[..., Any], *, donate: tuple[int, ...] = ()) -> Program:
        """A program that can run for several seeds at once, see `foretell.training.batch`.

        Args:
            name: what it does: `learn`, `act` or `evaluate`.
            function: the function.
            donate: positions of arguments that it may overwrite.
        """
        return BackgroundProgram(function, name=name, donate=donate)

    def for_one(self, name: str, function: Callable[..., Any]) -> Any:
        """A compiled function that runs for one seed at a time; `name` says what it does."""
        del name
        return jax.jit(function)


_programs: ContextVar[Programs] = ContextVar("programs", default=Programs())  # noqa: B039


def programs() -> Programs:
    """The object that makes the programs of runs, in the current context."""
    return _programs.get()


@contextmanager
def making(made_by: Programs) -> Iterator[None]:
    """Runs that begin within the block get their programs from `made_by`."""
    token = _programs.set(made_by)
    try:
        yield
    finally:
        _programs.reset(token)


class Stacked:
    """A tree of arrays with a leading axis of seeds."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree


class Part:
    """The arrays of one seed within those of all seeds."""

    def __init__(self, stacked: Stacked, row: int) -> None:
        self.stacked, self.row = stacked, row

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a Part is a tree of arrays: whole() copies it")

    def block_until_ready(self) -> "Part":
        """Wait until the arrays are computed."""
        jax.block_until_ready(self.stacked.tree)
        return self

    def whole(self) -> Any:
        """A copy of the arrays."""
        return _row(self.stacked.tree, self.row)


class Later(Part):
    """Arrays in another process, which are fetched when they are first needed."""

    def __init__(self, fetch: Callable[[], Any]) -> None:
        self._fetch, self._fetched = fetch, False

    def block_until_ready(self) -> "Later":
        self.whole()
        return self

    def whole(self) -> Any:
        if not self._fetched:
            self._tree, self._fetched = self._fetch(), True
            self._fetch = lambda: None  # with all that it holds
        return self._tree


def whole(tree: Any) -> Any:
    """The tree with the arrays in place of each `Part`."""
    return jax.tree.map(lambda leaf: leaf.whole() if isinstance(leaf, Part) else leaf, tree)


@jax.jit
def _row(tree: Any, row: Int[Array, ""] | int) -> Any:
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, row, keepdims=False), tree)


@jax.jit
def stacked(trees: tuple[Any, ...]) -> Any:
    """The trees of all seeds as one, with a leading axis of seeds."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
