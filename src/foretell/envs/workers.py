"""Simulators in processes of their own, so that several can step at a time.

Threads would do for simulators that release Python's lock, but not for those written in Python. `AsyncVectorEnv` of
Gymnasium steps all of its environments in every call, each in a process, and runs the user's script once more in each.
"""

import atexit
import multiprocessing
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, NamedTuple

import cloudpickle
import gymnasium
import jax

from foretell.envs.simulators import Simulators
from foretell.errors import UserError, brief
from foretell.tasks import Task

_PATIENCE = 5.0
"""Seconds for simulators to close."""


def make_simulators(task: Task, count: int, workers: int) -> "Simulators | Workers":
    """Simulators in so many processes, at most one for each of them; in this process for one worker."""
    workers = min(workers, count)
    return Workers(task, count, workers) if workers > 1 else Simulators(task, count)


class Elsewhere(gymnasium.Env):
    """Stands for a simulator in another process, whose state cannot be copied from here."""


class Workers:
    """Processes that hold the simulators and step them side by side; else as `Simulators`. Close it."""

    def __init__(self, task: Task, count: int, workers: int) -> None:
        """Make the simulators.

        Args:
            task: the task.
            count: how many simulators.
            workers: how many processes, at most `count`.

        Raises:
            UserError: if a simulator cannot be made, or not in another process.
        """
        self.envs: Sequence[gymnasium.Env] = [Elsewhere() for _ in range(count)]
        self._workers: list[_Worker] = []
        packed, name = _packed(task), task.spec.env_id
        atexit.register(self.close)  # a daemon that ignores signals would keep this process from ending
        try:
            for first in range(workers):
                self._workers.append(_Worker(packed, name, range(first, count, workers)))
            _raise_first([worker.answers() for worker in self._workers])
        except BaseException:
            self.close()
            raise

    def call(self, function: Callable[..., Any], arguments: Mapping[int, tuple]) -> list[Any]:
        """As `Simulators.call`; if it fails for several, the failure of the first is raised.

        Raises:
            UserError: if a process has died.
        """
        asked = [worker for worker in self._workers if worker.ask(function, arguments)]
        found = _raise_first([worker.answers() for worker in asked])
        return [found[row] for row in arguments]

    def close(self) -> None:
        """End the processes, after they have closed their simulators."""
        atexit.unregister(self.close)
        for worker in self._workers:
            worker.connection.close()
        deadline = time.monotonic() + _PATIENCE
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()


class _Failure(NamedTuple):
    """What a simulator raised."""

    error: Exception


Answers = dict[int, Any]
"""What was returned for each simulator; a `_Failure` ends it."""


class _Worker:
    """One of the processes, as this one sees it."""

    def __init__(self, packed: bytes, env_id: str, rows: range) -> None:
        """Start it. It answers with None for each of its simulators, once that is made."""
        self._env_id, self._rows = env_id, rows
        context = _context()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, packed, rows), name="simulators", daemon=True)
        with _hidden_script():
            self.process.start()
        theirs.close()

    def ask(self, function: Callable[..., Any], arguments: Mapping[int, tuple]) -> bool:
        """Let it call a function for those of the simulators that are its own; whether there are any."""
        own = {row: args for row, args in arguments.items() if row in self._rows}
        if own:
            with self._alive():
                self.connection.send((function, own))
        return bool(own)

    def answers(self) -> Answers:
        with self._alive():
            return self.connection.recv()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):
            self.process.join(_PATIENCE)
            code = self.process.exitcode
            how = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
            raise UserError(
                f"a worker process that steps '{self._env_id}' has died ({how}); "
                "if memory is short, lower train.workers"
            ) from None


def _raise_first(answers: list[Answers]) -> Answers:
    """All answers together. Raises what the first of the simulators has raised, if any has."""
    found = {row: answer for part in answers for row, answer in part.items()}
    for row in sorted(found):
        if isinstance(found[row], _Failure):
            raise found[row].error
    return found


def _packed(task: Task) -> bytes:
    """A task for another process, and its environment's entry in the registry. Raises `UserError`."""
    try:
        return cloudpickle.dumps((task, gymnasium.registry.get(task.spec.env_id.rpartition(":")[2])))
    except Exception as error:  # whatever the user's class raises
        raise UserError(
            f"'{task.spec.env_id}' cannot be sent to worker processes ({brief(error)}); set train.workers=1"
        ) from error


def _unpacked(packed: bytes) -> Task:
    try:
        task, entry = cloudpickle.loads(packed)
    except Exception as error:
        raise UserError(f"worker processes cannot load the task ({brief(error)}); set train.workers=1") from error
    if entry is not None:
        gymnasium.registry.setdefault(entry.id, entry)
    return task


@cache
def _context() -> Any:
    """How processes start: never from this one, where JAX has threads, but from one that has only imported modules."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@contextmanager
def _hidden_script() -> Iterator[None]:
    """Processes that start do not run the user's script again: what they need of it, they are sent."""
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _serve(connection: Connection, packed: bytes, rows: range) -> None:
    """A process: make simulators, and call functions for them until the other end closes or dies."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes, but the first one decides what to do
        signal.signal(number, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")  # the device is for the agent
    task, nothing = cache(partial(_unpacked, packed)), dict.fromkeys(rows, ())
    made = _each(lambda row: task().make(), nothing)
    envs = {row: env for row, env in made.items() if not isinstance(env, _Failure)}
    with suppress(EOFError, OSError):
        connection.send({row: None if row in envs else failure for row, failure in made.items()})
        while True:
            function, arguments = connection.recv()
            connection.send(_each(partial(_call, function, envs), arguments))
    for env in envs.values():
        env.close()


def _call(function: Callable[..., Any], envs: Mapping[int, gymnasium.Env], row: int, *args: Any) -> Any:
    return function(envs[row], *args)


def _each(function: Callable[..., Any], arguments: Mapping[int, tuple]) -> Answers:
    """Call a function for some simulators up to the first failure."""
    answers: Answers = {}
    for row, args in arguments.items():
        try:
            answers[row] = function(row, *args)
        except Exception as error:
            return {**answers, row: _Failure(_portable(error))}
    return answers


def _portable(error: Exception) -> Exception:
    """An exception that can be sent, with the place where it was raised."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(brief(error))
    return error
