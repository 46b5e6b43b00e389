"""The learning curves of a report as a figure for a paper: PNG, or PDF with a page for each view."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretell.page.records import RecordGroup
from foretell.page.references import Reference
from foretell.page.views import transforms
from foretell.report.aggregates import interquartile_band
from foretell.report.comparison import COLOURS, Curve, common_steps
from foretell.runs.directory import writing

_TITLES = {"raw": "return", "smooth": "smoothed return", "best": "best return so far"}
_COLUMNS = 3


def write_images(groups: Sequence[RecordGroup], published: Sequence[Reference], window: int, path: Path) -> None:
    """Draw the curves of all environments side by side, over environment steps. Raises `UserError` if that fails.

    Args:
        groups: of runs; at least one has points.
        published: published results.
        window: points to smooth over.
        path: a PNG shows the returns as they are, a PDF the smoothed and the best ones too, on further pages.
    """
    from matplotlib.backends.backend_pdf import PdfPages  # slow to import, and needed here alone

    drawn = [group for group in groups if group.with_points]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".pdf":
            with PdfPages(path) as pages:
                for view in _TITLES:
                    pages.savefig(_figure(drawn, published, window, view))
        else:
            _figure(drawn, published, window, "raw").savefig(path)


def _figure(groups: Sequence[RecordGroup], published: Sequence[Reference], window: int, view: str) -> Any:
    from matplotlib.figure import Figure

    envs = list(dict.fromkeys(group.env for group in groups))
    columns = min(len(envs), _COLUMNS)
    rows = -(-len(envs) // columns)
    figure = Figure(figsize=(6 if columns == 1 else 4.6 * columns, 4.2 * rows), dpi=200, layout="constrained")
    for i, env in enumerate(envs):
        axes = figure.add_subplot(rows, columns, i + 1)
        _draw(axes, [group for group in groups if group.env == env], window, view)
        _draw_published(axes, [one for one in published if one.env == env and one.running_maximum == (view == "best")])
        axes.set(title=env, xlabel="environment steps", ylabel=_TITLES[view])
        axes.ticklabel_format(axis="x", scilimits=(0, 5))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _draw(axes: Any, groups: Sequence[RecordGroup], window: int, view: str) -> None:
    for i, group in enumerate(groups):
        curves = [_shown(record.curve, window, view) for record in group.with_points]
        colour, count = COLOURS[i % len(COLOURS)], f", {len(curves)} runs" if len(curves) > 1 else ""
        if len(common_steps(curves)):
            band = interquartile_band(curves)
            axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.18, lw=0)
            axes.plot(band.steps, band.middle, color=colour, lw=1.6, label=_literal(group.label + count))
        else:
            for curve in curves:
                axes.plot(curve.steps, curve.mean, color=colour, lw=1, alpha=0.6)
    axes.set_xlim(0, 1.04 * max(record.points.steps[-1] for group in groups for record in group.with_points))


def _draw_published(axes: Any, published: Sequence[Reference]) -> None:
    for i, one in enumerate(published):
        style: Any = {"ls": ("--", ":", "-.")[i % 3], "marker": "" if len(one.steps) > 1 else "D"}
        axes.plot(one.steps, one.returns, color="#5f6b76", lw=1.1, ms=5, label=_literal(one.label), **style)


def _shown(curve: Curve, window: int, view: str) -> Curve:
    return curve._replace(mean=transforms(curve.mean, window)[view])


def _literal(label: str) -> str:
    """A label that Matplotlib does not read as mathematics."""
    return f"{' ' if label.startswith('_') else ''}{label}".replace("$", r"\$")
