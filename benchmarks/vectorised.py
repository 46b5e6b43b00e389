"""Seeds trained together against seeds in processes: `python benchmarks/vectorised.py [PRESET ...]`.

Environment steps and gradient steps per second of all seeds together. Each is measured from the second row of metrics
to the last one, when everything is compiled. Processes start at the same time, and their rates are added. On a machine
that does other work too, gradient steps per second of processor time say more than those per second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from foretell import Callback, train_seeds

PRESETS = {
    "sac/default": ["train.steps=3000", "train.log_every=250"],
    "steve/default": ["train.steps=1400", "train.log_every=100"],
    "pets/default": ["train.trials=3"],
}
"""Presets and what is shorter than usual."""
QUIET = ["train.eval_episodes=0", "train.checkpoint_seconds=1000"]


class Timer(Callback):
    """The time, environment steps and gradient steps at every row of metrics."""

    def __init__(self):
        self.rows = []

    def on_learn_end(self, event):
        learned, updates = self.rows[-1][3:] if self.rows else (0, 0.0)
        counters = event.counters
        updates += (counters.learned - learned) * event.row.get("gradient_steps", 0.0)
        self.rows.append((time.perf_counter(), time.process_time(), counters.env_steps, counters.learned, updates))

    @property
    def rates(self):
        """Environment steps and gradient steps per second, and gradient steps per second of processor time."""
        seconds, spent, steps, _, updates = (b - a for a, b in zip(self.rows[1], self.rows[-1], strict=True))
        return steps / seconds, updates / seconds, updates / spent


def together(preset, env, settings, seeds):
    """Rates of each of these seeds, trained in this process."""
    timers = {seed: Timer() for seed in seeds}
    with tempfile.TemporaryDirectory() as folder:
        options = {"out": Path(folder), "env": env, "overrides": settings, "quiet": True}
        train_seeds(preset, list(seeds), callbacks=lambda seed: [timers[seed]], **options)
    return [timer.rates for timer in timers.values()]


def processes(preset, env, settings, seeds):
    """Rates of each of these seeds, each in a process of its own."""
    words = [sys.executable, __file__, preset, "--env", env, "--set", *settings, "--one"]
    started = [subprocess.Popen([*words, str(seed)], stdout=subprocess.PIPE, text=True) for seed in seeds]
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]


def total(rates):
    return [sum(each) for each in zip(*rates, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=list(PRESETS), help=f"by default {' '.join(PRESETS)}")
    parser.add_argument("--env", default="Pendulum-v1", help="the environment (default Pendulum-v1)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 4, 8], help="how many (default 1 2 4 8)")
    parser.add_argument("--set", nargs="+", default=[], help="settings, as for foretell train")
    parser.add_argument("--without-processes", action="store_true", help="measure seeds trained together alone")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is None:
        measure(args)
    else:
        print(json.dumps(together(args.presets[0], args.env, args.set, [args.one])[0]))


def measure(args):
    columns = ("steps/s", "updates/s", "updates/CPU s")
    table = Table("preset", "seeds", *(f"{way}: {name}" for way in ("together", "processes") for name in columns))
    for preset in args.presets:
        settings = [*PRESETS.get(preset, []), *QUIET, *args.set]
        for count in args.seeds:
            ways = [together] if args.without_processes else [together, processes]
            found = [total(way(preset, args.env, settings, range(count))) for way in ways]
            if len(found) > 1:
                found[1][2] /= count  # each process has its own processor time
            table.add_row(preset, str(count), *(f"{value:,.1f}" for values in found for value in values))
    console = Console(width=120)
    console.print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
