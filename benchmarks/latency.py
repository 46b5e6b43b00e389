"""Latency of a controller: `python benchmarks/latency.py [PRESET ...]`.

Times of calls of `run.act` after `run.warm_up`, one for each step of an episode, as in a robot's control loop. The
agents are untrained; the time of a call does not depend on what they have learned. Garbage collection is as usual,
frozen (`gc.freeze`) or off. "Full collection" is the time of one.
"""

import argparse
import gc
import os
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from foretell.compilation import compiled, use_compilation_cache
from foretell.run import Run
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.controller import Controller
from machine import describe

PRESETS, EPISODE = ("pets/default", "mbmpc/default", "sac/default"), 200
COLLECTIONS = ("as usual", "frozen", "off")


def untrained(preset, env):
    """A run that has not begun, without a directory."""
    settings = resolve(preset, [{"task": {"env": env}}])
    task = make_task(settings.task)
    agent = settings.build(task)
    state = jax.jit(agent.init)(jax.random.key(0))
    return Run(RunDirectory(Path()), settings, 0, task, Controller(agent, state, task.spec))


def observations(task, count):
    """The observations of a random episode."""
    env, generator = task.make(), np.random.default_rng(0)
    found = [env.reset(seed=0)[0]]
    while len(found) < count:
        obs, _, terminated, truncated, _ = env.step(
            generator.uniform(task.spec.action_low, task.spec.action_high).astype(np.float32)
        )
        found.append(env.reset()[0] if terminated or truncated else obs)
    env.close()
    return found


def latencies(run, calls):
    """Seconds of each of so many calls of `act`, with a reset before each episode."""
    seen, times = observations(run.task, EPISODE), np.empty(calls)
    for i in range(calls):
        if i % EPISODE == 0:
            run.reset()
        start = time.perf_counter()
        run.act(seen[i % EPISODE])
        times[i] = time.perf_counter() - start
    return times


def collection_seconds():
    """The time of one full garbage collection."""
    start = time.perf_counter()
    gc.collect()
    return time.perf_counter() - start


def measured(run, calls, collection):
    """Latencies with one kind of garbage collection, and the time of a full collection with it."""
    gc.collect()
    (gc.freeze if collection == "frozen" else gc.unfreeze)()
    (gc.disable if collection == "off" else gc.enable)()
    try:
        return latencies(run, calls), collection_seconds()
    finally:
        gc.enable()
        gc.unfreeze()


def row(times):
    """Median, two high quantiles and the maximum, in milliseconds."""
    return [f"{1e3 * value:.2f}" for value in (*np.quantile(times, [0.5, 0.99, 0.999]), times.max())]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=PRESETS, help=f"by default {' '.join(PRESETS)}")
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--calls", type=int, default=10_000)
    arguments = parser.parse_args()
    use_compilation_cache()
    table = Table("preset", "garbage collection", "median, ms", "p99", "p99.9", "maximum", "full collection, ms",
                  "compiled after warm_up")  # fmt: skip
    for preset in arguments.presets:
        run = untrained(preset, arguments.env)
        run.warm_up()
        for collection in COLLECTIONS:
            before = compiled()[0]
            times, seconds = measured(run, arguments.calls, collection)
            table.add_row(preset, collection, *row(times), f"{1e3 * seconds:.1f}", f"{compiled()[0] - before}")
    console = Console(width=160)
    console.print(
        f"{describe()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {arguments.calls:,} calls each"
    )
    console.print(table)


if __name__ == "__main__":
    main()
