"""Pictures of what was found: values against returns, open-loop errors, calibration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from foretell.diagnostics.calibration import LEVELS, Calibration
from foretell.diagnostics.examination import Findings
from foretell.diagnostics.open_loop import OpenLoop
from foretell.diagnostics.tables import open_loop_rows
from foretell.runs.directory import writing

_INK, _LINE, _BAND = "#2b3440", "#1f6fb4", "#d9822b"
_MOST_POINTS, _GRID = 2000, 90
"""Points of which a density is estimated, and cells of its grid along an axis."""


def draw_findings(found: Findings, folder: Path, *, title: str) -> list[Path]:
    """Draw all there is. Raises `UserError` if the disk refuses.

    Args:
        found: what was measured.
        folder: where to.
        title: what it was measured of.

    Returns:
        The paths of the PNGs.
    """
    drawn: dict[str, Callable[[Path], None]] = {}
    values, seen = found.values, found.open_loop
    if values is not None and values.used_et.sum() >= 10:
        pairs = values.truth_et[values.used_et], values.estimates["critic"][values.used_et]
        drawn["q_density"] = lambda path: draw_density(*pairs, path, title=title)
    if seen is not None and seen.kept_i.any():
        drawn["open_loop"] = lambda path: draw_open_loop(seen, path, title=title)
    if any(found.calibrations):
        drawn["calibration"] = lambda path: draw_calibration(found.calibrations, path, title=title)
    for name, draw in drawn.items():
        draw(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in drawn]


def trimmed(
    truth: Float[np.ndarray, "n"], estimate: Float[np.ndarray, "n"], share: float = 0.1
) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "m"]]:
    """Without the pairs of the lowest and of the highest truths, this share of all each."""
    order, cut = np.argsort(truth, kind="stable"), int(share * len(truth))
    kept = order[cut : len(order) - cut]
    return truth[kept], estimate[kept]


def standardised(x: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """`(x - mean) / std`; zeros if all are equal."""
    return (x - x.mean()) / (x.std() or 1.0)


def draw_density(truth: Float[np.ndarray, "n"], estimate: Float[np.ndarray, "n"], path: Path, *, title: str) -> None:
    """Density of returns and of the critics' values, without the extreme tenths: as they are, and standardised.

    As figure 5 of Feinberg et al. 2018. Standardising hides a constant error and a wrong scale, which the left half
    shows.
    """
    truth, estimate = trimmed(truth.astype(np.float64), estimate.astype(np.float64))
    figure = _figure(9.4, 4.4)
    halves = figure.subplots(1, 2)
    figure.suptitle(title)
    _draw_density(halves[0], truth, estimate)
    halves[0].set(title="as they are", xlabel="Monte-Carlo return", ylabel="predicted value")
    _draw_density(halves[1], standardised(truth), standardised(estimate))
    halves[1].set(title="standardised", xlabel="Monte-Carlo return (std)", ylabel="predicted value (std)")
    _save(figure, path)


def _draw_density(axes: Any, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> None:
    """Filled contours of a kernel density estimate, and the diagonal; points if all lie on a line."""
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    pad = 0.12 * (high - low) or 1.0
    edge = np.linspace(low - pad, high + pad, _GRID)
    density = _density(x, y, edge)
    if density is None:
        axes.plot(x, y, "o", ms=3, alpha=0.3, color=_LINE)
    else:
        levels = np.linspace(0.03, 1.0, 12) * density.max()
        axes.contourf(edge, edge, density, levels=levels, cmap="Blues")
        axes.contour(edge, edge, density, levels=levels[::3], colors=_LINE, linewidths=0.4)
    axes.plot(edge[[0, -1]], edge[[0, -1]], "--", color=_INK, lw=1)
    axes.set(xlim=edge[[0, -1]], ylim=edge[[0, -1]], aspect="equal")
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _density(
    x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], edge: Float[np.ndarray, "g"]
) -> Float[np.ndarray, "g g"] | None:
    """A Gaussian kernel density estimate on a grid `[y, x]`; None if the points have no area."""
    from scipy.stats import gaussian_kde  # type: ignore[import-untyped]

    some = np.random.default_rng(0).permutation(len(x))[:_MOST_POINTS]
    try:
        estimate = gaussian_kde(np.stack([x[some], y[some]]))
    except np.linalg.LinAlgError:
        return None
    across, up = np.meshgrid(edge, edge)
    return estimate(np.stack([across.ravel(), up.ravel()])).reshape(across.shape)


def draw_open_loop(seen: OpenLoop, path: Path, *, title: str) -> None:
    """Length of the error vector over steps: mean, and 16th to 84th percentile (Feinberg et al. 2018, figure 1)."""
    rows = open_loop_rows(seen)
    steps, mean, low, high = ([one[name] for one in rows] for name in ("steps", "norm", "norm_16", "norm_84"))
    figure = _figure(6.4, 4.2)
    axes = figure.subplots()
    axes.fill_between(steps, low, high, color=_LINE, alpha=0.2, lw=0, label="16th to 84th percentile")
    axes.plot(steps, mean, color=_LINE, lw=1.8, marker="o", ms=3.5, label="mean")
    how = "planned actions" if seen.replayed else "recorded actions"
    axes.set(title=title, xlabel=f"steps predicted ahead ({how})", ylabel="L2 norm of the error of the observation")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    _save(figure, path)


def draw_calibration(calibrations: tuple[Calibration | None, ...], path: Path, *, title: str) -> None:
    """Actual over nominal shares after one step and after the last one: all dimensions together, and each thinly."""
    figure = _figure(5.2, 5.0)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "--", color=_INK, lw=1, label="calibrated")
    ends = {k: calibrations[k - 1] for k in (1, len(calibrations))}
    for (k, one), colour in zip(ends.items(), (_LINE, _BAND), strict=False):
        if one is None:
            continue
        x = [0.0, *LEVELS]
        axes.plot(x, np.pad(one.share_ad, ((1, 0), (0, 0))), color=colour, lw=0.7, alpha=0.3)
        label = f"{k} step{'s' * (k > 1)} ahead"
        axes.plot(x, [0.0, *one.share_a], color=colour, lw=2, marker="o", ms=4, label=label)
    axes.set(title=title, xlabel="nominal share (central interval)", ylabel="share of real values inside")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.text(0.97, 0.05, "too certain", ha="right", color=_INK, alpha=0.6, fontsize=9)
    axes.text(0.03, 0.72, "too uncertain", ha="left", color=_INK, alpha=0.6, fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
