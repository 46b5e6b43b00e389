"""Latency of a controller: `python benchmarks/latency.py [PRESET ...]`.

Times of calls of `run.act` after `run.warm_up`, one for each step of an episode, as in a robot's control loop. The
agents are untrained; the time of a call does not depend on what they have learned. Garbage collection is as usual,
frozen (`gc.freeze`) or off. "Full collection" is the time of one.

With `--exported`, the file for JAX and, for a policy, that for ONNX Runtime are called in turn with `run.act`, with
frozen garbage collection. With `--cpu-time`, the time of a call is that of the processor on this thread, which leaves
out the time in which other processes have it.

Beside each preset, a loop of Python is timed that takes about as long and touches no memory, in turn with the agent.
What its calls differ by comes from the machine: other processes, their use of the caches, its clock rate.
"""

import argparse
import gc
import os
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.export
import numpy as np
from rich.console import Console
from rich.table import Table

from foretell.compilation import compiled, compute_inline, use_compilation_cache
from foretell.errors import UserError
from foretell.run import Run
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.controller import Controller
from machine import describe

PRESETS, EPISODE = ("pets/default", "mbmpc/default", "sac/default"), 200
WARM_CALLS = 10
COLLECTIONS = ("as usual", "frozen", "off")
SHOWN = ("median, ms", "p99", "p99.9", "maximum", "p99.9 / median", "maximum / median")


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


def acting(run):
    """`run.act`, as a function of an observation and of whether an episode begins."""

    def act(obs, begins):
        if begins:
            run.reset()
        return run.act(obs)

    return act


def stablehlo(path):
    """The same function from a file for JAX."""
    function = jax.export.deserialize(bytearray(path.read_bytes()))
    arguments = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in function.in_avals]
    program = jax.jit(function.call).lower(*arguments).compile()
    carry, calls = [np.zeros(a.shape, a.dtype) for a in arguments[4:]], 0

    def act(obs, begins):
        nonlocal carry, calls
        numbers = np.array([begins]), np.int32(0), np.int32(calls)
        action, *carry = program(np.asarray(obs, np.float32)[None], *numbers, *carry)
        calls += 1
        return np.asarray(action)[0]

    return act


def onnx(path):
    """The same function from a file for ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda obs, begins: session.run(None, {"obs": np.asarray(obs, np.float32)[None]})[0][0]


def files(run, folder):
    """Functions of the files that the run can be exported to, by the name of their format."""
    found = {"StableHLO": stablehlo(run.export(folder / "agent.stablehlo"))}
    if find_spec("jax2onnx") and find_spec("onnxruntime"):
        try:
            found["ONNX"] = onnx(run.export(folder / "agent.onnx"))
        except UserError:  # it plans
            return found
    return found


def latencies(acts, task, calls, clock=time.perf_counter):
    """Seconds of so many calls of each of these functions, which are called in turn, after some that do not count."""
    seen, times = observations(task, EPISODE), np.empty((len(acts), calls))
    for _ in range(WARM_CALLS):  # what was done before has emptied the processor's caches
        for act in acts:
            act(seen[0], True)
    for i in range(calls):
        obs, begins = seen[i % EPISODE], i % EPISODE == 0
        for k, act in enumerate(acts):
            start = clock()
            act(obs, begins)
            times[k, i] = clock() - start
    return times


def loop(seconds):
    """A function that counts for about so long."""
    count = 1000
    while (taken := counting_seconds(count)) < seconds:
        count = int(count * max(1.1, min(2.0, seconds / taken)))

    def act(obs, begins):
        for _ in range(count):
            pass

    return act


def counting_seconds(count, repeats=20):
    """The least time of counting so far."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(count):
            pass
        times.append(time.perf_counter() - start)
    return min(times)


def with_loop(acts, task):
    """These functions, and a loop that takes as long as the first one."""
    first = next(iter(acts.values()))
    return {**acts, "a loop": loop(float(np.median(latencies([first], task, EPISODE))))}


def collection_seconds():
    """The time of one full garbage collection."""
    start = time.perf_counter()
    gc.collect()
    return time.perf_counter() - start


def measured(acts, task, calls, collection, clock=time.perf_counter):
    """Latencies with one kind of garbage collection, and the time of a full collection with it."""
    gc.collect()
    (gc.freeze if collection == "frozen" else gc.unfreeze)()
    (gc.disable if collection == "off" else gc.enable)()
    try:
        return latencies(acts, task, calls, clock), collection_seconds()
    finally:
        gc.enable()
        gc.unfreeze()


def row(times):
    """What is shown of the times of calls: milliseconds, and two ratios."""
    median, *high = np.quantile(times, [0.5, 0.99, 0.999, 1.0])
    ratios = [f"{value / median:.1f}" for value in high[1:]]
    return [*(f"{1e3 * value:.3f}" for value in (median, *high)), *ratios]


def compared(presets, env, calls, clock):
    """A table of `run.act` beside the exported files."""
    table = Table("preset", "called", *SHOWN)
    for preset in presets:
        run = untrained(preset, env)
        run.warm_up()
        with tempfile.TemporaryDirectory() as folder:
            acts = {"run.act": acting(run), **files(run, Path(folder))}
            for act in acts.values():
                act(np.zeros(run.task.spec.obs_size, np.float32), True)
            acts = with_loop(acts, run.task)
            times, _ = measured(list(acts.values()), run.task, calls, "frozen", clock)
        for name, of_one in zip(acts, times, strict=True):
            table.add_row(preset, name, *row(of_one))
    return table


def collected(presets, env, calls, clock):
    """A table of `run.act` with each kind of garbage collection."""
    table = Table("preset", "garbage collection", "called", *SHOWN, "full collection, ms", "compiled after warm_up")
    for preset in presets:
        run = untrained(preset, env)
        run.warm_up()
        acts = with_loop({"run.act": acting(run)}, run.task)
        for collection in COLLECTIONS:
            before = compiled()[0]
            times, seconds = measured(list(acts.values()), run.task, calls, collection, clock)
            ends = f"{1e3 * seconds:.1f}", f"{compiled()[0] - before}"
            for name, of_one in zip(acts, times, strict=True):
                table.add_row(preset, collection, name, *row(of_one), *ends)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=PRESETS, help=f"by default {' '.join(PRESETS)}")
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--exported", action="store_true", help="compare with the exported files")
    parser.add_argument("--other-thread", action="store_true", help="let JAX compute on a thread of its own")
    parser.add_argument("--cpu-time", action="store_true", help="leave out the time that other processes take")
    arguments = parser.parse_args()
    if not arguments.other_thread:
        compute_inline()
    use_compilation_cache()
    tabulate = compared if arguments.exported else collected
    clock = time.thread_time if arguments.cpu_time else time.perf_counter
    table = tabulate(arguments.presets, arguments.env, arguments.calls, clock)
    console = Console(width=160)
    console.print(
        f"{describe()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {arguments.calls:,} calls each"
    )
    console.print(table)


if __name__ == "__main__":
    main()
