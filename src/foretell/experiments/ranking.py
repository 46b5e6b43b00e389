"""The trials of a sweep in the order of their scores: a CSV table, a page in Markdown and a figure."""

import csv
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from foretell.experiments.directory import StudyDirectory
from foretell.experiments.plan import Arm
from foretell.experiments.space import Values
from foretell.experiments.summary import Summary, markdown
from foretell.report.comparison import COLOURS
from foretell.runs.directory import writing


class Trial(NamedTuple):
    """Values that a sweep tries, and the variant that they make."""

    experiment: str
    values: Values
    arm: Arm


def score_of(trial: Trial, summary: Summary, score: str) -> float | None:
    """The mean score of a trial over its seeds; None until all of them have ended.

    Args:
        trial: the trial.
        summary: of the runs so far.
        score: the measure, `final` or `best`.
    """
    results = [one for one in summary.results if one.member.arm.label == trial.arm.label]
    if not all(one.finished and one.measures is not None for one in results):
        return None
    return float(np.mean([getattr(one.measures, score) for one in results]))


def trial_rows(trials: Sequence[Trial], summary: Summary, score: str) -> list[dict[str, Any]]:
    """One row for each trial, the best of each experiment first: its values and its score."""
    paths = list(dict.fromkeys(path for trial in trials for path in trial.values))
    scored = sorted(
        ((score_of(trial, summary, score), trial) for trial in trials), key=lambda row: _key(row[0], row[1], trials)
    )
    return [
        {"experiment": trial.experiment, "trial": trial.arm.label, score: found}
        | {path: trial.values.get(path) for path in paths}
        for found, trial in scored
    ]


def write_trials(trials: Sequence[Trial], summary: Summary, score: str, directory: StudyDirectory) -> None:
    """Write `trials.csv`, `trials.md` and `trials.png`. Raises `UserError` if that fails."""
    rows = trial_rows(trials, summary, score)
    with writing(directory.path):
        with (directory.path / "trials.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        cells = [["-" if value is None else _text(value) for value in row.values()] for row in rows]
        text = f"# {summary.plan.title}\n\nThe best trials of each experiment come first.\n"
        text += f"`{score}` is the mean return over seeds.\n\n"
        figure = "\n![scores](trials.png)\n" if any(row[score] is not None for row in rows) else ""
        (directory.path / "trials.md").write_text(f"{text}{markdown(list(rows[0]), cells)}{figure}")
    if figure:
        draw_scores(rows, score, directory)


def draw_scores(rows: Sequence[dict[str, Any]], score: str, directory: StudyDirectory) -> None:
    """Draw the score of every trial over each varied setting, one panel for each. Raises `UserError`."""
    from matplotlib.figure import Figure  # slow to import, and only needed at the end

    paths = list(rows[0])[3:]
    figure = Figure(figsize=(3.6 * len(paths), 3.4), dpi=130, layout="constrained")
    names = list(dict.fromkeys(row["experiment"] for row in rows))
    for axes, path in zip(figure.subplots(1, len(paths), squeeze=False, sharey=True)[0], paths, strict=True):
        known = [row for row in rows if row[score] is not None and row[path] is not None]
        numeric = all(isinstance(row[path], Real) and not isinstance(row[path], bool) for row in known)
        for i, name in enumerate(names):
            own = [row for row in known if row["experiment"] == name]
            places = [row[path] if numeric else str(row[path]) for row in own]
            axes.plot(places, [row[score] for row in own], "o", color=COLOURS[i % len(COLOURS)], alpha=0.7, label=name)
        if numeric and known and min(row[path] for row in known) > 0 and _wide([row[path] for row in known]):
            axes.set_xscale("log")
        axes.set(xlabel=path)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel(f"{score} return")
    if len(names) > 1:
        figure.axes[0].legend(frameon=False, fontsize=8)
    with writing(directory.path):
        figure.savefig(directory.path / "trials.png")


def _wide(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis shows positive values better."""
    return max(values) >= 50 * min(values)


def _key(score: float | None, trial: Trial, trials: Sequence[Trial]) -> tuple[int, float]:
    names = list(dict.fromkeys(one.experiment for one in trials))
    return names.index(trial.experiment), float("inf") if score is None else -score


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
