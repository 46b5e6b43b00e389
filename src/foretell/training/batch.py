"""Several runs in one process, whose programs run for all of them at once.

Each run has a thread, of which one works at a time. A run works until it calls a program, then the next one does. Once
every run waits, one program runs for all that have called it, as one program under `vmap`. Which one follows from the
calls alone, so results do not depend on the speed of the threads.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from threading import Semaphore, Thread
from typing import Any, NamedTuple

import jax
import numpy as np

from foretell.compilation import BackgroundProgram
from foretell.training.interrupt import forwarding
from foretell.training.programs import Part, Program, Programs, Stacked, making, stacked, whole

ORDER = ("evaluate", "act", "learn")
"""Which program runs first. Runs that are ahead wait for the others where they learn, which takes the most time."""
_ON_HOST = {"evaluate": (0, 2), "act": (0, 2)}
"""Positions of results that every run reads at once."""
_JOIN_SECONDS = 5.0
"""Time that a run has to close its environments after everything was stopped."""


class Cancelled(BaseException):
    """Ends a run at once, without saving."""


class Outcome(NamedTuple):
    """How a run has ended."""

    row: int
    """Its number in the batch."""
    result: Any = None
    error: BaseException | None = None


def run_together(
    works: Sequence[Callable[[], Any]],
    *,
    stopping: Callable[[], bool] = lambda: False,
    ended: Callable[[Outcome], object] = lambda outcome: None,
) -> list[Outcome]:
    """Run several functions, each of which trains one run with the same settings.

    Args:
        works: the functions.
        stopping: whether all runs shall save and stop; asked between two programs.
        ended: called at the end of each run.

    Returns:
        How each of them has ended; a failure of one does not end the others.
    """
    shared = _Compiled({}, {})
    lanes = [_Lane(row, work, shared, len(works)) for row, work in enumerate(works)]
    asked = False
    try:
        while waiting := [lane for lane in lanes if lane.outcome is None]:
            for lane in [lane for lane in waiting if lane.call is None]:
                lane.advance()
                if lane.outcome is not None:
                    ended(lane.outcome)
            if not asked and stopping():
                asked = True
                interrupt(lanes)
            _run_next([lane for lane in lanes if lane.call is not None])
    finally:
        for lane in lanes:
            lane.cancel()
    return [lane.outcome or Outcome(lane.row) for lane in lanes]


def interrupt(lanes: Sequence["_Lane"]) -> None:
    """Ask all runs to save and stop."""
    for lane in lanes:
        for handler in lane.handlers:
            handler()


def _run_next(lanes: Sequence["_Lane"]) -> None:
    """Run the first program in `ORDER` that a run waits for, for all runs that wait for it."""
    if not lanes:
        return
    name = min((lane.call.name for lane in lanes if lane.call), key=ORDER.index)
    calls = {lane.row: lane.call.args for lane in lanes if lane.call and lane.call.name == name}
    found: Mapping[int, Any]
    try:
        found = lanes[0].shared.together[name].run(calls, complete=len(calls) == len(lanes))
    except Exception as error:  # raised in each of these runs
        found = dict.fromkeys(calls, _Failure(error))
    for lane in lanes:
        if lane.row in found:
            lane.answer(found[lane.row])


class _Call(NamedTuple):
    """A call of a program that waits for its turn."""

    name: str
    args: tuple[Any, ...]


class _Failure(NamedTuple):
    """The failure of a program, in place of its results."""

    error: Exception


class _Compiled(NamedTuple):
    """The programs of all runs by name; equal runs need them once."""

    together: dict[str, "_Shared"]
    alone: dict[str, Any]
    """Those that run for one seed at a time."""


class _Lane(Programs):
    """One run: a thread that works while it is its turn, and ends its turn when it calls a program."""

    def __init__(self, row: int, work: Callable[[], Any], shared: "_Compiled", count: int) -> None:
        self.row, self.shared, self._count = row, shared, count
        self.call: _Call | None = None
        self.outcome: Outcome | None = None
        self.handlers: list[Callable[[], None]] = []
        """What asks the run to save and stop."""
        self._answer: Any = None
        self._cancelled = False
        self._turn, self._over = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=copy_context().run, args=(self._work, work), daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """Let the run work until it calls a program, or until its end."""
        self._turn.release()
        self._over.acquire()

    def answer(self, found: Any) -> None:
        """Keep the results of the call for the next turn."""
        self.call, self._answer = None, found

    def cancel(self) -> None:
        """End the run at once if it has not ended."""
        if self.outcome is None:
            self._cancelled = True
            self._turn.release()
            self._thread.join(_JOIN_SECONDS)

    def in_background(self, name: str, function: Callable[..., Any], *, donate: tuple[int, ...] = ()) -> Program:
        if name not in self.shared.together:
            self.shared.together[name] = _Shared(name, function, donate, self._count)
        return _Submitted(self, name)

    def for_one(self, name: str, function: Callable[..., Any]) -> Any:
        return self.shared.alone.setdefault(name, jax.jit(function))

    def submit(self, name: str, args: tuple[Any, ...]) -> Any:
        """End the turn with a call; the results. Called in the thread of the run."""
        self.call = _Call(name, args)
        self._over.release()
        self._await_turn()
        found, self._answer = self._answer, None
        if isinstance(found, _Failure):
            raise found.error
        return found

    def _await_turn(self) -> None:
        self._turn.acquire()
        if self._cancelled:
            raise Cancelled

    def _work(self, work: Callable[[], Any]) -> None:
        try:
            with making(self), forwarding(self.handlers):
                self._await_turn()
                self.outcome = Outcome(self.row, work())
        except BaseException as error:
            self.outcome = Outcome(self.row, None, error)
        self._over.release()


class _Submitted:
    """A program of one run, which is called together with those of the other runs."""

    def __init__(self, lane: _Lane, name: str) -> None:
        self._lane, self._name = lane, name

    def compile(self, *example: Any) -> None:
        self._lane.shared.together[self._name].compile(example)

    def __call__(self, *args: Any) -> Any:
        return self._lane.submit(self._name, args)


class _Shared:
    """A program for all seeds at once, and the one for a single seed, which is compiled if it is ever needed."""

    def __init__(self, name: str, function: Callable[..., Any], donate: tuple[int, ...], count: int) -> None:
        self._on_host, self._donates, self._count = _ON_HOST.get(name, ()), bool(donate), count
        self._one = BackgroundProgram(function, name=name, donate=donate)
        self._all = BackgroundProgram(partial(_mapped, function), name=name, donate=donate)
        self._begun: set[BackgroundProgram] = set()

    def compile(self, example: tuple[Any, ...]) -> None:
        """Begin to compile for arguments of one run like these, unless another run has done so."""
        self._compile(self._all, jax.tree.map(self._with_seeds, example))

    def run(self, calls: Mapping[int, tuple[Any, ...]], *, complete: bool) -> Mapping[int, Any]:
        """The results by row. If more than half of the rows are there, the program for all rows runs.

        Args:
            calls: the arguments by row.
            complete: whether these are all runs that have not ended, so that their arrays may be overwritten.
        """
        if 2 * len(calls) <= self._count or (self._donates and not complete):
            return {row: self._alone(tuple(map(whole, args))) for row, args in calls.items()}
        arguments = [self._gathered({row: args[i] for row, args in calls.items()}) for i in range(len(_first(calls)))]
        found = [Stacked(tree) for tree in self._all(*arguments)]
        for i in self._on_host:
            found[i] = Stacked(jax.tree.map(np.asarray, found[i].tree))
        return {row: tuple(self._part(i, tree, row) for i, tree in enumerate(found)) for row in calls}

    def _alone(self, args: tuple[Any, ...]) -> Any:
        self._compile(self._one, args)
        return self._one(*args)

    def _compile(self, program: BackgroundProgram, example: tuple[Any, ...]) -> None:
        if program not in self._begun:
            self._begun.add(program)
            program.compile(*example)

    def _with_seeds(self, leaf: Any) -> jax.ShapeDtypeStruct:
        weak = getattr(leaf, "weak_type", False)
        return jax.ShapeDtypeStruct((self._count, *leaf.shape), leaf.dtype, weak_type=weak)

    def _gathered(self, trees: Mapping[int, Any]) -> Any:
        """One argument of all runs with a leading axis of seeds; rows that are not there get any values."""
        first = _first(trees)
        if isinstance(first, Part) and all(
            isinstance(tree, Part) and tree.stacked is first.stacked and tree.row == row for row, tree in trees.items()
        ):
            return first.stacked.tree
        present = {row: whole(tree) for row, tree in trees.items()}
        rows = [present.get(row, _first(present)) for row in range(self._count)]
        if all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(rows)):
            return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
        return stacked(tuple(rows))

    def _part(self, position: int, tree: Stacked, row: int) -> Any:
        """The results of one run at one position."""
        if position in self._on_host:
            return jax.tree.map(lambda leaf: leaf[row], tree.tree)
        return Part(tree, row) if jax.tree.leaves(tree.tree) else tree.tree


def _mapped(function: Callable[..., Any], *args: Any) -> Any:
    """The function, over a leading axis of all arguments."""
    return jax.vmap(function)(*args)


def _first(found: Mapping[int, Any]) -> Any:
    return next(iter(found.values()))
