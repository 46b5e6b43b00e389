"""The results of a study: measures of every run, aggregates over seeds, and one figure."""

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from foretell.errors import UserError
from foretell.experiments.directory import Member, StudyDirectory, episodes_of
from foretell.experiments.plan import Arm, Plan
from foretell.report.aggregates import Estimate, Measures, draw_finals, estimate, interquartile_band, measure
from foretell.report.comparison import Curve, Group, Line, common_steps, draw_curves, draw_panels, read_curve
from foretell.runs.directory import RunDirectory, writing

Row = dict[str, Any]
_DRAWN = 8
"""Curves in a panel of the figure, at most."""


class Result(NamedTuple):
    """The result of one run so far."""

    member: Member
    finished: bool
    curve: Curve
    """A point for each round of evaluation episodes, or for each trial; empty at the start of a run."""
    measures: Measures | None
    """None if the curve is empty."""
    of: str
    """The kind of its points: `evaluation` or `trials`."""
    seconds: float
    """Wall time of the run, without earlier stages."""


class Summary(NamedTuple):
    """The results of a study so far."""

    plan: Plan
    results: list[Result]

    @property
    def complete(self) -> bool:
        """Whether all runs are finished."""
        return all(result.finished for result in self.results)

    def of(self, label: str) -> list[Result]:
        """The results of a variant's runs that have points, in the order of their seeds."""
        return [one for one in self.results if one.member.arm.label == label and one.measures is not None]


def summarise(directory: StudyDirectory, plan: Plan) -> Summary:
    """The results of a study's runs so far."""
    members = sorted(directory.members(plan), key=lambda member: plan.arms.index(member.arm))
    return Summary(plan, [_result(member, directory.is_finished(member), plan.goal) for member in members])


def write_summary(summary: Summary, directory: StudyDirectory) -> None:
    """Write `runs.csv`, `summary.csv`, `summary.md` and the figure. Raises `UserError` if that fails.

    The figure of a sweep has those alone whose final returns are the best in their environment. That of a study with
    many variants has their final returns instead of their curves.
    """
    runs, aggregates = run_rows(summary), aggregate_rows(summary)
    with writing(directory.path):
        for path, rows in ((directory.runs, runs), (directory.summary, aggregates)):
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(rows)
        directory.page.write_text(page(summary))
    panels = _panels(summary)
    if panels:
        goal = summary.plan.goal
        lines = [] if goal is None else [Line(f"goal {goal:g}", goal)]
        crowded = any(len(groups) > _DRAWN for groups in panels.values())
        draw = draw_finals if crowded else partial(draw_curves, band=interquartile_band)
        draw_panels(panels, lines, directory.figure, draw)


def run_rows(summary: Summary) -> list[Row]:
    """One row for each run."""
    return [_run_row(result) for result in summary.results]


def aggregate_rows(summary: Summary) -> list[Row]:
    """One row for each variant: interquartile means over its runs, with their intervals."""
    return [_aggregate_row(arm, summary) for arm in summary.plan.arms]


def page(summary: Summary) -> str:
    """The summary as Markdown."""
    plan, goal = summary.plan, summary.plan.goal
    done = sum(result.finished for result in summary.results)
    text = f"""# {plan.title}

{done} of {len(summary.results)} runs are finished. A point is the mean return of a round of evaluation episodes, or the
return of a trial if a variant has no evaluation episodes. Steps are environment steps, including those of random
episodes, warm-ups and earlier stages. The final return is the mean of the last tenth of the points, but of at least
three. The first table shows interquartile means over seeds, and in brackets their 95 % bootstrap intervals.

"""
    header = ["variant", "runs", "final return", "best return", "steps"]
    header += [f"first at {goal:g}"] if goal is not None else []
    rows = [_page_row(arm, summary) for arm in plan.arms]
    details = [[_text(value) for value in row.values()] for row in run_rows(summary)]
    each = markdown(list(run_rows(summary)[0]), details)
    return f"{text}{markdown(header, rows)}\n![comparison](comparison.png)\n\n## Each run\n\n{each}"


def _result(member: Member, finished: bool, goal: float | None) -> Result:
    rows, nothing = episodes_of(member), Curve(np.zeros(0, int), np.zeros(0), np.zeros(0))
    try:
        curve = read_curve(RunDirectory(member.path)) if rows else nothing
    except UserError:  # its files are damaged
        curve = nothing
    of = "evaluation" if member.arm.settings.train.eval_episodes else "trials"
    seconds = rows[-1]["wall_seconds"] if rows else 0.0
    return Result(member, finished, curve, measure(curve, goal) if len(curve.steps) else None, of, seconds)


def _run_row(result: Result) -> Row:
    found, member = result.measures, result.member
    row: Row = {"variant": member.arm.label, "seed": member.seed, "finished": result.finished, "returns_of": result.of}
    names = ("points", "steps", "final", "best", "best_at", "passed")
    row |= {name: None if found is None else getattr(found, name) for name in names}
    return {**row, "seconds": round(result.seconds, 1)}


def _aggregate_row(arm: Arm, summary: Summary) -> Row:
    results = summary.of(arm.label)
    measures = [result.measures for result in results if result.measures is not None]
    row: Row = {"variant": arm.label, "environment": arm.settings.task.env, "runs": len(measures)}
    row["finished"] = sum(result.finished for result in results)
    for name in ("final", "best"):
        row |= _columns(name, [getattr(one, name) for one in measures])
    passed = [one.passed for one in measures if one.passed is not None]
    row["passed"] = len(passed) if summary.plan.goal is not None else None
    row |= _columns("passed_at", passed if passed and len(passed) == len(measures) else [])
    return {**row, "steps": min((one.steps for one in measures), default=None)}


def _columns(name: str, values: Sequence[float | int]) -> Row:
    found = _estimate(values)
    return {
        f"{name}_iqm": found and found.value,
        f"{name}_low": found and found.low,
        f"{name}_high": found and found.high,
    }


def _estimate(values: Sequence[float | int]) -> Estimate | None:
    return estimate(np.array(values, float)) if values else None


def _page_row(arm: Arm, summary: Summary) -> list[str]:
    row = _aggregate_row(arm, summary)
    cells = [
        arm.label,
        str(row["runs"]),
        _with_interval(row, "final"),
        _with_interval(row, "best"),
        _text(row["steps"]),
    ]
    if summary.plan.goal is None:
        return cells
    reached = _with_interval(row, "passed_at", "") or f"{row['passed']} of {row['runs']} runs"
    return [*cells, reached]


def _with_interval(row: Mapping[str, Any], name: str, nothing: str = "-") -> str:
    if row[f"{name}_iqm"] is None:
        return nothing
    value, low, high = (f"{row[f'{name}_{part}']:.5g}" for part in ("iqm", "low", "high"))
    return f"{value} [{low}, {high}]" if row["runs"] > 1 else value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _panels(summary: Summary) -> dict[str, list[Group]]:
    """The learning curves of all variants, by environment."""
    panels: dict[str, list[Group]] = {}
    for arm in summary.plan.arms:
        curves = [result.curve for result in summary.of(arm.label)]
        if curves and len(common_steps(curves)):
            panels.setdefault(str(arm.settings.task.env), []).append(Group(arm.label, curves))
    return {env: _best(groups) for env, groups in panels.items()} if summary.plan.grows else panels


def _best(groups: Sequence[Group]) -> list[Group]:
    """The groups with the best final returns, in their order."""
    final = {group.label: np.mean([measure(curve).final for curve in group.curves]) for group in groups}
    labels = sorted(final, key=lambda label: -final[label])[:_DRAWN]
    return [group for group in groups if group.label in labels]
