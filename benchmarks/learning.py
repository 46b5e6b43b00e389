"""How well agents learn, ours and those of peers, at equal environment steps.

`python benchmarks/learning.py [--only 'pendulum/*'] [--seeds 5] [--list]` trains every pair of task and agent, and
writes `docs/results/learning.csv` (all returns), `.table.md` and `.png`. Rows are stored as runs end; a second call
goes on with those that are missing. Peers are installed by `python benchmarks/peers/install.py`.

Agents that explore are judged by rounds of five episodes without exploration, planners by their trials. Planners stop
earlier. Seconds are wall time since everything was imported, compilation and evaluation included.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from foretell.errors import UserError, nearest
from foretell.runs.directory import RunDirectory
from peers.install import default_folder, installed, python_of

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "results" / "learning"
COLUMNS = ("task", "agent", "seed", "env_steps", "return", "seconds")
EPISODES = 5
"""Of a round of evaluation."""


class Task(NamedTuple):
    """What is learned, and for how long."""

    env: str
    steps: int
    planned: int
    """Environment steps of planners, which need few and take long for each."""
    every: int
    """Environment steps between two rounds of evaluation."""
    goal: float
    """A return that counts as learned."""
    ours: dict[str, str] = {}  # noqa: RUF012
    """Presets that are not `AGENT/default`, by agent."""
    peer_env: str | None = None
    """What peers call the environment, where it has another name."""


TASKS = {
    "swing-up": Task("cartpole", 3_000, 2_000, 200, 165.0, {"pets": "pets/cartpole"}, "foretell/Cartpole-v0"),
    "pendulum": Task("Pendulum-v1", 4_000, 2_000, 400, -200.0),
    "inverted-pendulum": Task("InvertedPendulum-v5", 6_000, 3_000, 500, 950.0),
    "reacher": Task("Reacher-v5", 10_000, 5_000, 1_000, -6.0),
    "dm-swing-up": Task("shimmy:dm_control/cartpole-swingup-v0", 10_000, 10_000, 1_000, 700.0),
}
PLANNERS = ("pets",)
OURS = ("pets", "mve", "steve", "sac", "td3", "ddpg")
PEERS = {
    "sbx-sac": ("sbx-learning", "learns_model_free.py"),
    "sbx-td3": ("sbx-learning", "learns_model_free.py"),
    "rl-blox-pets": ("rl-blox", "learns_rl_blox.py"),
    "mbrl-lib-pets": ("mbrl-lib", "learns_mbrl_lib.py"),
}
"""The environment of each peer's agent, and its program in `benchmarks/peers/`."""
KNOWN_REWARDS = ("rl-blox-pets", "mbrl-lib-pets")
"""Agents that need a reward function, which their program has for the pendulum alone."""


class Run(NamedTuple):
    """One seed of an agent on a task."""

    task: str
    agent: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.task}/{self.agent}"

    @property
    def steps(self) -> int:
        task = TASKS[self.task]
        return task.planned if self.agent.endswith("pets") else task.steps


class Point(NamedTuple):
    """A round of evaluation, or a trial."""

    env_steps: int
    value: float
    """Mean undiscounted return."""
    seconds: float


Curves = dict[Run, list[Point]]


def runs(patterns: Sequence[str], seeds: int) -> list[Run]:
    """All runs whose name matches a pattern; the seeds of an agent follow each other.

    Raises:
        UserError: a pattern matches none.
    """
    agents = [*OURS, *PEERS]
    pairs = [(task, agent) for task in TASKS for agent in agents if agent not in KNOWN_REWARDS or task == "pendulum"]
    names = [f"{task}/{agent}" for task, agent in pairs]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise UserError(f"nothing to learn is called '{pattern}'{nearest(pattern, names) or '; see --list'}")
    chosen = [pair for pair, name in zip(pairs, names, strict=True) if any(fnmatch(name, p) for p in patterns)]
    return [Run(*pair, seed) for pair in chosen for seed in range(seeds)]


def learned(run: Run, venvs: Path) -> list[Point]:
    """Train, and return what came of it. Raises `RuntimeError` with the last line of a program that failed."""
    return _ours(run) if run.agent in OURS else _peers(run, venvs)


def command(run: Run, out: Path) -> list[str]:
    """How one of our agents is trained."""
    task = TASKS[run.task]
    settings = [f"train.steps={run.steps}"]
    if run.agent not in PLANNERS:
        settings += [f"train.eval_every={task.every}", f"train.eval_episodes={EPISODES}"]
        settings += [f"train.eval_environments={EPISODES}"]
    preset = task.ours.get(run.agent, f"{run.agent}/default")
    words = ["train", preset, "--seed", str(run.seed), "--out", str(out), "--quiet", "--set", *settings]
    return [sys.executable, "-m", "foretell", *words, "--env", task.env]


def _ours(run: Run) -> list[Point]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        _call(command(run, out), {})
        return points(RunDirectory.open(out).read_episodes(), run.agent in PLANNERS)


def points(episodes: Iterable[dict[str, Any]], planner: bool) -> list[Point]:
    """Rounds of evaluation, or trials, of a run of ours."""
    kind = "train" if planner else "eval"
    found: dict[int, list[dict[str, Any]]] = {}
    for row in episodes:
        if row["kind"] == kind:
            found.setdefault(int(row["env_steps"]), []).append(row)
    return [
        Point(steps, float(np.mean([row["return"] for row in rows])), float(rows[-1]["wall_seconds"]))
        for steps, rows in found.items()
    ]


def _peers(run: Run, venvs: Path) -> list[Point]:
    peer, script = PEERS[run.agent]
    if error := installed(peer, venvs).get("error"):
        raise RuntimeError(error)
    task, program = TASKS[run.task], Path(__file__).parent / "peers" / script
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "points.csv"
        settings = (run.agent, task.peer_env or task.env, run.seed, run.steps, task.every, EPISODES, out)
        _call([str(python_of(venvs / peer)), str(program), *map(str, settings)], {"JAX_PLATFORMS": "cpu"}, folder)
        with out.open(newline="") as file:
            return [Point(int(steps), float(value), float(seconds)) for steps, value, seconds in csv.reader(file)]


def _call(words: list[str], environment: dict[str, str], folder: str | None = None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise RuntimeError(lines[-1][:300] if lines else f"ended with {done.returncode}")


def read(path: Path) -> Curves:
    """What is stored; nothing without a file."""
    found: Curves = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                point = Point(int(row["env_steps"]), float(row["return"]), float(row["seconds"]))
                found.setdefault(Run(row["task"], row["agent"], int(row["seed"])), []).append(point)
    return found


def write(path: Path, curves: Curves) -> None:
    """Store all curves, in the order of tasks, agents and seeds."""
    order = {name: place for place, name in enumerate([*TASKS, *OURS, *PEERS])}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for run, curve in sorted(curves.items(), key=lambda item: (order[item[0].task], order[item[0].agent], item[0])):
            writer.writerows((*run, point.env_steps, f"{point.value:.2f}", f"{point.seconds:.1f}") for point in curve)


def markdown(curves: Curves) -> str:
    """One line for each task and agent: how soon the goal was reached, what came at the end, and the wall time."""
    lines = ["| task | agent | seeds | steps to the goal | mean of the last 3 | worst | seconds |", "|---" * 7 + "|"]
    for name in dict.fromkeys(run.name for run in curves):
        seeds = [curve for run, curve in curves.items() if run.name == name]
        goal = TASKS[name.split("/")[0]].goal
        first = [next((f"{p.env_steps:,}" for p in curve if p.value >= goal), "never") for curve in seeds]
        late = [float(np.mean([p.value for p in curve[-3:]])) for curve in seeds]
        spent = float(np.median([curve[-1].seconds for curve in seeds]))
        task, agent = name.split("/")
        cells = (f"{task}, {goal:g}", agent, len(seeds), ", ".join(first), f"{np.mean(late):,.1f}", f"{min(late):,.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} | {spent:,.0f} |")
    return "\n".join(lines) + "\n"


def draw(curves: Curves, path: Path) -> None:
    """Returns over steps for each task: mean over seeds, and a band from the worst to the best."""
    tasks = list(dict.fromkeys(run.task for run in curves))
    figure = Figure(figsize=(4.6 * len(tasks), 4.0), dpi=130, layout="constrained")
    agents = list(dict.fromkeys(run.agent for run in curves))
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        grid = np.arange(1, 41) * TASKS[task].steps / 40
        for number, agent in enumerate(agents):
            found = [curve for run, curve in curves.items() if (run.task, run.agent) == (task, agent)]
            if found:
                values = np.array([_on(grid, curve) for curve in found])
                style = {"color": f"C{number}", "ls": "--" if agent in PEERS else "-"}
                axes.plot(grid, values.mean(0), label=agent, lw=1.6, **style)
                axes.fill_between(grid, values.min(0), values.max(0), alpha=0.12, color=style["color"], lw=0)
        axes.set(title=task, xlabel="environment steps")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("return")
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path)


def _on(grid: np.ndarray, curve: list[Point]) -> np.ndarray:
    """The latest value at each number of steps; the first one before it."""
    steps = [point.env_steps for point in curve]
    place = np.maximum(np.searchsorted(steps, grid, side="right") - 1, 0)
    return np.array([point.value for point in curve])[place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="such as 'pendulum/*' or '*/sac'")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--list", action="store_true", help="print the names of tasks and agents")
    parser.add_argument("--out", type=Path, default=OUT, help="the files, without their endings")
    parser.add_argument("--venvs", type=Path, default=default_folder(), help="where peers are installed")
    args = parser.parse_args()
    try:
        wanted = runs(args.only, args.seeds)
    except UserError as error:
        sys.exit(str(error))
    console, path = Console(), args.out.with_suffix(".csv")
    if args.list:
        console.print("\n".join(dict.fromkeys(run.name for run in wanted)))
        return
    curves = read(path)
    for run in track([run for run in wanted if run not in curves], "training", console=console):
        try:
            curves[run] = learned(run, args.venvs)
        except RuntimeError as error:
            console.print(f"{run.name}, seed {run.seed}, failed: {error}")
            continue
        write(path, curves)
        last = curves[run][-1]
        console.print(
            f"{run.name}, seed {run.seed}: {last.value:.1f} after {last.env_steps} steps, {last.seconds:.0f} s"
        )
    if curves:
        args.out.with_suffix(".table.md").write_text(markdown(read(path)))
        draw(read(path), args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
