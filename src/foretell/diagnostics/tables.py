"""What was found, as rows of tables, as one row of numbers, and as lines of text."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float

from foretell.diagnostics.belief import Accuracy
from foretell.diagnostics.calibration import LEVELS, Calibration, tracking
from foretell.diagnostics.examination import Findings, Values
from foretell.diagnostics.open_loop import OpenLoop, mse_k, norms_k, reward_gap
from foretell.diagnostics.returns import distribution
from foretell.diagnostics.verdicts import lines, verdicts
from foretell.runs.directory import writing

Row = Mapping[str, Any]
TABLES = ("summary", "open_loop", "calibration", "q_values", "q_pairs")
"""The files, without `.csv`."""
_LOGGED = (0.5, 0.9)
"""Levels whose shares are part of the one row."""


def open_loop_rows(found: OpenLoop) -> list[Row]:
    """Errors after each number of steps: mean squares, raw and in units of the data's standard deviations; norms."""
    planned, real, kept, std = found.planned_ikd, found.real_ikd, found.kept_i, found.std_d
    norms = norms_k(planned, real, kept)
    columns = {
        "mse": mse_k(planned, real, kept),
        "std_mse": mse_k(planned / std, real / std, kept),
        "still_mse": found.still_k,
        "norm": norms.mean_k,
        "norm_16": norms.low_k,
        "norm_84": norms.high_k,
    }
    return [{"steps": k + 1, **{n: float(column[k]) for n, column in columns.items()}} for k in range(real.shape[1])]


def calibration_rows(found: Findings, names: Sequence[str]) -> list[Row]:
    """Nominal and actual shares, and the mean squared standardised error, per number of steps and dimension."""
    rows: list[Row] = []
    for k, one in enumerate(found.calibrations):
        if one is None:
            continue
        parts = [("all", one.share_a, one.square)]
        parts += [(name, one.share_ad[:, d], float(one.square_d[d])) for d, name in enumerate(names)]
        for name, shares, square in parts:
            levels = {f"share_{level}": float(share) for level, share in zip(LEVELS, shares, strict=True)}
            rows.append({"steps": k + 1, "dimension": name, **levels, "standard_square": square})
    return rows


def value_rows(values: Values) -> list[Row]:
    """The distribution of estimate minus truth, per estimator."""
    return [
        {"estimator": name, **distribution(estimate, values.truth_et, values.used_et)}
        for name, estimate in values.estimates.items()
    ]


def pair_rows(values: Values) -> list[Row]:
    """Truth and estimates of every step that was used."""
    places = np.argwhere(values.used_et).tolist()
    columns = {"truth": values.truth_et, **values.estimates}
    return [{"episode": e, "step": t, **{n: float(a[e, t]) for n, a in columns.items()}} for e, t in places]


def one_row(found: Findings, horizon: int) -> dict[str, float]:
    """Everything in one row: the columns of `diagnostics.csv`, which are the same for every agent of a run.

    Args:
        found: what was measured.
        horizon: K as it was asked for; what was not measured so far ahead is NaN.
    """
    row: dict[str, float] = {}
    if found.returns:
        row["return"] = fmean(found.returns)
    if found.open_loop is not None:
        row |= _open_loop_columns(found, found.open_loop, horizon)
    if found.values is not None:
        row |= _value_columns(found.values)
    if found.plan is not None:
        row |= {f"plan_{name}": value for name, value in found.plan._asdict().items()}
    return row | found.learner


def _value_columns(values: Values) -> dict[str, float]:
    truth = values.truth_et[values.used_et]
    row = {f"q_{kind}_{one['estimator']}": one[kind] for one in value_rows(values) for kind in ("bias", "error")}
    row["q_scale"] = float(np.sqrt(np.square(truth).mean())) if truth.size else np.nan
    row["q_spread"] = float(truth.std()) if truth.size else np.nan
    return row


def _open_loop_columns(found: Findings, seen: OpenLoop, horizon: int) -> dict[str, float]:
    rows = {one["steps"]: one for one in open_loop_rows(seen)}
    row = {
        f"{name}_{k}": rows[k][name] if k in rows else np.nan
        for name in ("mse", "std_mse")
        for k in range(1, horizon + 1)
    }
    row |= {f"still_mse_{k}": rows[k]["still_mse"] if k in rows else np.nan for k in sorted({1, horizon})}
    row["kept"] = float(seen.kept_i.mean())
    row |= {f"reward_{name}": value for name, value in reward_gap(seen, found.discount)._asdict().items()}
    if seen.particles_ikpd.shape[2] > 1:
        error_ik, spread_ik = seen.error_ik, seen.spread_ik
        for k in sorted({1, horizon}):
            one = found.calibrations[k - 1] if k <= len(found.calibrations) else None
            row |= _uncertainty_columns(k, one, spread_ik[:, k - 1 : k].ravel(), error_ik[:, k - 1 : k].ravel())
    return row


def believed_row(found: Accuracy) -> dict[str, float]:
    """The same of what a model believed along one episode: the columns on its errors and on its uncertainty."""
    row: dict[str, float] = {}
    for k in sorted({1, len(found.mse_k)}):
        row |= {f"std_mse_{k}": float(found.mse_k[k - 1]), f"still_mse_{k}": float(found.still_k[k - 1])}
        if (one := found.calibrations[k - 1]) is not None:
            row |= _uncertainty_columns(k, one, found.std_ik[:, k - 1], found.error_ik[:, k - 1])
    return row


def _uncertainty_columns(
    k: int, found: Calibration | None, spread_i: Float[np.ndarray, "i"], error_i: Float[np.ndarray, "i"]
) -> dict[str, float]:
    """The columns on the uncertainty k steps ahead; disagreement and error are in units of standard deviations."""
    shares = [np.nan] * len(LEVELS) if found is None else found.share_a.tolist()
    row = {f"share_{level}_{k}": shares[LEVELS.index(level)] for level in _LOGGED}
    row[f"standard_square_{k}"] = np.nan if found is None else found.square
    row[f"disagreement_{k}"] = float(np.square(spread_i).mean()) if len(spread_i) else np.nan
    row[f"tracking_{k}"] = tracking(spread_i, error_i)
    return row


def write_tables(found: Findings, horizon: int, names: Sequence[str], folder: Path) -> list[Path]:
    """Write everything as CSV. Raises `UserError` if the disk refuses.

    Args:
        found: what was measured.
        horizon: K as it was asked for.
        names: of the dimensions of the observation.
        folder: where to.

    Returns:
        The files: those of what there is.
    """
    rows_of: list[list[Row]] = [
        [{"name": name, "value": value} for name, value in one_row(found, horizon).items()],
        open_loop_rows(found.open_loop) if found.open_loop else [],
        calibration_rows(found, names),
        value_rows(found.values) if found.values else [],
        pair_rows(found.values) if found.values else [],
    ]
    tables = dict(zip(TABLES, rows_of, strict=True))
    for name in tables.keys() - {name for name, rows in tables.items() if rows}:
        with writing(folder):
            (folder / f"{name}.csv").unlink(missing_ok=True)  # of another agent
    return [_write(rows, folder / f"{name}.csv") for name, rows in tables.items() if rows]


def _write(rows: Sequence[Row], path: Path) -> Path:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows({name: _number(value) for name, value in row.items()} for row in rows)
    return path


def _number(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def text(found: Findings, horizon: int) -> Iterator[str]:
    """The same for a person, line by line, with verdicts.

    Args:
        found: what was measured.
        horizon: K as it was asked for.
    """
    judged = verdicts(one_row(found, horizon))
    if found.returns:
        yield f"mean return {fmean(found.returns):.2f} over {len(found.returns)} fresh episodes"
    if found.open_loop is None:
        yield "it has no model whose predictions could be compared"
    else:
        yield from _open_loop_text(found, found.open_loop)
        yield from lines(judged, "model")
        yield from _calibration_text(found)
        yield from lines(judged, "uncertainty")
    if found.values is not None:
        yield f"\nvalues against returns of {int(found.values.used_et.sum())} steps"
        yield "  estimator         bias        error          std"
        for one in value_rows(found.values):
            yield f"  {one['estimator']:12} {one['bias']:10.4g}   {one['error']:10.4g}   {one['std']:10.4g}"
        yield from lines(judged, "values")
    if found.plan is not None:
        yield f"\nplanned minus realised return: bias {found.plan.bias:.4g}, error {found.plan.error:.4g}"
        yield from lines(judged, "plans")
    if found.learner:
        yield "\nlearner, on a batch of recorded steps"
        shown = {name: value for name, value in found.learner.items() if not name[-1].isdigit() or "grad" in name}
        yield from (f"  {name:18} {value:.4g}" for name, value in shown.items())
        yield from lines(judged, "exploration")


def _open_loop_text(found: Findings, seen: OpenLoop) -> Iterator[str]:
    how = "planned actions, replayed in the simulator" if seen.replayed else "recorded actions"
    kept = seen.kept_i
    yield f"\nopen-loop error, {how}; {int(kept.sum())} of {len(kept)} starts do not end early"
    yield "  steps    mse   in units of std   without a change   norm   (16 % to 84 %)"
    for one in open_loop_rows(seen):
        band = f"({one['norm_16']:.3g} to {one['norm_84']:.3g})"
        squares = f"{one['mse']:9.3g} {one['std_mse']:9.3g} {one['still_mse']:17.3g}"
        yield f"  {one['steps']:5d} {squares} {one['norm']:12.3g}   {band}"
    gap = reward_gap(seen, found.discount)
    yield f"planned minus true return of {seen.real_ikd.shape[1]} steps: bias {gap.bias:.4g}, error {gap.error:.4g}"


def _calibration_text(found: Findings) -> Iterator[str]:
    if not any(found.calibrations):
        yield "it predicts no uncertainty"
        return
    yield "\nshare of real values within the central interval of the particles"
    yield "  steps  standard square  " + "".join(f"{f'{level:.0%}':>6}" for level in LEVELS)
    for k, one in enumerate(found.calibrations):
        if one is not None:
            yield f"  {k + 1:5d}  {one.square:15.3g}  " + "".join(f"{share:6.2f}" for share in one.share_a)
