"""Foretell's side of the race; `benchmarks/race.py` starts it as the sides of its peers, see `peers/turns.py`."""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from queue import Queue
from threading import Thread

import gymnasium as gym
import jax
import numpy as np

import latency
import updates
from foretell.callbacks import CSVLog
from foretell.compilation import COMPILER_OPTIONS, compute_inline, use_compilation_cache
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.events import Callback, RunInfo
from foretell.training.loop import Loop
from machine import machine_rate, matmul_rate, memory_rate
from peers.turns import latencies, repeated, serve, start
from racing.prepare import fitted, planned


def with_limit(measure, flop, shape):
    """The measurement with what the hardware allows: FLOP of a unit of work, and rates measured in this process."""

    def limit():
        rates = {"shape_rate": matmul_rate(*shape), "machine_rate": machine_rate(), "memory_rate": memory_rate()}
        return {"flop": flop, "shape": shape, **rates}

    measured = lambda: {"seconds": measure()}  # noqa: E731
    measured.limit, measured.flop, measured.shape = limit, flop, shape
    return measured


def compiled(prepared):
    """A call of what was prepared."""
    program = jax.jit(prepared.function, compiler_options=COMPILER_OPTIONS).lower(*prepared.arguments).compile()
    return lambda: jax.block_until_ready(program(*prepared.arguments))


def plan(preset, overrides=None, **_):
    """Seconds of one control step."""
    prepared = planned(preset, overrides or {})
    return with_limit(repeated(compiled(prepared)), prepared.flop, prepared.shape)


def fit(preset, rows, overrides=None, **_):
    """Seconds of one call of training, with its metrics."""
    prepared = fitted(preset, rows, overrides or {})
    call = compiled(prepared)
    steps = float(call()[1]["gradient_steps"])
    return with_limit(repeated(call), steps * prepared.flop, prepared.shape)


def update(preset, per_call, overrides=None, **_):
    """Seconds of one update, `per_call` of them in each program."""
    given = updates.subject(preset, overrides or {})
    learn = updates.learn_from(given.agent)
    program, state, calls = updates.program_of(learn), given.state, iter(range(10**9))

    def call():
        nonlocal state
        state, _ = jax.block_until_ready(program(state, given.replay, np.int32(per_call), np.int32(next(calls))))

    measure = repeated(call)
    flop = sum(updates.update_flop(given.agent, given.state))
    return with_limit(lambda: measure() / per_call, flop, updates.largest_shape(given))


class Gate(Callback):
    """Lets training go on for one block of steps at a time, and notes the seconds of each."""

    def __init__(self, first, block):
        self.left, self.block, self.asked, self.times = first, block, Queue(), Queue()
        self.begun = time.perf_counter()

    def on_step(self, event):
        self.left -= 1
        if not self.left:
            self.times.put((time.perf_counter() - self.begun) / self.block)
            self.asked.get()
            self.begun, self.left = time.perf_counter(), self.block

    def measure(self):
        """Seconds of a step in the next block."""
        self.asked.put(None)
        return self.times.get(timeout=600)


def step(preset, env, block, overrides=None, **_):
    """Seconds of one environment step of a run, its files included."""
    steps = {"task": {"env": env}, "train": {"steps": 10_000_000}}
    settings, gate = resolve(preset, [overrides or {}, steps]), Gate(300, block)
    task, folder = make_task(settings.task), tempfile.mkdtemp()
    directory = RunDirectory.create(Path(folder) / "run", overwrite=False)
    directory.write_config(settings, preset, 0)
    agent, schedule = settings.build(task), settings.train
    run = RunInfo(directory=directory, preset=preset, seed=0, task=task, agent=agent, schedule=schedule)
    Thread(target=lambda: Loop(run, [CSVLog(), gate]).run(), daemon=True).start()
    gate.times.get(timeout=600)
    return gate.measure


def act(preset, env, calls, **_):
    """Latency of `run.act`."""
    compute_inline()  # as `foretell.load` does
    run = latency.untrained(preset, env)
    run.warm_up()
    seen = latency.observations(run.task, calls)

    def measure():
        run.reset()
        turn = iter(seen)
        return latencies(lambda: run.act(next(turn)), calls)

    return measure


def run(preset, env=None, threshold=None, cold=False, **_):
    """Seconds from the start of `foretell train` until an episode has reached a return, or to the end of the run.

    A cold run compiles everything; a warm one finds the programs that the run before has left.
    """
    caches = tempfile.mkdtemp()

    def measure():
        with tempfile.TemporaryDirectory() as folder:
            cache = folder if cold else caches
            return _trained(preset, env, threshold, Path(folder) / "run", str(Path(cache) / "cache"))

    if not cold:
        measure()
    return measure


def _trained(preset, env, threshold, out, cache):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    words = [sys.executable, "-m", "foretell", "train", preset, "--out", str(out), "--quiet"]
    begun = time.perf_counter()
    process = subprocess.Popen([*words, *(["--env", env] if env else [])], env=environment, stdout=2)
    while process.poll() is None and not _reached(out / "episodes.csv", threshold):
        time.sleep(0.02)
    seconds = time.perf_counter() - begun
    ended = process.poll()
    process.terminate()
    process.wait()
    if ended or (threshold is not None and not _reached(out / "episodes.csv", threshold)):
        raise RuntimeError(f"{preset} ended before an episode reached {threshold}")
    return seconds


def _reached(table, threshold):
    if threshold is None or not table.exists():
        return False
    with table.open(newline="") as file:
        return any(float(row["return"] or "-inf") >= threshold for row in csv.DictReader(file) if row["wall_seconds"])


if __name__ == "__main__":
    gym.logger.min_level = gym.logger.ERROR
    use_compilation_cache()
    serve({"plan": plan, "fit": fit, "update": update, "step": step, "act": act, "start": start, "run": run})
