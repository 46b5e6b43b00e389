"""Runs of MB-MPC on the homework's half-cheetah beside published curves.

`python benchmarks/homework.py RUN_DIR ... --against blog student --out docs/results/homework.png` draws the average
return of every iteration in the runs' `log.txt`, with its least and greatest, beside columns of
`references/homework.csv`, and prints a table. Those are of 1,000 plans of 15 steps and 10 episodes per iteration:
`blog` as read off a figure by eye (10 either way), the others a student's means over 5 seeds, namely `student`, the
same without aggregation, with targets not scaled by their own deviations, and with a guide; `student_cost` is the cost
that goes with `student`.
"""

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

REFERENCES = Path(__file__).parent / "references" / "homework.csv"


def read(path: Path, delimiter: str = ",") -> dict[str, list[float]]:
    """The columns of a table of numbers."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=delimiter))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def draw(runs: dict[str, dict[str, list[float]]], against: dict[str, list[float]], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    for name, values in against.items():
        axes.plot(range(len(values)), values, "--", lw=1, label=name.replace("_", " "))
    for name, log in runs.items():
        (line,) = axes.plot(log["Iteration"], log["AverageReturn"], "o-", ms=3, label=name)
        axes.fill_between(
            log["Iteration"], log["MinimumReturn"], log["MaximumReturn"], color=line.get_color(), alpha=0.15, lw=0
        )
    axes.set(title="MB-MPC on the homework's half-cheetah", xlabel="iteration", ylabel="return (mean, least, greatest)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    references = {name: values for name, values in read(REFERENCES).items() if name != "iteration"}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--against", nargs="*", choices=list(references), default=["blog", "student"])
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    runs = {f"{path.parent.name}/{path.name}": read(path / "log.txt", "\t") for path in args.runs}
    against = {name: references[name] for name in args.against}
    draw(runs, against, args.out)
    table = Table("iteration", *runs, *against)
    for i in range(max(len(log["Iteration"]) for log in runs.values())):
        found = (log["AverageReturn"] for log in runs.values())
        cells = (f"{values[i]:.0f}" if i < len(values) else "" for values in (*found, *against.values()))
        table.add_row(str(i), *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
