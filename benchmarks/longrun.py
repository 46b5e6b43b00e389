"""Memory and open files of a long run, which must not grow.

`python benchmarks/longrun.py --steps 100000 --out docs/results/longrun` trains `sac/default` on `Pendulum-v1`, with
small networks and few updates, so that a step costs little; `--whole` leaves both as they are. Everything else is as in
any run: checkpoints, tables, data of episodes, evaluation. Every `--every` steps the script notes the memory, the open
files and the threads of the process; `<out>.csv` has a line for each. The replay is full after 20,000 steps; growth is
counted from then. It is that of the process's own memory: the resident memory also has pages of library files, which
the system drops as it likes.
"""

import argparse
import csv
import os
import re
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import foretell
from foretell.callbacks import Callback
from foretell.training.events import StepTaken

CAPACITY = 20_000
SMALL: dict[str, Any] = {
    "learner": {"hidden": [16], "batch_size": 16},
    "updates": {"per_step": 0.05, "pretraining": 10},
    "train": {"capacity": CAPACITY, "eval_every": 5000, "eval_episodes": 1, "checkpoint_seconds": 2.0},
}


class Usage(NamedTuple):
    """What the process holds."""

    steps: int
    """Environment steps so far."""
    own_megabytes: float
    """Resident memory of the process alone, without pages of files."""
    megabytes: float
    """Resident memory."""
    files: int
    """Open files, pipes and sockets."""
    threads: int
    seconds: float
    """Wall time of the run."""


class Watch(Callback):
    """Notes the usage every so many steps."""

    def __init__(self, every: int, path: Path) -> None:
        self.found: list[Usage] = []
        self._every, self._path = every, path

    def on_step(self, event: StepTaken) -> None:
        steps = event.counters.env_steps
        if event.kind == "eval" or steps % self._every:
            return
        self.found.append(usage(steps, event.seconds))
        with self._path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([Usage._fields, *self.found])
        print(*(f"{name} {value:,.10g}" for name, value in self.found[-1]._asdict().items()), flush=True)


def usage(steps: int, seconds: float) -> Usage:
    """The usage at this moment (Linux)."""
    kilobytes = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/self/status").read_text()))
    resident, of_files = (int(kilobytes[name]) * 1024 / 1e6 for name in ("VmRSS", "RssFile"))
    own, resident = round(resident - of_files, 1), round(resident, 1)
    return Usage(steps, own, resident, len(os.listdir("/proc/self/fd")), threading.active_count(), round(seconds, 1))


def growth(found: list[Usage], after: int = CAPACITY) -> tuple[float, float]:
    """Own megabytes and files that are added per 100,000 steps after the first ones, by least squares."""
    late = np.array([(each.steps, each.own_megabytes, each.files) for each in found if each.steps > after], float)
    slopes = np.polyfit(late[:, 0], late[:, 1:], 1)[0]
    return float(1e5 * slopes[0]), float(1e5 * slopes[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=5000)
    parser.add_argument("--whole", action="store_true", help="the networks and updates of sac/default")
    parser.add_argument("--out", type=Path, default=Path("runs/longrun"), help="path of the .csv, no ending")
    args = parser.parse_args()

    args.out.parent.mkdir(parents=True, exist_ok=True)
    watch = Watch(args.every, args.out.with_suffix(".csv"))
    with tempfile.TemporaryDirectory() as folder:
        foretell.train(
            "sac/default",
            env="Pendulum-v1",
            out=Path(folder) / "run",
            overrides=[{"train": SMALL["train"]} if args.whole else SMALL, {"train": {"steps": args.steps}}],
            callbacks=[watch],
            quiet=True,
        )
    megabytes, files = growth(watch.found)
    print(f"after the first {CAPACITY:,} steps: {megabytes:+.1f} MB and {files:+.2f} open files per 100,000 steps")
    if files > 1.0:
        sys.exit("open files grow")


if __name__ == "__main__":
    main()
