"""The learning curves of a report in all their views, as trees that the page draws.

A view is a pair: the return as it is, smoothed, or the best so far (as the PETS paper plots it), or the success rate
where the environment reports success; over environment steps or over wall time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from foretell.page.records import Record, RecordGroup
from foretell.page.references import Reference
from foretell.report.aggregates import interquartile_band
from foretell.report.comparison import Band, Curve, Points, common_steps, smoothed

Tree = dict[str, Any]
_POINTS = 1000
"""Points of the curve of a single run that are drawn, at most; they are evenly spaced."""
_DIGITS = 5
_TICKS = 1000
"""Parts of a second in which wall times are compared between runs."""


def panels(groups: Sequence[RecordGroup], references: Sequence[Reference], window: int) -> list[Tree]:
    """One panel per environment: its groups, and what was published on it.

    Args:
        groups: of runs; those without any point are left out.
        references: published results.
        window: points to smooth over.
    """
    drawn = [group for group in groups if group.with_points]
    found = []
    for env in dict.fromkeys(group.env for group in drawn):
        here = [group_tree(group, window) for group in drawn if group.env == env]
        published = [_reference_tree(one) for one in references if one.env == env]
        found.append({"env": env, "groups": here, "references": published})
    return found


def group_tree(group: RecordGroup, window: int) -> Tree:
    """One line: bands over its runs in all views, and every run."""
    runs = group.with_points
    transformed = [transforms(record.points.returns, window) for record in runs]
    if group.reports_success:
        transformed = [
            {**one, "success": np.asarray(record.points.success)} for one, record in zip(transformed, runs, strict=True)
        ]
    bands = {
        name: {"steps": _band(runs, values, "steps"), "seconds": _band(runs, values, "seconds")}
        for name in transformed[0]
        for values in [[one[name] for one in transformed]]
    }
    of = " and ".join(dict.fromkeys(record.returns_of for record in runs))
    trees = [_run_tree(*pair) for pair in zip(runs, transformed, strict=True)]
    return {"label": group.label, "of": of, "bands": bands, "runs": trees}


def transforms(returns: Float[np.ndarray, "points"], window: int) -> dict[str, Float[np.ndarray, "points"]]:
    """The returns as they are, smoothed over the last `window` points, and the best so far."""
    return {"raw": returns, "smooth": smoothed(returns, window), "best": np.maximum.accumulate(returns)}


def _band(records: Sequence[Record], values: Sequence[Float[np.ndarray, "_"]], axis: str) -> Tree | None:
    """The interquartile mean over runs with its interval; None if the runs have nothing in common on this axis."""
    curves = [
        Curve(_places(record.points, axis), mean, np.zeros(len(mean)))
        for record, mean in zip(records, values, strict=True)
    ]
    if not len(common_steps(curves)):
        return None
    band = interquartile_band(curves)
    return _band_tree(band, 1 if axis == "steps" else _TICKS)


def _places(points: Points, axis: str) -> Int[np.ndarray, "points"]:
    """Where the points are: environment steps, or thousandths of a second."""
    return points.steps if axis == "steps" else np.round(_TICKS * points.seconds).astype(int)


def _band_tree(band: Band, unit: int) -> Tree:
    x = band.steps.tolist() if unit == 1 else rounded(band.steps / unit)
    return {"x": x, "middle": rounded(band.middle), "low": rounded(band.low), "high": rounded(band.high)}


def _run_tree(record: Record, values: Mapping[str, Float[np.ndarray, "points"]]) -> Tree:
    points = record.points
    kept = np.unique(np.linspace(0, len(points.steps) - 1, _POINTS).round().astype(int))
    lines = {name: rounded(line[kept]) for name, line in values.items()}
    return {
        "name": f"seed {record.seed}: {record.name}",
        "steps": points.steps[kept].tolist(),
        "seconds": rounded(points.seconds[kept]),
        **lines,
    }


def _reference_tree(one: Reference) -> Tree:
    return {
        "label": one.label,
        "about": f"{one.statistic}; {one.source}",
        "best": one.running_maximum,
        "x": list(one.steps),
        "y": list(one.returns),
    }


def rounded(values: Float[np.ndarray, "*shape"]) -> list:
    """Nested lists of numbers with five significant digits, for JSON; None where they are not finite."""
    values = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(np.isfinite(values) & (values != 0), np.floor(np.log10(np.abs(values))), 0.0)
    scale = 10.0 ** (_DIGITS - 1 - size)
    short = np.where(np.isfinite(values), np.round(values * scale) / scale, np.nan)
    return np.where(np.isnan(short), None, short).tolist()  # type: ignore[call-overload]
