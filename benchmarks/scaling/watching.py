"""Runs that are watched while they are trained: when each row of `metrics.csv` came, and the processor time."""

import csv
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import numpy as np

FIRST = 1
"""The row from which rates are measured: the second, when everything is compiled."""


class Watch:
    """Notes when rows of `metrics.csv` of some runs appear, until its block ends."""

    def __init__(self, runs: Sequence[Path], tick: float = 0.05):
        self.runs, self._tick, self._end = list(runs), tick, Event()
        self.noted: dict[Path, list[tuple[float, float]]] = {run: [] for run in self.runs}
        """Of each row: seconds since the block began, and processor seconds."""

    def __enter__(self):
        self._start, self._thread = time.perf_counter(), Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        self._look()
        self.seconds = time.perf_counter() - self._start

    def _watch(self):
        while not self._end.wait(self._tick):
            self._look()

    def _look(self):
        new = {run: count_rows(run / "metrics.csv") - len(noted) for run, noted in self.noted.items()}
        if any(count > 0 for count in new.values()):
            now = time.perf_counter() - self._start, processor_seconds(os.getpid())
            for run, count in new.items():
                self.noted[run] += [now] * count

    @property
    def start(self) -> float:
        """Seconds until all runs had their second row: starting, compiling, and the first steps."""
        return max(noted[FIRST][0] for noted in self.noted.values())

    def rates(self, **series: dict[Path, np.ndarray]) -> dict[str, float | None]:
        """Rates of all runs together, between the time when all had their second row and the end of the first.

        Args:
            series: by name, what was counted up to each row of each run.

        Returns:
            Of each name the rate per second, and of `updates` the rate per second of processor time; None if the runs
            were not trained at the same time.
        """
        begin, end = self.start, min(noted[-1][0] for noted in self.noted.values())
        seconds = {run: np.array(noted) for run, noted in self.noted.items()}

        def grown(counted):
            return sum(np.diff(np.interp((begin, end), seconds[run][:, 0], counted[run]))[0] for run in self.runs)

        if end <= begin:
            return dict.fromkeys((*(f"{name}/s" for name in series), "updates/CPU s"))
        spent = np.concatenate([*seconds.values()])
        spent = spent[np.argsort(spent[:, 0])]
        used = np.diff(np.interp((begin, end), spent[:, 0], spent[:, 1]))[0]
        found = {f"{name}/s": float(grown(counted) / (end - begin)) for name, counted in series.items()}
        return {**found, "updates/CPU s": float(grown(series["updates"]) / used) if used else None}


def count_rows(path: Path) -> int:
    """Whole lines of a table without its head; 0 if it is not there."""
    return max(0, path.read_bytes().count(b"\n") - 1) if path.is_file() else 0


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def steps_and_updates(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps, and updates of the learner, up to each row of metrics."""
    rows = read(run / "metrics.csv")
    calls = [0, *(int(row["learn"]) for row in rows)]
    updates = [(b - a) * float(row["gradient_steps"]) for (a, b), row in zip(pairwise(calls), rows, strict=True)]
    return np.array([float(row["env_steps"]) for row in rows]), np.cumsum(updates)


def processor_seconds(root: int) -> float:
    """Processor time of a process and of all that it has started; 0 where `/proc` does not say."""
    ticks, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)], ticks[int(folder.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(ticks.get(pid, 0) for pid in family) / os.sysconf("SC_CLK_TCK")
