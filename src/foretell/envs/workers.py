"""Simulators in separate processes, so that several can step in parallel.

Threads would suffice for simulators that release Python's lock, but not for those written in Python. Gymnasium's
`AsyncVectorEnv` is not used: it steps all of its environments in every call, has one process for each, and runs the
user's script again in each process.
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
"""Seconds that simulators may take to close."""


def make_simulators(task: Task, count: int, workers: int) -> "Simulators | Workers":
    """Simulators in `workers` processes, at most one process for each simulator; in this process if `workers` is 1."""
    workers = min(workers, count)
    return Workers(task, count, workers) if workers > 1 else Simulators(task, count)


class Elsewhere(gymnasium.Env):
    """Placeholder for a simulator in another process, whose state cannot be copied from here."""


class Workers:
    """As `Simulators`, but in worker processes that step in parallel. Must be closed."""

    def __init__(self, task: Task, count: int, workers: int) -> None:
        """Make the simulators.

        Args:
            task: the task.
            count: how many simulators.
            workers: how many processes, at most `count`.

        Raises:
            UserError: if a simulator cannot be made, or cannot be sent to another process.
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
        """As `Simulators.call`; if several simulators fail, the exception of the first one is raised.

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
    """An exception that a simulator raised."""

    error: Exception


Answers = dict[int, Any]
"""The result of each simulator; after a `_Failure` there are no further results."""


class _Worker:
    """The connection of this process to one of the worker processes."""

    def __init__(self, packed: bytes, env_id: str, rows: range) -> None:
        """Start the process. It answers with None for each of its simulators once they are made."""
        self._env_id, self._rows = env_id, rows
        context = _context()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, packed, rows), name="simulators", daemon=True)
        with _hidden_script():
            self.process.start()
        theirs.close()

    def ask(self, function: Callable[..., Any], arguments: Mapping[int, tuple]) -> bool:
        """Ask it to call a function for its own simulators among these. Returns whether there are any."""
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
    """All answers in one dictionary. Raises the exception of the first simulator that failed, if any."""
    found = {row: answer for part in answers for row, answer in part.items()}
    for row in sorted(found):
        if isinstance(found[row], _Failure):
            raise found[row].error
    return found


def _packed(task: Task) -> bytes:
    """A task, pickled with its environment's registry entry, for another process. Raises `UserError`."""
    try:
        return cloudpickle.dumps((task, gymnasium.registry.get(task.spec.env_id.rpartition(":")[2])))
    except Exception as error:  # of any kind, raised by the user's class
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
    """The start method: fork a server that has only imported modules, or spawn. This process has JAX's threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@contextmanager
def _hidden_script() -> Iterator[None]:
    """Keep new processes from running the user's script again: its classes are sent to them instead."""
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _serve(connection: Connection, packed: bytes, rows: range) -> None:
    """The main function of a worker: make simulators, and call functions for them until the connection closes."""
    hangup = getattr(signal, "SIGHUP", signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM, hangup):  # only the main process handles these signals
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
    """Call a function for some simulators, until the first failure."""
    answers: Answers = {}
    for row, args in arguments.items():
        try:
            answers[row] = function(row, *args)
        except Exception as error:
            return {**answers, row: _Failure(_portable(error))}
    return answers


def _portable(error: Exception) -> Exception:
    """An exception that can be pickled, with its traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(brief(error))
    return error
