"""The ablation of the PETS paper: every model type and propagation, and the planners, on one task.

`python benchmarks/ablation.py pets/cartpole --seeds 3 --out docs/results/ablation` trains each arm, writes `<out>.csv`
(every trial of every run) and `<out>.png`, and prints a table. Intervals are 95 % bootstrap intervals of the mean over
all late trials of all seeds, resampled by seed.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from study import train

ARMS = (
    *("pe+tsinf", "pe+ts1", "pe+ds", "pe+mm", "pe+e"),
    *("p+ds", "p+mm", "p+e"),
    *("de+tsinf", "de+ts1", "de+ds", "de+mm", "de+e", "d+e"),
    *("pe+tsinf+random", "pe+tsinf+cem", "pe+tsinf+icem", "pe+tsinf+mppi"),
)


def interval(late: np.ndarray, resamples: int = 10_000) -> tuple[float, float]:
    """Bounds of the mean of `late` `[seeds, trials]`, resampled by seed."""
    means = late.mean(1)
    picks = np.random.default_rng(0).integers(len(means), size=(resamples, len(means)))
    low, high = np.quantile(means[picks].mean(1), [0.025, 0.975])
    return float(low), float(high)


def draw(results: dict[str, np.ndarray], path: Path, *, title: str, last: int) -> None:
    """Mean of the late trials with its interval, and each seed as a dot, an arm a row."""
    figure = Figure(figsize=(7, 0.32 * len(results) + 1.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    for row, returns in enumerate(results.values()):
        late = returns[:, -last:]
        low, high = interval(late)
        axes.plot([low, high], [row, row], color="#1f6fb4", lw=3, alpha=0.5)
        axes.plot(late.mean(), row, "o", color="#1f6fb4", ms=6)
        axes.plot(late.mean(1), [row] * len(late), "|", color="#5f6b76", ms=9)
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set(title=title, xlabel=f"mean return of the last {last} trials")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", default="pets/cartpole")
    parser.add_argument("--arms", nargs="+", default=ARMS, help="parts to be combined with the preset, an arm each")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N-1")
    parser.add_argument("--goal", type=float, default=165.0)
    parser.add_argument("--last", type=int, default=5, help="trials at the end that are averaged")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="path of the .csv and .png, no ending")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--set", nargs="+", action="extend", default=[])
    args = parser.parse_args()

    presets, folder = [f"{args.preset}+{arm}" for arm in args.arms], Path("runs/ablation") / args.out.name
    found = iter(train(presets, args.seeds, folder, args.jobs, args.set))
    runs = [(arm, seed) for arm in args.arms for seed in range(args.seeds)]
    done = {run: [row["return"] for row in next(found)[0] if row["kind"] == "train"] for run in runs}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "seed", "trial", "return"])
        writer.writerows([*run, i + 1, value] for run, values in done.items() for i, value in enumerate(values))
    results = {arm: np.array([done[arm, seed] for seed in range(args.seeds)]) for arm in args.arms}
    draw(results, args.out.with_suffix(".png"), title=f"{args.preset}, {args.seeds} seeds", last=args.last)
    table = Table("arm", f"mean of last {args.last}", "95 % interval", "worst late trial", f"seeds >= {args.goal:g}")
    for arm, trials in results.items():
        late = trials[:, -args.last :]
        low, high = interval(late)
        passed = f"{(trials.max(1) >= args.goal).sum()}/{len(trials)}"
        table.add_row(arm, f"{late.mean():.1f}", f"{low:.1f} to {high:.1f}", f"{late.min():.1f}", passed)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
