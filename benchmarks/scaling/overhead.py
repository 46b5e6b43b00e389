"""What many short runs cost beside their own processes: as processes of this machine, and on Ray.

The overhead of a run is the time from the first start to the end of all runs, times the simultaneous runs, over the
number of runs, less the mean wall time of a process. Runs that all start at once also show how far apart they start.
"""

import tempfile
from pathlib import Path
from statistics import fmean

from foretell.experiments.executor import Ended, Executor, Started, available_cores
from foretell.experiments.plan import make_plan
from scaling.ways import execute, members, ways

SETS = ("task.horizon=20", "train.trials=2", "model.members=2", "model.hidden=[16]", "fit.epochs=1")
SETS += ("planner.horizon=5", "planner.population=20", "planner.iterations=1", "imagination.particles=2")


def measure(runs: int) -> list[dict]:
    """A row for each way: one run at a time, two, and all of them. Programs are compiled before."""
    _times(ways(1)["processes"], 1)
    rows = []
    for jobs in dict.fromkeys((1, min(2, runs), runs)):
        for way in [way for way in ways(jobs) if way != "vectorised"]:
            starts, ends, processes = _times(ways(jobs)[way], runs)
            row = {"way": way, "cores": len(available_cores()), "at a time": jobs, "runs": runs}
            rows.append({**row, **costs(starts, ends, processes, jobs)})
    return rows


def costs(starts: list[float], ends: list[float], processes: list[float], jobs: int) -> dict[str, float | None]:
    """Seconds until the first start, between two starts where all start at once, of a process, and of overhead."""
    runs, first = len(ends), min(starts)
    apart = (max(starts) - first) / (runs - 1) if 1 < runs == jobs else None
    overhead = (max(ends) - first) * jobs / runs - fmean(processes)
    return {"start s": first, "apart s": apart, "process s": fmean(processes), "overhead s": overhead}


def _times(executor: Executor, runs: int) -> tuple[list[float], list[float], list[float]]:
    """When runs started and ended, and the wall time of their processes (seconds)."""
    plan = make_plan(["pets/default"], env="Pendulum-v1", seeds=runs, overrides=SETS)
    with tempfile.TemporaryDirectory() as folder:
        events = execute(executor, members(plan, Path(folder)))
    starts = [at for at, event in events if isinstance(event, Started)]
    ends = [(at, event.seconds) for at, event in events if isinstance(event, Ended)]
    return starts, [at for at, _ in ends], [seconds for _, seconds in ends]
