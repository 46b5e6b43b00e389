"""The tables of a report: results of runs, where their time went, and what `foretell diagnose` wrote."""

import csv
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foretell.diagnostics.verdicts import Verdict, verdicts
from foretell.page.records import Record, RecordGroup
from foretell.report.aggregates import Estimate, estimate, measure

PHASES = {"fit": "learning", "plan": "choosing actions", "step": "environment"}
"""Columns of `metrics.csv`, without `_seconds`, and what they are called."""
_ROWS = 60
"""Rows of a table of diagnostics that are shown."""


class Table(NamedTuple):
    """What a table shows; all cells are texts."""

    header: list[str]
    rows: list[list[str]]


class Share(NamedTuple):
    """Seconds of a run, or of a mean run of a group."""

    label: str
    seconds: dict[str, float]
    """By phase."""


def results(groups: Sequence[RecordGroup]) -> Table:
    """Final and best return of every group, interquartile means over runs with 95 % intervals, and wall times."""
    header = ["environment", "preset", "runs", "returns of", "final return", "best return", "environment steps"]
    header += ["wall time"]
    rows = [_result(group) for group in groups]
    if any(group.reports_success for group in groups):
        header, rows = (
            [*header, "success rate"],
            [[*row, _success(group)] for row, group in zip(rows, groups, strict=True)],
        )
    return Table(header, rows)


def runs(groups: Sequence[RecordGroup]) -> Table:
    """Final and best return of every run."""
    header = ["run", "preset", "environment", "seed", "final return", "best return", "environment steps", "wall time"]
    return Table(header, [_run(group, record) for group in groups for record in group.records])


def times(groups: Sequence[RecordGroup]) -> list[Share]:
    """Where the wall time of a mean run of each group went, of groups whose runs say so."""
    found = []
    for group in groups:
        timed = [record for record in group.records if record.metrics and record.seconds]
        if timed:
            total = float(np.mean([record.seconds for record in timed]))
            parts = {label: float(np.mean([_spent(r, name) for r in timed])) for name, label in PHASES.items()}
            rest = max(total - sum(parts.values()), 0.0)
            found.append(Share(f"{group.label}, {group.env}", {**parts, "compilation, checkpoints, rest": rest}))
    return found


def time_table(shares: Sequence[Share]) -> Table:
    """The same as a table."""
    phases = [*shares[0].seconds] if shares else []
    rows = []
    for share in shares:
        total = sum(share.seconds.values()) or 1.0
        cells = [f"{duration(spent)} ({spent / total:.0%})" for spent in share.seconds.values()]
        rows.append([share.label, duration(total), *cells])
    return Table(["runs", "wall time", *phases], rows)


def diagnosis(record: Record) -> dict[str, Table]:
    """The tables that `foretell diagnose` wrote for a run, by their names; pairs of values are left out."""
    names = ("summary", "open_loop", "calibration", "q_values")
    files = {name: record.directory.diagnosis / f"{name}.csv" for name in names}
    return {name: _read(path) for name, path in files.items() if path.is_file()}


def judged(record: Record) -> list[Verdict]:
    """Verdicts on what `foretell diagnose` found, or else on the latest row of `diagnostics.csv`."""
    path = record.directory.diagnosis / "summary.csv"
    if path.is_file():
        return verdicts({row[0]: _number(row[1]) for row in _read(path, None).rows if len(row) == 2})
    return verdicts(record.diagnostics[-1]) if record.diagnostics else []


def duration(seconds: float) -> str:
    """A time as a person says it: `0.4 s`, `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _result(group: RecordGroup) -> list[str]:
    measured = [measure(record.curve) for record in group.with_points]
    of = ", ".join(dict.fromkeys(record.returns_of for record in group.with_points))
    least, most = min((one.steps for one in measured), default=0), max((one.steps for one in measured), default=0)
    return [
        group.env,
        group.label,
        str(len(group.records)),
        of or "-",
        _interval([one.final for one in measured]),
        _interval([one.best for one in measured]),
        f"{least:,}" if least == most else f"{least:,} to {most:,}",
        duration(float(np.mean([record.seconds for record in group.records]))),
    ]


def _success(group: RecordGroup) -> str:
    """The share of successful episodes at the points over which the final return is a mean, over runs."""
    if not group.reports_success:
        return "-"
    curves = [record.curve._replace(mean=np.asarray(record.points.success)) for record in group.with_points]
    return f"{np.mean([measure(curve).final for curve in curves]):.0%}"


def _run(group: RecordGroup, record: Record) -> list[str]:
    found = measure(record.curve) if len(record.points.steps) else None
    ends = ["-", "-", "-"] if found is None else [f"{found.final:.5g}", f"{found.best:.5g}", f"{found.steps:,}"]
    return [record.name, group.label, record.env, str(record.seed), *ends, duration(record.seconds)]


def _interval(values: Sequence[float]) -> str:
    if not values:
        return "-"
    found: Estimate = estimate(np.array(values, float))
    return f"{found.value:.5g} [{found.low:.5g}, {found.high:.5g}]" if len(values) > 1 else f"{found.value:.5g}"


def _spent(record: Record, phase: str) -> float:
    return sum(row.get(f"{phase}_seconds", 0.0) for row in record.metrics)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # somebody else's file
        return math.nan


def _read(path: Path, most: int | None = _ROWS) -> Table:
    with path.open(newline="", errors="replace") as file:
        lines = [*islice(csv.reader(file), None if most is None else most + 1)]
    return Table(lines[0], lines[1:]) if lines else Table([], [])
