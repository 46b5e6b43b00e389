"""Turns: every side of a row is a process of its own; they are measured one after the other, again and again."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from peers.install import installed, python_of
from racing.rows import SCRIPTS, Row

BENCHMARKS = Path(__file__).parents[1]
OURS = "ours"


class Side:
    """A process that prepares a workload when it is made; see `peers/turns.py`."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        self._process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self.found: dict[str, Any] = {"seconds": []}

    def prepare(self) -> None:
        """Wait until everything is compiled."""
        self.found |= self._read()

    def measure(self) -> None:
        """One turn. Raises `RuntimeError` with the last line that the process printed before it ended."""
        answer = self._ask("time")
        self.found["seconds"].append(answer.pop("seconds"))
        for name, value in answer.items():
            self.found.setdefault(name, []).append(value)

    def finish(self) -> dict[str, Any]:
        """Everything that the process has said."""
        if limit := self._ask("limit"):
            self.found["limit"] = limit
        self._process.stdin.close()
        return self.found | self._read()

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _ask(self, line: str) -> dict[str, Any]:
        try:
            print(line, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            self._fail()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        return json.loads(line)

    def _fail(self) -> None:
        self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        raise RuntimeError(lines[-1][:300] if lines else f"ended with {self._process.returncode}")


def start(row: Row, name: str, venvs: Path) -> Side:
    """The process of one side. Raises `RuntimeError` if its peer is not installed."""
    paths = [BENCHMARKS / "peers"]
    if name == OURS:
        python, script = Path(sys.executable), BENCHMARKS / "racing" / "ours.py"
        paths = [BENCHMARKS.parent / "src", BENCHMARKS, *paths]
    else:
        if error := installed(name, venvs).get("error"):
            raise RuntimeError(error)
        python, script = python_of(venvs / name), paths[0] / SCRIPTS[name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "JAX_PLATFORMS": "cpu"}
    return Side([str(python), str(script), row.workload, json.dumps(row.arguments(name))], environment)


def race(row: Row, pairs: int, begin: Callable[[Row, str], Side]) -> dict[str, dict[str, Any]]:
    """Measure all sides in turns.

    Args:
        row: what is measured.
        pairs: number of turns of each side.
        begin: makes the process of a side.

    Returns:
        For each side `seconds` of each turn, `setup`, `memory` and more, or `error`.
    """
    running: dict[str, Side] = {}
    found: dict[str, dict[str, Any]] = {}

    def attempt(name: str, action: Callable[[], Any]) -> Any:
        """What the action returns; a side that fails is left out from then on."""
        try:
            return action()
        except RuntimeError as error:
            found[name] = {"error": str(error)}
            running.pop(name, None)
            return None

    with ExitStack() as stack:
        for name in (OURS, *row.peers):
            side = attempt(name, lambda name=name: begin(row, name))
            if side is not None:
                stack.callback(side.end)
                running[name] = side
                attempt(name, side.prepare)
        for _ in range(pairs):
            for name, side in list(running.items()):
                attempt(name, side.measure)
        for name, side in list(running.items()):
            found[name] = attempt(name, side.finish) or found[name]
    return {name: found[name] for name in (OURS, *row.peers)}
