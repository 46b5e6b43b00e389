"""What a worker of Ray does for one run. Nothing here waits for JAX, since every worker imports it."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock

from foretell.errors import UserError
from foretell.experiments.process import STOPPED, again, run_process
from foretell.experiments.store import Copy

_LOCKED_SECONDS = 60.0
"""Time (seconds) that the process of a lost trial may need to end."""


class Stops:
    """An actor that says whether the runs are to stop."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self) -> None:
        """Ask all runs to stop."""
        self._asked = True

    def asked(self) -> bool:
        """Whether the runs are to stop."""
        return self._asked


def execute(
    config: dict[str, Any], *, jobs: Sequence[dict[str, Any]], cpus: float, gpus: float, stops: Any, rule: bool
) -> None:
    """Execute one run as a trial of Ray Tune, with its points for the rule that may stop it, and its end.

    Args:
        config: the `number` of its job.
        jobs: of each run, the `words` that start it, its `run` directory and `log`, the working directory `cwd`, the
            `group` of runs that it is compared with, whether it is `done`, whether its settings name code, which is
            to be trusted (`trust`), the `store` to which it is copied, if any, and its `name` there.
        cpus: its processor cores.
        gpus: its GPUs.
        stops: the actor that says whether it is to stop.
        rule: whether to report its points.

    Raises:
        ChildProcessError: if its process was killed, so that Tune starts the trial again.
    """
    import ray
    from ray import tune

    job = jobs[config["number"]]
    run = Path(job["run"])
    reported: list[tuple[int, float]] = []

    def report_points() -> None:
        for steps, value in list(points(run / "episodes.csv"))[len(reported) :]:
            reported.append((steps, value))
            tune.report({"steps": steps, "return": value})

    def is_to_stop() -> bool:
        if rule:
            report_points()
        try:
            return bool(ray.get(stops.asked.remote()))
        except ray.exceptions.RayActorError:  # until it is started again on another node
            return False

    ended = _executed(job, is_to_stop, cpus, gpus, rule)
    if rule:
        report_points()
    last = dict(zip(("steps", "return"), reported[-1], strict=True)) if reported else {}
    tune.report({**last, **ended})


def _executed(
    job: Mapping[str, Any], is_to_stop: Callable[[], bool], cpus: float, gpus: float, rule: bool
) -> dict[str, Any]:
    """Execute a run, unless it is done, with its copies in the store. Returns how it has ended."""
    run, code, error, seconds = Path(job["run"]), 0, "", 0.0
    copy = Copy(job["store"], job["name"], run, Path(job["log"]))

    def stops() -> bool:
        if job["store"]:  # before the rule sees the points
            copy.update(sum(1 for _ in points(run / "episodes.csv")) if rule else 0)
        return is_to_stop()

    try:
        _wait_until_free(run)
        copy.pull()
        if not job["done"] and is_to_stop():
            code = STOPPED
        elif not job["done"]:
            code, error, seconds = _trained(job, stops, cpus, gpus)
            copy.finish()
    except UserError as refused:
        code, error = 1, str(refused)
    if code < 0:
        raise ChildProcessError(error)
    return {"code": code, "error": error, "seconds": seconds}


def _trained(
    job: Mapping[str, Any], is_to_stop: Callable[[], bool], cpus: float, gpus: float
) -> tuple[int, str, float]:
    """Start or resume a run. Returns what `run_process` returns."""
    cwd = job["cwd"] if os.path.isdir(job["cwd"]) else None
    resume = again(Path(job["run"]))
    words = [*resume, *(["--trust"] if job["trust"] else [])] if resume else job["words"]
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * gpus:.3f}"} if 0 < gpus < 1 else {}
    return run_process(words, Path(job["log"]), (), is_to_stop, threads=max(1, round(cpus)), env=share, cwd=cwd)


def points(table: Path) -> Iterator[tuple[int, float]]:
    """Steps and mean return of each round of evaluation, or without any of each trial, in an `episodes.csv`."""
    if not table.is_file():
        return
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["return"] and row["wall_seconds"]]
    kind = "eval" if any(row["kind"] == "eval" for row in rows) else "train"
    for steps, group in groupby((row for row in rows if row["kind"] == kind), lambda row: int(row["env_steps"])):
        yield steps, fmean(float(row["return"]) for row in group)


def _wait_until_free(run: Path) -> None:
    """Wait until no other process has the lock of a run: that of a lost trial may still be ending."""
    if run.is_dir():
        with FileLock(run / ".lock", timeout=_LOCKED_SECONDS):
            return
