"""Training processes that are killed at random moments and resumed, compared with runs that nobody kills.

`python benchmarks/kills.py --kills 1000 --minutes 20 --out docs/results/kills` trains tiny runs of all agents, each in
a process of its own. Half of the processes are killed (SIGKILL) at a random moment of their time, the others up to 50
milliseconds after one of their checkpoints has begun to be written. A run is killed up to `--per-run` times and resumed
each time; then it is compared with a run of the same seed that was not killed. The script prints a table with a line
per agent; `<out>.csv` has a line per run.

Processes are forked from this one, which has imported Foretell but does not use JAX, so a start takes a fraction of a
second once the compilation cache holds their programs.
"""

import argparse
import csv
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rich.console import Console
from rich.table import Table

Work = Callable[[Path, Callable[[], None]], None]
"""What a process does: begin or continue a run in a folder, and call the function at the start of each checkpoint."""
WRITE_SECONDS = 0.05
"""Longest time from the start of a checkpoint to the kill."""
SAVES = 4
"""Checkpoints of a process among which one is chosen."""
UNFINISHED = ("*.orbax-checkpoint-tmp*", "*.tmp", "*.tmp.npz")
"""Names of what is being written."""


# Agents.

ENV = {"env": "Pendulum-v1", "horizon": 10}
PLANNED = {
    "task": ENV,
    "model": {"members": 2, "hidden": [8], "weight_decay": 0.0},
    "fit": {"min_steps": 1, "epochs": 1},
    "reward_model": {"hidden": [8]},
    "reward_fit": {"min_steps": 1, "epochs": 1},
    "imagination": {"particles": 2},
    "planner": {"horizon": 2, "population": 6, "iterations": 1, "elites": 2, "kept_elites": 0},
    "train": {"trials": 6, "random_steps": 0, "capacity": 100, "eval_episodes": 1, "checkpoint_seconds": 0.3},
}
PROCESS = {
    "task": {"horizon": 10},
    "model": {"inducing": 5},
    "fit": {"iterations": 2},
    "imagination": {"propagation": "DS", "particles": 2},
    "planner": {"horizon": 2, "population": 4, "iterations": 1, "elites": 2, "kept_elites": 0},
    "train": {"trials": 5, "capacity": 40, "checkpoint_seconds": 0.3},
}
SHOOTING = {
    "task": ENV,
    "model": {"hidden": [8], "weight_decay": [0.0, 0.0]},
    "fit": {"epochs": 1},
    "reward_model": {"hidden": [8]},
    "reward_fit": {"epochs": 1, "min_steps": 0},
    "planner": {"population": 4, "horizon": 2},
    "train": {"trials": 4, "random_episodes": 2, "capacity": 50, "checkpoint_seconds": 0.3},
}
GUIDED = {"guide": {"hidden": [8]}}
EXPANSION = {
    "task": ENV,
    "model": {"members": 2, "reward_members": 2, "hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "learner": {"hidden": [8], "batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 5},
}
STEPS = {"steps": 300, "steps_per_learning": 5, "random_steps": 20, "eval_every": 100, "log_every": 25, "capacity": 200}
STEPWISE = {"train": {**STEPS, "eval_episodes": 1, "checkpoint_seconds": 0.3}}
WITHOUT_MODEL = {name: EXPANSION[name] for name in ("task", "learner", "updates")}
WORKERS = {"train": {"environments": 2, "eval_environments": 2, "eval_episodes": 2, "workers": 2, "steps": 200}}
STAGES: dict[str, dict[str, Any]] = {
    "planner": {"description": "a planner", "base": "mbmpc/default", **SHOOTING},
    "imitator": {
        "description": "its imitator",
        "base": "kills/planner",
        "agent": "imitation",
        "imitation": {"demonstrations": 1},
        "policy": {"hidden": [8]},
        "policy_fit": {"epochs": 1, "batch_size": 8},
        "train": {"pretrained": "kills/planner", "trials": 4, "random_episodes": 0},
    },
    "tuner": {
        "description": "TRPO from the imitator",
        "base": "trpo/default",
        "task": ENV,
        "policy": {"hidden": [8]},
        "train": {
            "pretrained": "kills/imitator",
            "steps": 400,
            "steps_per_learning": 20,
            "environments": 2,
            "capacity": 50,
            "eval_episodes": 1,
            "eval_every": 100,
            "log_every": 20,
            "checkpoint_seconds": 0.3,
        },
    },
}
AGENTS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "pets": ("pets/default", [PLANNED]),
    "pets-gp": ("pets/cartpole+gp", [PROCESS]),
    "mbmpc": ("mbmpc/default", [SHOOTING]),
    "mbmpc-guided": ("mbmpc/default", [SHOOTING, GUIDED]),
    "staged": ("kills/tuner", []),
    "steve-ddpg": ("steve/default", [EXPANSION, STEPWISE]),
    "steve-td3": ("steve/default+td3", [EXPANSION, STEPWISE]),
    "steve-sac": ("steve/default+sac", [EXPANSION, STEPWISE]),
    "sac": ("sac/default", [WITHOUT_MODEL, STEPWISE]),
    "workers": ("sac/default", [WITHOUT_MODEL, STEPWISE, WORKERS]),
}
"""The preset and the settings of each agent; the stages of `staged` are MB-MPC, its imitation and TRPO."""


@contextmanager
def staged_presets() -> Iterator[None]:
    """Foretell with the stages among its presets."""
    from foretell.runs import parts, presets

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "presets"
        shutil.copytree(str(resources.files("foretell") / "presets"), folder)
        (folder / "kills").mkdir()
        for name, tree in STAGES.items():
            (folder / "kills" / f"{name}.yaml").write_text(yaml.safe_dump(tree))
        presets.PRESETS = folder
        presets.PARTS = parts.PARTS = folder / "parts"
        yield


def trains(agent: str, seed: int) -> Work:
    """Training an agent, and writing what it has learned at the end."""

    def work(folder: Path, saving: Callable[[], None]) -> None:
        import jax
        import numpy as np

        from foretell import api
        from foretell.training.saver import Saver

        save = Saver.save
        Saver.save = lambda self, *args: (saving(), save(self, *args))[1]  # type: ignore[method-assign]
        api.draw_learning_curve = lambda *args, **options: None  # it takes longer than the run
        preset, overrides = AGENTS[agent]
        if (folder / "run" / "config.yaml").exists():
            run = api.resume(folder / "run", quiet=True)
        else:
            run = api.train(preset, out=folder / "run", seed=seed, overrides=overrides, quiet=True)
        np.savez(folder / "learned.npz", *map(np.asarray, jax.tree.leaves(run._controller.state)))

    return work


# Processes.


class Moment(NamedTuple):
    """When a process is killed."""

    saves: int
    """How many checkpoints it begins before; 0: the time counts from its start."""
    seconds: float
    """From then."""


class Ending(NamedTuple):
    """How a process came to its end."""

    killed: bool
    """False if its run was over before."""
    writing: bool
    """Whether a checkpoint was being written."""
    saves: int
    """Checkpoints that it began."""
    seconds: float


def random_moment(moments: random.Random, seconds: float) -> Moment:
    """A moment of a process that takes about so many seconds."""
    if moments.random() < 0.5:
        return Moment(0, moments.uniform(0.0, seconds))
    return Moment(moments.randint(1, SAVES), moments.uniform(0.0, WRITE_SECONDS))


def execute(work: Work, folder: Path, moment: Moment | None) -> Ending:
    """Work in a process of its own, and kill it.

    Raises:
        RuntimeError: if the process fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    pid, pipe = _fork(work, folder)
    saves = 0
    due = start + moment.seconds if moment is not None and not moment.saves else None
    while select.select([pipe], [], [], None if due is None else max(0.0, due - time.monotonic()))[0]:
        if not os.read(pipe, 1):
            break
        saves += 1
        if moment is not None and saves == moment.saves:
            due = time.monotonic() + moment.seconds
    else:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(pipe)
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a process ended with {status}: {(folder / 'output.txt').read_text()}")
    killed = status == -signal.SIGKILL
    writing = killed and any(folder.glob(f"*/checkpoints/{UNFINISHED[0]}"))
    return Ending(killed, writing, saves, time.monotonic() - start)


def _fork(work: Work, folder: Path) -> tuple[int, int]:
    """A process that works, and the pipe into which it writes a byte for each checkpoint."""
    pipe, theirs = os.pipe()
    if pid := os.fork():
        os.close(theirs)
        return pid, pipe
    try:
        os.close(pipe)
        with (folder / "output.txt").open("a") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        work(folder, lambda: [os.write(theirs, b".")].clear())
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


# Runs.


class Killed(NamedTuple):
    """A run that was killed and resumed."""

    agent: str
    number: int
    kills: int
    in_writes: int
    """Of these kills, how many while a checkpoint was being written."""
    before_saves: int
    """Of these kills, how many before the first checkpoint of the process."""
    differences: str
    """The files that differ from those of the run that was not killed."""
    seconds: float


def run_killed(
    agent: str, number: int, work: Work, whole: Path, folder: Path, moments: Sequence[Moment]
) -> Killed:
    """Kill and resume one run, let it end, compare it with a whole one."""
    endings = []
    for moment in [*moments, None]:
        endings.append(execute(work, folder, moment))
        if not endings[-1].killed:
            break
    killed = [ending for ending in endings if ending.killed]
    return Killed(
        agent=agent,
        number=number,
        kills=len(killed),
        in_writes=sum(ending.writing for ending in killed),
        before_saves=sum(not ending.saves for ending in killed),
        differences=" ".join(differing(results(folder), results(whole))),
        seconds=round(sum(ending.seconds for ending in endings), 2),
    )


def results(folder: Path) -> dict[str, Any]:
    """What must be the same, by file: tables without wall times, data, what was learned; and what is unfinished."""
    found: dict[str, Any] = {}
    for path in filter(Path.is_file, folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in ("episodes.csv", "metrics.csv"):
            found[name] = _without_times(path)
        elif path.parent.name == "data" or path.name == "learned.npz":
            found[name] = path.read_bytes()
    for pattern in UNFINISHED:
        found |= {str(path.relative_to(folder)): "unfinished" for path in folder.rglob(pattern)}
    return found


def _without_times(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if "seconds" not in k and k != "compile_count"} for row in rows]


def differing(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def kill_runs(
    works: dict[str, Work], kills: int, per_run: int, seconds: float, folder: Path, moments: random.Random
) -> Iterator[Killed]:
    """Runs of all agents in turn, until there were so many kills or the time is over."""
    whole = {agent: execute(work, folder / agent / "whole", None).seconds for agent, work in works.items()}
    whole |= {agent: execute(work, folder / agent / "warm", None).seconds for agent, work in works.items()}
    end, done, number = time.monotonic() + seconds, 0, 0
    while done < kills and time.monotonic() < end:
        for agent, work in works.items():
            place = folder / agent / str(number)
            chosen = [random_moment(moments, whole[agent]) for _ in range(min(per_run, kills - done))]
            run = run_killed(agent, number, work, folder / agent / "whole", place, chosen)
            if not run.differences:
                shutil.rmtree(place)
            done += run.kills
            yield run
        number += 1


def summarise(runs: Sequence[Killed]) -> Table:
    """A line per agent."""
    table = Table()
    for column in ("agent", "kills", "in a checkpoint's write", "before a checkpoint", "runs", "runs that differ"):
        table.add_column(column, justify="left" if column == "agent" else "right")
    for agent in [*dict.fromkeys(run.agent for run in runs), "all"]:
        own = [run for run in runs if agent in (run.agent, "all")]
        sums = (sum(getattr(run, name) for run in own) for name in ("kills", "in_writes", "before_saves"))
        table.add_row(agent, *map(str, sums), str(len(own)), str(sum(bool(run.differences) for run in own)))
    return table


def prepare() -> None:
    """Import what the processes need, so that none has to."""
    import gymnasium
    import jax

    import foretell.agents
    import foretell.api
    import foretell.callbacks
    import foretell.envs.workers

    gymnasium.make("Pendulum-v1").close()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no further run after these")
    parser.add_argument("--per-run", type=int, default=4, help="kills of a run, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the runs and of the moments")
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=[*AGENTS])
    parser.add_argument("--out", type=Path, default=Path("runs/kills"), help="path of the .csv, no ending")
    args = parser.parse_args()

    prepare()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    folder, start = Path(tempfile.mkdtemp(prefix="foretell-kills-")), time.monotonic()
    runs: list[Killed] = []
    with staged_presets(), args.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Killed._fields)
        works = {agent: trains(agent, args.seed) for agent in args.agents}
        moments = random.Random(args.seed)
        for run in kill_runs(works, args.kills, args.per_run, 60 * args.minutes, folder, moments):
            runs.append(run)
            writer.writerow(run)
            file.flush()
            kills, spent = sum(run.kills for run in runs), time.monotonic() - start
            left = min(spent * (args.kills / max(kills, 1) - 1), 60 * args.minutes - spent)
            said = f"differs: {run.differences}" if run.differences else "is the same"
            print(f"{kills}/{args.kills} kills, {max(left, 0) / 60:.1f} minutes left; {run.agent} {said}", flush=True)
    Console(width=120).print(summarise(runs))
    if any(run.differences for run in runs):
        sys.exit(f"the runs that differ are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
