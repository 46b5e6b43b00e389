"""Learning curves of several runs in one figure: one curve for each preset, mean and spread over its runs."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from os.path import isdir, isfile
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from foretell.errors import UserError
from foretell.runs import arguments
from foretell.runs.directory import RunDirectory, writing
from foretell.runs.trees import value_at

COLOURS = ("#1f6fb4", "#d9822b", "#2a8f5c", "#8a4fbf", "#c0392b", "#5f6b76")
_STYLES = ("-", "--", ":", "-.")
_COLUMNS = 3
"""Panels side by side."""
_ROW = 0.28
"""Height (inches) of a row of text."""
_FORMATS = (".png", ".pdf", ".svg")


class Curve(NamedTuple):
    """Returns over environment steps: of one run, or the mean over several."""

    steps: Int[np.ndarray, "points"]
    mean: Float[np.ndarray, "points"]
    std: Float[np.ndarray, "points"]
    """Population standard deviation over runs."""


class Points(NamedTuple):
    """What one run has reached, and when."""

    steps: Int[np.ndarray, "points"]
    """Environment steps."""
    seconds: Float[np.ndarray, "points"]
    """Wall time of the run."""
    returns: Float[np.ndarray, "points"]
    """Mean return of the episodes of a round of evaluation, or the return of a trial."""
    success: Float[np.ndarray, "points"] | None = None
    """Share of these episodes that reached their goal; None if the environment does not say."""


class Band(NamedTuple):
    """What is drawn of several curves: a line within a band."""

    steps: Int[np.ndarray, "points"]
    middle: Float[np.ndarray, "points"]
    low: Float[np.ndarray, "points"]
    high: Float[np.ndarray, "points"]


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
    points = points_of(rows)
    return Curve(points.steps, smoothed(points.returns, window), np.zeros(len(points.steps)))


def points_of(rows: Sequence[dict[str, Any]]) -> Points:
    """The points of one run: rounds of evaluation, or without any the trials.

    Args:
        rows: of `episodes.csv`.
    """
    kind = "eval" if any(row["kind"] == "eval" for row in rows) else "train"
    rounds = groupby((row for row in rows if row["kind"] == kind), lambda row: row["env_steps"])
    points = [(steps, list(group)) for steps, group in rounds]
    seconds = [group[0].get("wall_seconds", 0.0) for _, group in points]
    returns = [fmean(row["return"] for row in group) for _, group in points]
    said = [[row["success"] for row in group if row.get("success") not in ("", None)] for _, group in points]
    success = np.array([fmean(one) for one in said], float) if said and all(said) else None
    steps = np.array([steps for steps, _ in points], int)
    return Points(steps, np.array(seconds, float), np.array(returns, float), success)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean and standard deviation over runs, interpolated between their points, as far as all of them have come."""
    steps = common_steps(curves)
    values = interpolated(curves, steps)
    return Curve(steps, values.mean(-1), values.std(-1))


def standard_band(curves: Sequence[Curve]) -> Band:
    """The mean, and a standard deviation on either side."""
    curve = mean_curve(curves)
    return Band(curve.steps, curve.mean, curve.mean - curve.std, curve.mean + curve.std)


def common_steps(curves: Sequence[Curve]) -> Int[np.ndarray, "points"]:
    """The steps of all points, from where the last run begins to where the first one ends."""
    first, last = max(curve.steps[0] for curve in curves), min(curve.steps[-1] for curve in curves)
    every = np.unique(np.concatenate([curve.steps for curve in curves]))
    return every[(first <= every) & (every <= last)]


def interpolated(curves: Sequence[Curve], steps: Int[np.ndarray, "points"]) -> Float[np.ndarray, "points runs"]:
    """The return of every run at these steps, interpolated between its points."""
    return np.stack([np.interp(steps, curve.steps, curve.mean) for curve in curves], -1)


def read_curve(directory: RunDirectory, window: int = 1) -> Curve:
    """The curve of a run, over the steps of the earlier stages too; without any point if nothing was finished.

    Args:
        directory: the run's.
        window: points to smooth over.

    Raises:
        UserError: if the run of an earlier stage is not there.
    """
    curve = curve_of(directory.read_episodes(), window)
    return curve._replace(steps=curve.steps + steps_before(directory))


def steps_before(directory: RunDirectory) -> int:
    """Environment steps of the runs that a run goes on from (`train.pretrained`). Raises `UserError`."""
    earlier = value_at(directory.read_tree()[0], "train.pretrained")
    if not isinstance(earlier, str):
        return 0
    named, beside = Path(earlier), directory.path.parent / Path(earlier).name
    stage = RunDirectory.open(named if isfile(named / "config.yaml") or not isdir(beside) else beside)
    steps = [row["env_steps"] for row in stage.read_episodes() if row["kind"] != "eval"]
    return steps_before(stage) + max(steps, default=0)


def read_groups(paths: Sequence[str], window: int) -> list[Group]:
    """The runs in these directories by preset, environment and settings. Raises `UserError`.

    Args:
        paths: run directories.
        window: points to smooth over.
    """
    arguments.whole_number("smooth", window, 1)
    groups: dict[tuple[str, str], list[tuple[str, Curve]]] = {}
    for path in paths:
        directory = RunDirectory.open(Path(path))
        tree, preset, _ = directory.read_tree()
        curve = read_curve(directory, window)
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
            number = float(value)
        except ValueError:
            paths.append(value)
        else:
            numbers.append(Line(value, arguments.number("a horizontal line", number)))
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
    draw_panels({title: groups}, lines, path, partial(draw_curves, band=standard_band))


def draw_panels(
    panels: Mapping[str, Sequence[Group]],
    lines: Sequence[Line],
    path: Path,
    draw: Callable[[Any, Sequence[Group], Sequence[Line]], None],
) -> None:
    """Draw comparisons side by side. Raises `UserError` if that is not possible.

    Args:
        panels: the runs of each panel, by its title.
        lines: horizontal lines, the same in every panel.
        path: of the PNG, or a PDF or SVG by its suffix.
        draw: draws the runs of a panel into its axes, with the lines.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed at the end

    if path.suffix not in _FORMATS:
        raise UserError(f"a figure must end in {' or '.join(_FORMATS)}, not '{path.name}'")
    columns = min(len(panels), _COLUMNS)
    rows = -(-len(panels) // columns)
    height = max(4.4, *(_ROW * len(groups) for groups in panels.values()))
    figure = Figure(figsize=(7 if columns == 1 else 5 * columns, height * rows), dpi=130, layout="constrained")
    for i, (title, groups) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        draw(axes, groups, lines)
        axes.set(title=title)
        axes.spines[["top", "right"]].set_visible(False)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def draw_curves(
    axes: Any, groups: Sequence[Group], lines: Sequence[Line], band: Callable[[Sequence[Curve]], Band]
) -> None:
    """Draw learning curves over environment steps; `band` is what is drawn of the curves of a group."""
    for i, group in enumerate(groups):
        drawn, colour = band(group.curves), COLOURS[i % len(COLOURS)]
        count = f", {len(group.curves)} runs" if len(group.curves) > 1 else ""
        style: Any = {"marker": "o", "ms": 3.5} if len(drawn.steps) <= 30 else {}
        style |= {"color": colour, "lw": 1.8, "ls": _STYLES[i // len(COLOURS) % len(_STYLES)]}
        axes.plot(drawn.steps, drawn.middle, label=literal(group.label + count), **style)
        axes.fill_between(drawn.steps, drawn.low, drawn.high, color=colour, alpha=0.18, lw=0)
    for i, line in enumerate(lines):
        axes.axhline(line.value, ls=("--", ":", "-.")[i % 3], color="#5f6b76", lw=1.2, label=literal(line.label))
    axes.set(xlabel="environment steps", ylabel="return")
    axes.ticklabel_format(axis="x", scilimits=(0, 5))
    axes.margins(x=0.02)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9 if len(groups) <= 8 else 6)


def literal(label: str) -> str:
    """A label that Matplotlib shows as it is, where it would hide one that begins with _ and reads $ as mathematics."""
    return f"{' ' if label.startswith('_') else ''}{label}".replace("$", r"\$")
