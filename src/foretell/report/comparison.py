"""Learning curves of several runs in one figure: one curve for each preset, mean and spread over its runs."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from foretell.errors import UserError
from foretell.runs.directory import RunDirectory, writing
from foretell.runs.trees import value_at

_COLOURS = ("#1f6fb4", "#d9822b", "#2a8f5c", "#8a4fbf", "#c0392b", "#5f6b76")

_FORMATS = (".png", ".pdf", ".svg")


class Curve(NamedTuple):
    """Returns over environment steps: of one run, or the mean over several."""

    steps: Int[np.ndarray, "points"]
    mean: Float[np.ndarray, "points"]
    std: Float[np.ndarray, "points"]
    """Population standard deviation over runs."""


class Group(NamedTuple):
    """Runs of one preset with the same settings, but for the section `train`."""

    label: str
    curves: list[Curve]


class Line(NamedTuple):
    """A return to compare with."""

    label: str
    value: float


def smoothed(values: Float[np.ndarray, "points"], window: int) -> Float[np.ndarray, "points"]:
    """The mean of each value and up to `window - 1` before it."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    first = np.maximum(end - window, 0)
    return (total[end] - total[first]) / (end - first)


def curve_of(rows: Sequence[dict[str, Any]], window: int) -> Curve:
    """The curve of one run: the mean return of each round of evaluation, or without any the return of each trial.

    Args:
        rows: of `episodes.csv`.
        window: points to smooth over, see `smoothed`.
    """
    kind = "eval" if any(row["kind"] == "eval" for row in rows) else "train"
    rounds = groupby((row for row in rows if row["kind"] == kind), lambda row: row["env_steps"])
    points = [(steps, fmean(row["return"] for row in group)) for steps, group in rounds]
    steps, returns = np.array([p[0] for p in points], int), np.array([p[1] for p in points], float)
    return Curve(steps, smoothed(returns, window), np.zeros(len(returns)))


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean and standard deviation over runs, interpolated between their points, as far as all of them have come."""
    first, last = max(curve.steps[0] for curve in curves), min(curve.steps[-1] for curve in curves)
    every = np.unique(np.concatenate([curve.steps for curve in curves]))
    steps = every[(first <= every) & (every <= last)]
    values = np.stack([np.interp(steps, curve.steps, curve.mean) for curve in curves])
    return Curve(steps, values.mean(0), values.std(0))


def read_groups(paths: Sequence[str], window: int) -> list[Group]:
    """The runs in these directories by preset, environment and settings. Raises `UserError`.

    Args:
        paths: run directories.
        window: points to smooth over.
    """
    if window < 1:
        raise UserError(f"smooth must be at least 1, not {window}")
    groups: dict[tuple[str, str], list[tuple[str, Curve]]] = {}
    for path in paths:
        directory = RunDirectory.open(Path(path))
        tree, preset, _ = directory.read_tree()
        curve = curve_of(directory.read_episodes(), window)
        if not len(curve.steps):
            raise UserError(f"'{path}' has finished neither an evaluation episode nor a trial")
        same = json.dumps({key: value for key, value in tree.items() if key != "train"}, default=str)
        groups.setdefault((f"{preset}, {value_at(tree, 'task.env')}", same), []).append((str(path), curve))
    names = [label for label, _ in groups]
    for (label, _), runs in groups.items():
        if not len(mean_curve([curve for _, curve in runs]).steps):
            raise UserError(f"the runs of {label} have no environment steps in common")
    return [
        Group(f"{label} ({runs[0][0]})" if names.count(label) > 1 else label, [curve for _, curve in runs])
        for (label, _), runs in groups.items()
    ]


def read_lines(values: Sequence[str], window: int) -> list[Line]:
    """Horizontal lines: numbers, or run directories, of which the last values are averaged over runs of a preset."""
    numbers, paths = [], []
    for value in values:
        try:
            numbers.append(Line(value, float(value)))
        except ValueError:
            paths.append(value)
    groups = read_groups(paths, window) if paths else []
    return numbers + [Line(group.label, fmean(float(c.mean[-1]) for c in group.curves)) for group in groups]


def draw_comparison(groups: Sequence[Group], lines: Sequence[Line], path: Path, *, title: str = "") -> None:
    """Draw every group's mean with a band of one standard deviation. Raises `UserError` if that is not possible.

    Args:
        groups: the runs.
        lines: horizontal lines.
        path: of the PNG, or a PDF or SVG by its suffix.
        title: of the figure.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed at the end

    if path.suffix not in _FORMATS:
        raise UserError(f"a figure must end in {' or '.join(_FORMATS)}, not '{path.name}'")
    figure = Figure(figsize=(7, 4.4), dpi=130, layout="constrained")
    axes = figure.subplots()
    for i, group in enumerate(groups):
        curve, colour = mean_curve(group.curves), _COLOURS[i % len(_COLOURS)]
        label = f"{group.label}, {len(group.curves)} runs" if len(group.curves) > 1 else group.label
        style: Any = {"marker": "o", "ms": 3.5} if len(curve.steps) <= 30 else {}
        axes.plot(curve.steps, curve.mean, color=colour, lw=1.8, label=_literal(label), **style)
        axes.fill_between(curve.steps, curve.mean - curve.std, curve.mean + curve.std, color=colour, alpha=0.18, lw=0)
    for i, line in enumerate(lines):
        axes.axhline(line.value, ls=("--", ":", "-.")[i % 3], color="#5f6b76", lw=1.2, label=_literal(line.label))
    axes.set(title=title, xlabel="environment steps", ylabel="return")
    axes.ticklabel_format(axis="x", scilimits=(0, 5))
    axes.margins(x=0.02)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _literal(label: str) -> str:
    """A label that Matplotlib shows as it is, where it would hide one that begins with _ and reads $ as mathematics."""
    return f"{' ' if label.startswith('_') else ''}{label}".replace("$", r"\$")
