"""The ways in which several runs are trained at a time: executors of a study."""

import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Event

from foretell.experiments.cluster import Cluster, run_on_ray
from foretell.experiments.directory import Member, StudyDirectory
from foretell.experiments.executor import Ended, Executor, Started, available_cores, divide, run_locally
from foretell.experiments.plan import Plan
from foretell.seeds import vectorised

TICK = 0.02


def ways(jobs: int) -> dict[str, Executor]:
    """All ways to train so many runs at a time, that of Ray if it is installed."""
    cores = available_cores()
    found = {
        "vectorised": partial(vectorised, tick=TICK),
        "processes": partial(run_locally, slots=divide(cores, jobs), tick=TICK),
    }
    if find_spec("ray"):
        found["Ray"] = partial(run_on_ray, cluster=Cluster(cpus=len(cores) / jobs), tick=TICK)
    return found


def members(plan: Plan, folder: Path) -> list[Member]:
    """The runs of a plan in a folder."""
    return StudyDirectory(folder).members(plan)


def execute(executor: Executor, runs: list[Member]) -> list[tuple[float, Started | Ended]]:
    """Train all runs; when each of them started and ended (seconds)."""
    begin, events = time.perf_counter(), []
    for event in executor(runs, Event()):
        if event is not None:
            events.append((time.perf_counter() - begin, event))
        if isinstance(event, Ended) and event.code:
            raise RuntimeError(f"{event.member.name} failed: {event.error}")
    return events
