"""A table and a figure of one preset over several seeds, by trials: for agents that learn between episodes.

`python benchmarks/study.py pets/cartpole --seeds 10 --goal 165 --out docs/results/cartpole` writes `<out>.csv` (every
episode of every seed) and `<out>.png` (the curves), and prints a table. The runs are a study (`foretell study`) in
`runs/study/<name of out>`. Wall times count from the start of a run's process, of its last one if it was interrupted,
and are honest only with one run at a time (`--jobs 1`). With `--runs RUN_DIR ...` it reports on existing runs,
finished or not, one for each seed from 0, as far as all of them have come.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import foretell
import foretell.runs.directory as runs
from foretell.experiments.directory import StudyDirectory


def train(presets: list[str], seeds: int, out: Path, jobs: int, sets: list[str]) -> list[tuple[list[dict], float]]:
    """The episodes of every run of a study, and the seconds of its process, seed by seed of each preset."""
    summary = foretell.study(presets, out=out, seeds=seeds, jobs=jobs, overrides=sets)
    members = [result.member for result in summary.results]
    seconds = [StudyDirectory(out).process_seconds(member) or 0.0 for member in members]
    return [(read(member.path)[0], spent) for member, spent in zip(members, seconds, strict=True)]


def read(folder: Path) -> tuple[list[dict], float]:
    """The episodes of a run that is there, and its seconds without the start of its process."""
    rows = runs.RunDirectory.open(folder).read_episodes()
    return rows, float(rows[-1]["wall_seconds"])


def summarise(trials: np.ndarray, seconds: list[float], goal: float, last: int) -> Table:
    """`trials` is `[seeds, trials]`, a return each."""
    table = Table()
    columns = ("seed", f"first trial >= {goal:g}", f"mean of last {last}", f"worst of last {last}", "best", "seconds")
    for column in columns:
        table.add_column(column, justify="right")
    passed = [next((i + 1 for i, r in enumerate(row) if r >= goal), None) for row in trials]
    for seed, row in enumerate(trials):
        numbers = (row[-last:].mean(), row[-last:].min(), row.max(), seconds[seed])
        table.add_row(str(seed), str(passed[seed] or "never"), *(f"{n:.1f}" for n in numbers))
    reached = [p for p in passed if p]
    mean = f"{np.mean(reached):.1f}" if len(reached) == len(passed) else f"{len(reached)}/{len(passed)} reach it"
    end = trials[:, -last:]
    table.add_section()
    table.add_row(
        "all", mean, f"{end.mean():.1f}", f"{end.min():.1f}", f"{trials.max():.1f}", f"{np.mean(seconds):.1f}"
    )
    return table


def draw(trials: np.ndarray, path: Path, *, title: str, goal: float) -> None:
    figure = Figure(figsize=(7, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    number = np.arange(1, trials.shape[1] + 1)
    axes.plot(number, trials.T, color="#1f6fb4", alpha=0.3, lw=1)
    axes.plot(
        number, np.median(trials, 0), color="#1f6fb4", lw=2.5, marker="o", ms=60 / max(len(number), 15), label="median"
    )
    axes.plot([], [], color="#1f6fb4", alpha=0.3, label="each seed")
    axes.axhline(goal, color="#5f6b76", ls="--", lw=1, label=f"{goal:g}")
    axes.set(title=title, xlabel="trial", ylabel="return of the trial")
    axes.xaxis.get_major_locator().set_params(integer=True)
    low, high = np.quantile(trials, 0.05), trials.max()
    if trials.min() < low - (high - low):  # a few early failures must not hide the rest
        axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        axes.set_title(f"{title} ({(trials < axes.get_ylim()[0]).sum()} of {trials.size} trials are below)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to N-1")
    parser.add_argument("--goal", type=float, default=165.0)
    parser.add_argument("--last", type=int, default=5, help="trials at the end that are averaged")
    parser.add_argument("--by", type=int, nargs="+", default=[], help="also tell the best return by these trials")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="path of the .csv and .png, no ending")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--set", nargs="+", action="extend", default=[])
    parser.add_argument("--runs", nargs="+", type=Path, metavar="RUN_DIR", help="tell of these runs; train none")
    args = parser.parse_args()

    if args.runs:
        done = [read(folder) for folder in args.runs]
    else:
        done = train([args.preset], args.seeds, Path("runs/study") / args.out.name, args.jobs, args.set)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["seed", *runs.EPISODE_COLUMNS])
        writer.writeheader()
        writer.writerows({"seed": seed, **row} for seed, (rows, _) in enumerate(done) for row in rows)
    returns = [[row["return"] for row in rows if row["kind"] == "train"] for rows, _ in done]
    trials = np.array([each[: min(map(len, returns))] for each in returns])
    draw(trials, args.out.with_suffix(".png"), title=f"{args.preset}, {len(done)} seeds", goal=args.goal)
    Console(width=120).print(summarise(trials, [seconds for _, seconds in done], args.goal, args.last))
    for trial in args.by:
        best = trials[:, :trial].max(1)
        print(
            f"best return by trial {trial}: mean {best.mean():.1f}, of each seed {', '.join(f'{b:.1f}' for b in best)}"
        )


if __name__ == "__main__":
    main()
