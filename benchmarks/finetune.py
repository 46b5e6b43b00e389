"""What a policy gradient gains by beginning with an imitated planner: MB-MF beside TRPO alone.

`python benchmarks/finetune.py --tuned RUN_DIR ... --alone RUN_DIR ... --out docs/results/finetune.png` draws the mean
return of the episodes of every iteration over all environment steps, on a logarithmic scale as in Nagabandi et al.
2018 (figure 8), and prints how many steps TRPO took to some levels. A tuned run's steps include those of the runs
it goes on from, which are drawn too: the planner's and the imitation's.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from foretell import UserError
from foretell.runs.directory import RunDirectory


class Curve(NamedTuple):
    """Mean returns of groups of trials, and the environment steps taken by then."""

    steps: np.ndarray
    returns: np.ndarray


def curve(run: RunDirectory, before: int) -> Curve:
    """Of all trials between two calls of `learn`; there were so many steps before the run began."""
    schedule = run.read_config()[0].train
    rows = [row for row in run.read_episodes() if row["kind"] == "train"]
    if schedule.steps_per_learning is None:
        each = schedule.environments * schedule.episodes_per_learning
        groups = [rows[i : i + each] for i in range(0, len(rows), each)]
    else:
        calls = [(row["env_steps"] - 1) // schedule.steps_per_learning for row in rows]
        groups = [[row for row, call in zip(rows, calls, strict=True) if call == n] for n in sorted(set(calls))]
    steps = [before + group[-1]["env_steps"] for group in groups]
    return Curve(np.array(steps), np.array([np.mean([row["return"] for row in group]) for group in groups]))


def chain(path: Path) -> list[Curve]:
    """A run and those that it goes on from, first stage first."""
    runs, found, before = [RunDirectory.open(path)], [], 0
    while (earlier := runs[0].read_config()[0].train.pretrained) is not None:
        runs.insert(0, RunDirectory.open(Path(earlier)))
    for run in runs:
        found.append(curve(run, before))
        before = int(found[-1].steps[-1])
    return found


def reached(stages: Sequence[Curve], level: float) -> float:
    """Steps by which an iteration of the last stage first had that mean return; not a number if none had."""
    steps, returns = stages[-1]
    return float(steps[np.argmax(returns >= level)]) if (returns >= level).any() else float("nan")


def table(tuned: list[list[Curve]], alone: list[list[Curve]], levels: Sequence[float]) -> Table:
    found = Table("mean return", "steps, TRPO alone", "steps, from the planner's imitator", "ratio of means")
    for level in levels:
        steps = [[reached(stages, level) for stages in runs] for runs in (alone, tuned)]
        ratio = f"{np.mean(steps[0]) / np.mean(steps[1]):.1f}"
        cells = [", ".join("never" if np.isnan(n) else f"{n:,.0f}" for n in each) for each in steps]
        found.add_row(f"{level:g}", *cells, "-" if "nan" in ratio else ratio)
    return found


def draw(tuned: list[list[Curve]], alone: list[list[Curve]], path: Path, title: str) -> None:
    figure = Figure(figsize=(7, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    for i, stages in enumerate(alone):
        axes.plot(*stages[-1], color="#5f6b76", lw=1, label="TRPO alone" if i == 0 else None)
    names = [("planner", "#2a9d5c"), ("imitation", "#d9822b"), ("TRPO from there", "#1f6fb4")]
    for i, stages in enumerate(tuned):
        for stage, (name, colour) in zip(stages, names[-len(stages) :], strict=True):
            marker = "." if len(stage.steps) < 30 else ""
            axes.plot(*stage, color=colour, lw=1, marker=marker, label=name if i == 0 else None)
    axes.set(xscale="log", title=title, xlabel="environment steps, all stages", ylabel="mean return")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuned", nargs="+", type=Path, required=True, metavar="RUN_DIR")
    parser.add_argument("--alone", nargs="+", type=Path, required=True, metavar="RUN_DIR")
    parser.add_argument("--levels", nargs="+", type=float, default=[250, 500, 750, 1000, 1500, 2000], metavar="RETURN")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    tuned, alone = ([chain(path) for path in paths] for paths in (args.tuned, args.alone))
    if any(len(stages) < 2 for stages in tuned):
        raise UserError("--tuned takes runs that go on from others, such as those of mbmf/cheetah")
    env = RunDirectory.open(args.tuned[0]).read_config()[0].task.env
    draw(tuned, alone, args.out, f"{env}: with and without a planner to begin with")
    Console(width=140).print(table(tuned, alone, args.levels))


if __name__ == "__main__":
    main()
