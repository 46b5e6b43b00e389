"""What a learning curve comes to, and what several runs come to: interquartile means with bootstrap intervals.

Agarwal et al. 2021 (Deep RL at the Edge of the Statistical Precipice) recommend both for few runs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats  # type: ignore[import-untyped]

from foretell.report.comparison import (
    COLOURS,
    Band,
    Curve,
    Group,
    Line,
    common_steps,
    interpolated,
    literal,
)

_LAST, _LEAST = 0.1, 3
"""The final return is a mean over this share of the points, and over at least so many."""
_RESAMPLES, _DRAWN = 2000, 100
"""Resamples of the runs, and points of a curve that is drawn, at most."""


class Measures(NamedTuple):
    """What the learning curve of one run comes to."""

    points: int
    """Rounds of evaluation, or trials."""
    steps: int
    """Environment steps by the last point, those of earlier stages included."""
    final: float
    """Mean return of the last tenth of the points, at least of three."""
    best: float
    """The best point."""
    best_at: int
    """Environment steps by then."""
    passed: int | None
    """Environment steps by the first point that reached the goal; None if none did, or without a goal."""


class Estimate(NamedTuple):
    """An interquartile mean over runs with its 95 % interval."""

    value: float
    low: float
    high: float


def measure(curve: Curve, goal: float | None = None) -> Measures:
    """What a curve with at least one point comes to; `goal` is a return."""
    returns, steps = curve.mean, curve.steps
    last, best = max(_LEAST, round(_LAST * len(returns))), int(np.argmax(returns))
    reached = np.flatnonzero(returns >= (np.inf if goal is None else goal))
    passed = int(steps[reached[0]]) if len(reached) else None
    return Measures(
        len(returns), int(steps[-1]), float(returns[-last:].mean()), float(returns[best]), int(steps[best]), passed
    )


def interquartile_mean(values: Float[np.ndarray, "*rest runs"], axis: int = -1) -> Float[np.ndarray, "*rest"]:
    """The mean of the runs without the best and the worst quarter of them; of three or fewer the mean of all."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=axis))


def interval(
    values: Float[np.ndarray, "*rest runs"],
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Bounds of the 95 % percentile bootstrap interval of the interquartile mean; of one run, its own value twice."""
    if values.shape[-1] == 1:
        return values[..., 0], values[..., 0]
    found = stats.bootstrap(
        (values,), interquartile_mean, axis=-1, vectorized=True, n_resamples=_RESAMPLES, method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return np.asarray(found.low), np.asarray(found.high)


def estimate(values: Float[np.ndarray, "runs"]) -> Estimate:
    """The interquartile mean of at least one run with its interval."""
    low, high = interval(values)
    return Estimate(float(interquartile_mean(values)), float(low), float(high))


def interquartile_band(curves: Sequence[Curve]) -> Band:
    """Interquartile means over runs within their 95 % intervals, as far as all runs have come."""
    steps = common_steps(curves)
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, _DRAWN).round().astype(int))] if len(steps) else steps
    values = interpolated(curves, steps)
    low, high = interval(values) if len(steps) else (values[:, 0], values[:, 0])
    return Band(steps, interquartile_mean(values), low, high)


def draw_finals(axes: Any, groups: Sequence[Group], lines: Sequence[Line]) -> None:
    """Draw final returns, a row for each group: every run, their interquartile mean and its interval."""
    for row, group in enumerate(groups):
        finals = np.array([measure(curve).final for curve in group.curves])
        found = estimate(finals)
        axes.plot([found.low, found.high], [row, row], color=COLOURS[0], lw=4, alpha=0.4, solid_capstyle="butt")
        axes.plot(finals, np.full(len(finals), row), "|", color=COLOURS[-1], ms=8)
        axes.plot(found.value, row, "o", color=COLOURS[0], ms=5)
    for line in lines:
        axes.axvline(line.value, ls="--", color=COLOURS[-1], lw=1.2, label=literal(line.label))
    axes.set_yticks(range(len(groups)), [literal(group.label) for group in groups])
    axes.invert_yaxis()
    axes.set(xlabel="final return: each run, their interquartile mean, its 95 % interval")
    axes.grid(axis="x", alpha=0.25)
    if lines:
        axes.legend(frameon=False, fontsize=9)
