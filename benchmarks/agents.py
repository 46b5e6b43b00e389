"""Several presets over several seeds, judged by their evaluation episodes: for agents that learn within episodes.

`python benchmarks/agents.py steve/default ddpg/default --env Pendulum-v1 --goal -250 --out docs/results/pendulums`
writes `<out>.csv` (every evaluation episode) and `<out>.png` (its mean per round over steps, a band from the worst to
the best seed), and prints a table. The runs are a study (`foretell study`) in `runs/agents/<name of out>`. With `--runs
FOLDER` it reports on existing runs, `FOLDER/steve-default/0` and so on.
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

Rounds = dict[int, float]
"""Mean return of a round of evaluation episodes, by environment steps."""


def read(folder: Path) -> tuple[list[dict], float]:
    """The evaluation episodes of a run that is there, and its seconds."""
    rows = runs.RunDirectory.open(folder).read_episodes()
    return [row for row in rows if row["kind"] == "eval"], float(rows[-1]["wall_seconds"])


def rounds(episodes: list[dict]) -> Rounds:
    steps = sorted({row["env_steps"] for row in episodes})
    return {step: float(np.mean([row["return"] for row in episodes if row["env_steps"] == step])) for step in steps}


def summarise(found: dict[str, list[tuple[Rounds, float]]], goal: float) -> Table:
    """A line per preset: for each seed the steps at which a round first reached the goal, the last rounds, and means
    over seeds with their standard errors."""
    table = Table()
    each = (f"first steps >= {goal:g}", "last round", "mean of last 3 rounds")
    for column in ("preset", *each, "seconds", "over seeds: last 3 rounds", "all rounds"):
        table.add_column(column, justify="right")
    for preset, seeds in found.items():
        curves = [list(curve.values()) for curve, _ in seeds]
        first = [next((str(step) for step, mean in curve.items() if mean >= goal), "never") for curve, _ in seeds]
        late = [float(np.mean(curve[-3:])) for curve in curves]
        lists = first, [f"{curve[-1]:.0f}" for curve in curves], [f"{mean:.0f}" for mean in late]
        seconds = ", ".join(f"{spent:.0f}" for _, spent in seeds)
        whole = _mean_and_error([float(np.mean(curve)) for curve in curves])
        table.add_row(preset, *map(", ".join, lists), seconds, _mean_and_error(late), whole)
    return table


def _mean_and_error(values: list[float]) -> str:
    error = f" +- {np.std(values, ddof=1) / len(values) ** 0.5:.0f}" if len(values) > 1 else ""
    return f"{np.mean(values):.0f}{error}"


def draw(found: dict[str, list[tuple[Rounds, float]]], path: Path, title: str) -> None:
    figure = Figure(figsize=(7, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    for preset, seeds in found.items():
        steps = list(seeds[0][0])
        means = np.array([[curve[step] for step in steps] for curve, _ in seeds])
        (line,) = axes.plot(steps, means.mean(0), marker="o", markersize=3, label=preset)
        axes.fill_between(steps, means.min(0), means.max(0), alpha=0.15, color=line.get_color(), lw=0)
    axes.set(title=title, xlabel="environment steps", ylabel="return of evaluation episodes")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("presets", nargs="+")
    parser.add_argument("--env", help="a Gymnasium environment instead of the presets' own")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--goal", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="report on the runs there instead of making them")
    args = parser.parse_args()
    folder = args.runs or Path("runs/agents") / args.out.name
    if not args.runs:
        asked = {"env": args.env, "seeds": args.seeds, "overrides": args.set, "goal": args.goal}
        foretell.study(args.presets, out=folder, jobs=1, **asked)
    found: dict[str, list[tuple[Rounds, float]]] = {}
    with args.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("preset", "seed", "env_steps", "return", "length"))
        for preset in args.presets:
            for seed in range(args.seeds):
                episodes, seconds = read(folder / preset.replace("/", "-") / str(seed))
                writer.writerows((preset, seed, e["env_steps"], e["return"], e["length"]) for e in episodes)
                found.setdefault(preset, []).append((rounds(episodes), seconds))
    draw(found, args.out.with_suffix(".png"), f"{args.env or 'evaluation'}, {args.seeds} seed(s)")
    Console(width=140).print(summarise(found, args.goal))


if __name__ == "__main__":
    main()
