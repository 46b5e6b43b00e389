"""A model of how runs grow with nodes: measured constants of one machine, and arithmetic. Nothing here is measured."""

import heapq
from statistics import fmean
from typing import NamedTuple

NODES = (1, 10, 100)
RENEWALS = 3.3
"""Policies that a free-running learner passes on per second, at most: one after each call, of about 0.3 seconds."""


class Constants(NamedTuple):
    """What was measured on one node. Times are in seconds."""

    slots: int
    """Runs that a node trains at a time."""
    ray_start: float
    """Until Ray has started the first run."""
    apart: float
    """Between the starts of two runs, which one process hands out one after the other."""
    overhead: float
    """Of a run on Ray beside its own process."""
    run: float
    """Of the process of a short run."""
    act: float
    """That an actor on Ray works for one environment step."""
    update: float
    """That the learner on Ray works for one update."""
    policy_bytes: int
    block_bytes: int
    block_steps: int
    worker_call: float
    """That a call of environment workers takes for each of them, beside the steps."""


def makespan(runs: int, slots: int, seconds: float, apart: float) -> float:
    """Seconds until all runs have ended, if each takes the next free slot, and starts are at least `apart`."""
    free, started, last = [0.0] * slots, -apart, 0.0
    for _ in range(runs):
        started = max(heapq.heappop(free), started + apart)
        last = max(last, started + seconds)
        heapq.heappush(free, started + seconds)
    return last


def many_runs(known: Constants, nodes: int, runs: int, seconds: float) -> dict[str, float]:
    """Wall time of so many runs of so many seconds on so many nodes, and the share that is their own work."""
    slots = nodes * known.slots
    total = known.ray_start + makespan(runs, slots, known.overhead + seconds, known.apart)
    ideal = makespan(runs, slots, seconds, 0.0)
    return {"nodes": nodes, "runs": runs, "s each": seconds, "total s": total, "share of ideal": ideal / total}


def one_run(known: Constants, actors: int, per_step: float, renewed: float) -> dict[str, float]:
    """What limits a free-running run with one actor on each node.

    Args:
        known: the constants.
        actors: how many, each on a node of its own.
        per_step: updates of the learner for each environment step.
        renewed: renewals of the policy per second, each of which is sent to all actors.
    """
    acting, learning = actors / known.act, 1.0 / (known.update * per_step)
    steps = min(acting, learning)
    sent = actors * renewed * known.policy_bytes + steps * known.block_bytes / known.block_steps
    limit = "acting" if acting < learning else "learning"
    return {"actors": actors, "updates/step": per_step, "steps/s": steps, "limited by": limit, "MB/s": sent / 1e6}


def with_workers(known: Constants, workers: int, step: float, environments: int) -> dict[str, float]:
    """Share of the ideal rate of environments that are stepped by workers of one node with a core for each of them."""
    part = step * environments / workers
    return {"workers": workers, "step s": step, "share of ideal": part / (part + known.worker_call * workers)}


def of_nodes(row: dict, nodes: int) -> dict[str, object]:
    """Rates of as many seeds on each node as a measured row has: nodes share nothing but the file system."""
    rates = {name: row[name] and nodes * row[name] for name in ("steps/s", "updates/s")}
    return {"nodes": nodes, "way": row["way"], "seeds": nodes * row["seeds"], **rates}


def tables(known: Constants, seeds: list[dict]) -> dict[str, list[dict]]:
    """The model for 1, 10 and 100 nodes, with the measured rows of seeds."""
    sizes = [(n, runs) for n in NODES for runs in (10, 100, 1000)]
    most = max(row["seeds"] for row in seeds)
    return {
        "seeds on nodes": [of_nodes(row, n) for n in NODES for row in seeds if row["seeds"] == most],
        "many runs on Ray": [many_runs(known, *size, run) for run in (known.run, 600.0) for size in sizes],
        "one free-running run": [one_run(known, n, per_step, RENEWALS) for per_step in (1.0, 0.01) for n in NODES],
        "environment workers of one node": [
            with_workers(known, workers, step, 16) for step in (5e-3, 0.1) for workers in (1, 2, 4, 8, 16)
        ],
    }


def constants(tables: dict[str, list[dict]]) -> Constants:
    """The constants in measured tables: of overhead, of a free-running run with one actor, and of workers."""
    on_ray = {row["at a time"]: row for row in tables["overhead"] if row["way"] == "Ray"}
    one, together = on_ray[1], on_ray[max(on_ray)]
    free = next(row for row in tables["async"] if row.get("actor s/step"))
    sent = {row["what"]: row["bytes"] for row in tables["sent"]}
    steps = next(int(name.split()[0]) for name in sent if name.endswith(" steps"))
    return Constants(
        slots=one["cores"],
        ray_start=one["start s"],
        apart=max(0.0, together["apart s"] or 0.0),
        overhead=max(0.0, one["overhead s"]),
        run=one["process s"],
        act=free["actor s/step"],
        update=free["learner s/update"],
        policy_bytes=sent["policy"],
        block_bytes=sent["block with them"],
        block_steps=steps,
        worker_call=fmean(row["call s"] for row in tables["workers"] if row["call s"]),
    )
