"""How long many runs take together: as processes of this machine, and on Ray.

`python benchmarks/scale.py --runs 4 --out docs/results/scale.csv` trains tiny runs, prints a table and writes it. The
start is the time until the first run has started. The overhead of a run is what it takes besides its own process: the
time from the first start to the end of all runs, times the simultaneous runs, over the number of runs, less the mean
wall time of a process. Programs are compiled before anything is measured.
"""

import argparse
import csv
import os
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from threading import Event

from rich.console import Console
from rich.table import Table

from foretell.experiments.cluster import Cluster, run_on_ray
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.executor import Ended, Executor, Started, available_cores, divide, run_locally
from foretell.experiments.plan import make_plan

SETS = ("task.horizon=20", "train.trials=2", "model.members=2", "model.hidden=[16]", "fit.epochs=1")
SETS += ("planner.horizon=5", "planner.population=20", "planner.iterations=1", "imagination.particles=2")


def executors(jobs: list[int]) -> dict[tuple[str, int], Executor]:
    """What is measured, by its name and the number of simultaneous runs."""
    cores = available_cores()
    found = {("processes", n): partial(run_locally, slots=divide(cores, n), tick=0.02) for n in jobs}
    if find_spec("ray"):
        found |= {("Ray", n): partial(run_on_ray, cluster=Cluster(cpus=len(cores) / n), tick=0.02) for n in jobs}
    return found


def measured(execute: Executor, runs: int, folder: Path, jobs: int) -> dict[str, float]:
    """Times (seconds) of tiny runs with an executor."""
    plan = make_plan(["pets/default"], env="Pendulum-v1", seeds=runs, overrides=SETS)
    began, started, ends = time.perf_counter(), None, []
    for event in execute(StudyDirectory(folder).members(plan), Event()):
        if isinstance(event, Started) and started is None:
            started = time.perf_counter()
        if isinstance(event, Ended):
            assert event.code == 0, event.error
            ends.append((time.perf_counter(), event.seconds))
    last, process = max(at for at, _ in ends), fmean(seconds for _, seconds in ends)
    overhead = (last - started) * jobs / runs - process
    return {"start": started - began, "total": last - began, "process": process, "overhead": overhead}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=4, help="of each row")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="simultaneous runs")
    parser.add_argument("--out", type=Path, default=Path("runs/scale.csv"), help="where to write the table")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        measured(executors([1])["processes", 1], 1, Path(folder, "first"), 1)
        for (name, jobs), execute in executors(arguments.jobs).items():
            row = measured(execute, arguments.runs, Path(folder, f"{name}-{jobs}"), jobs)
            rows.append({"executor": name, "at a time": jobs, "runs": arguments.runs, **row})
    table = Table(*(f"{name}, s" if isinstance(value, float) else name for name, value in rows[0].items()))
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=100).print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", table)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
