"""STEVE, MVE and DDPG on the half-cheetah at the released sizes, beside runs of the original code.

`python benchmarks/released.py RUN_DIR ... --out docs/results/halfcheetah-released` tells of runs of `steve/halfcheetah`
and its parts: `<out>.csv` has every episode that was not random; `<out>.png` the training episodes, with lines through
the medians of those that ended together, and bars for the original's medians; the table those that ended within the
windows of `references/released.csv`. That is of a fork whose algorithms are unchanged, with one environment instead of
eight and no exploration, on `HalfCheetah-v2`.
"""

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from foretell.runs.directory import RunDirectory

REFERENCES = Path(__file__).parent / "references" / "released.csv"
COLORS = {"STEVE": "C0", "MVE": "C1", "DDPG": "C2"}


class Run(NamedTuple):
    """A run that is there."""

    preset: str
    seed: int
    episodes: list[dict]

    @property
    def arm(self) -> str:
        return next((arm for arm in ("DDPG", "MVE") if arm.lower() in self.preset.split("+")), "STEVE")

    def returns(self, kind: str) -> np.ndarray:
        """`[episodes, 2]`: when each ended, in steps, and what it returned."""
        rows = [(row["env_steps"], row["return"]) for row in self.episodes if row["kind"] == kind]
        return np.array(rows, float).reshape(-1, 2)


def read(folder: Path) -> Run:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    episodes = [row for row in RunDirectory.open(folder).read_episodes() if row["kind"] != "random"]
    return Run(config["preset"], config["seed"], episodes)


def draw(runs: list[Run], references: list[dict], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    for run in runs:
        steps, returns = run.returns("train").T
        ends = np.unique(steps)  # those of all environments end together
        medians, color = [np.median(returns[steps == end]) for end in ends], COLORS[run.arm]
        axes.plot(steps, returns, "o", ms=2, alpha=0.5, color=color)
        axes.plot(ends, medians, lw=1, color=color, label=f"{run.preset}, seed {run.seed}")
    for row in references:
        window, median = (float(row["from"]), float(row["to"])), float(row["median"])
        axes.plot(window, (median, median), lw=4, alpha=0.3, color=COLORS[row["arm"]], solid_capstyle="butt")
    axes.set(title="HalfCheetah-v5, released sizes", xlabel="environment steps", ylabel="return of training episodes")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def summarise(runs: list[Run], references: list[dict]) -> Table:
    table = Table("steps", "run", "seed", "mean", "median", "greatest")
    windows = sorted({(int(row["from"]), int(row["to"])) for row in references})
    for low, high in windows:
        window = f"{low:,} to {high:,}"
        for run in runs:
            steps, returns = run.returns("train").T
            found = returns[(steps > low) & (steps <= high)]
            if len(found):
                numbers = (found.mean(), np.median(found), found.max())
                table.add_row(window, run.preset, str(run.seed), *(f"{number:,.0f}" for number in numbers))
        for row in references:
            if int(row["from"]) == low:
                numbers = (f"{int(row[name]):,}" if row[name] else "" for name in ("mean", "median", "max"))
                table.add_row(window, f"original: {row['arm']}", row["seed"], *numbers)
        table.add_section()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with REFERENCES.open(newline="") as file:
        references = list(csv.DictReader(file))
    runs = [read(folder) for folder in args.runs]
    with args.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("preset", "seed", "kind", "env_steps", "return"))
        for run in runs:
            writer.writerows((run.preset, run.seed, e["kind"], e["env_steps"], e["return"]) for e in run.episodes)
    draw(runs, references, args.out.with_suffix(".png"))
    Console(width=140).print(summarise(runs, references))


if __name__ == "__main__":
    main()
