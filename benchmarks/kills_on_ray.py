"""Runs on Ray in which processes, nodes and the main process are killed, compared with one that nobody disturbs.

`python benchmarks/kills_on_ray.py --kills 300 --out docs/results/kills-on-ray` starts a cluster of two nodes on this
machine. On it, it trains small runs of STEVE, synchronised, with 1, 2 and 4 actors in turn. Again and again something
is killed (SIGKILL): an actor or evaluator, a learner, the second node, or the main process, which is then resumed.
Two of three kills come up to a second after the run has made progress, the others up to three seconds after the one
before, which is often within a recovery. At its end each run is compared with one on a single actor that was not
killed: tables without their wall times, all files in `data/`, and everything that was learned. The script prints a
table; `<out>.csv` has a line per run.
"""

import argparse
import csv
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

KINDS = {"actor": 5, "learner": 3, "main process": 2, "node": 1}
"""What is killed, and how often in relation to the others."""
NAMES = {"actor": "^ray::InteractorProcess", "learner": "^ray::LearnerProcess"}
SETS = (
    "learner.hidden=[16]", "learner.batch_size=16", "model.hidden=[16]", "model.aux_hidden=[8]", "fit.batch_size=16",
    "updates.per_step=0.5", "updates.pretraining=200", "updates.sync_policy_every=8", "updates.sync_model_every=16",
    "train.steps=3000", "train.environments=4", "train.steps_per_learning=8", "train.random_steps=200",
    "train.eval_episodes=2", "train.eval_environments=2", "train.eval_every=1000", "train.log_every=40",
    "train.capacity=4000", "train.checkpoint_seconds=4", "train.lag=1",
)  # fmt: skip


class Ended(NamedTuple):
    """A run that was killed and went on."""

    actors: int
    kills: Counter
    differences: str
    seconds: float


class Nodes:
    """A cluster of two nodes, of which the second can be killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_AUTH_MODE"] = "disabled"
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
        self._second = self._cluster.add_node(num_cpus=4)
        self.address = self._cluster.address

    def kill_one(self) -> None:
        """Kill the second node, with all processes on it, and start another one."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = self._cluster.add_node(num_cpus=4)

    def close(self) -> None:
        self._cluster.shutdown()


def command(run: Path, address: str, actors: int) -> list[str]:
    """Trains or resumes a run."""
    words = [sys.executable, "-m", "foretell"]
    if (run / "config.yaml").exists():
        words += ["resume", str(run)]
    else:
        words += ["train", "steve/default", "--env", "Pendulum-v1", "--out", str(run), "--overwrite", "--set", *SETS]
    return [*words, "--runtime", "ray", "--address", address, "--actors", str(actors), "--evaluators", "2"]


def train(run: Path, nodes: Nodes, actors: int, rng: random.Random | None = None, left: int = 0) -> Counter:
    """Train a run to its end, killing up to `left` times; what was killed.

    Raises:
        RuntimeError: if the command fails.
    """
    kills: Counter = Counter()
    with (run.parent / f"{run.name}.txt").open("a") as output:
        while True:
            process = subprocess.Popen(command(run, nodes.address, actors), stdout=output, stderr=output)
            while process.poll() is None:
                if rng is None or kills.total() >= left:
                    process.wait()
                elif wait(process, run / "metrics.csv", rng):
                    kills.update(kill(process, nodes, rng))
            if (code := process.wait()) == 0:
                return kills
            if code != -signal.SIGKILL:
                raise RuntimeError(f"the command ended with {code}: {Path(output.name).read_text()[-2000:]}")


def wait(process: subprocess.Popen, table: Path, rng: random.Random) -> bool:
    """Wait for the moment of the next kill; False if the main process has ended before."""
    seconds, rows = rng.uniform(0.0, 3.0), _count(table)
    if rng.random() < 2 / 3:
        seconds = rng.uniform(0.0, 1.0)
        while _count(table) <= rows and process.poll() is None:
            time.sleep(0.05)
    time.sleep(seconds)
    return process.poll() is None


def kill(process: subprocess.Popen, nodes: Nodes, rng: random.Random) -> list[str]:
    """Kill something; its kind, or nothing if there is none of that kind."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "main process":
        process.kill()
        return [kind] if process.wait() == -signal.SIGKILL else []
    if kind == "node":
        nodes.kill_one()
        return [kind]
    found = subprocess.run(["pgrep", "-f", NAMES[kind]], capture_output=True, text=True).stdout.split()
    if found:
        os.kill(int(rng.choice(found)), signal.SIGKILL)
    return [kind] if found else []


def differences(run: Path, whole: Path) -> list[str]:
    """The files in which two runs differ, and `agent` if they have learned something else."""
    names = {path.relative_to(folder) for folder in (run, whole) for path in folder.glob("data/*")}
    found = [str(name) for name in sorted(names) if _bytes(run / name) != _bytes(whole / name)]
    found += [name for name in ("episodes.csv", "metrics.csv") if _rows(run / name) != _rows(whole / name)]
    return found + (["agent"] if learned(run) != learned(whole) else [])


def learned(run: Path) -> str:
    """A checksum of everything that the agent of a run has learned."""
    code = (
        "import sys, hashlib, jax, numpy, foretell; "
        "state = foretell.load(sys.argv[1], quiet=True)._controller.state; "
        "print(hashlib.sha256(b''.join(numpy.asarray(a).tobytes() for a in jax.tree.leaves(state))).hexdigest())"
    )
    return subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True).stdout


def _count(table: Path) -> int:
    return len(table.read_bytes().splitlines()) if table.exists() else 0


def _bytes(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if "seconds" not in k and k != "compile_count"} for row in rows]


def write(out: Path, ended: Sequence[Ended]) -> None:
    with out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["actors", *KINDS, "differences", "seconds"])
        for run in ended:
            writer.writerow([run.actors, *(run.kills[kind] for kind in KINDS), run.differences, round(run.seconds)])


def show(ended: Sequence[Ended]) -> None:
    table = Table("actors", *KINDS, "runs", "runs that differ")
    for actors in sorted({run.actors for run in ended}):
        rows = [run for run in ended if run.actors == actors]
        sums = [str(sum(run.kills[kind] for run in rows)) for kind in KINDS]
        table.add_row(str(actors), *sums, str(len(rows)), str(sum(bool(run.differences) for run in rows)))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no further run after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the table, without .csv")
    args = parser.parse_args()
    rng, nodes, ended, start = random.Random(args.seed), Nodes(), [], time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder, "whole")
            train(whole, nodes, 1)
            while (done := sum(run.kills.total() for run in ended)) < args.kills:
                if time.monotonic() - start > 60 * args.minutes:
                    break
                actors, began = (1, 2, 4)[len(ended) % 3], time.monotonic()
                run = Path(folder, str(len(ended)))
                kills = train(run, nodes, actors, rng, args.kills - done)
                found = " ".join(differences(run, whole))
                ended.append(Ended(actors, kills, found, time.monotonic() - began))
                print(f"{len(ended)}: {actors} actors, {dict(kills)}, {found or 'no difference'}", flush=True)
                if args.out:
                    write(args.out, ended)
    finally:
        nodes.close()
    show(ended)


if __name__ == "__main__":
    main()
