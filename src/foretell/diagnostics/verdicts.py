"""Verdicts: whether measured numbers are good, in one sentence each. All thresholds are here.

The input is one row of numbers, see `tables.one_row`. Rows of `foretell diagnose` and its `summary.csv`, of
`diagnostics.csv`, and of the beliefs in a report have the same names.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

Grade = Literal["good", "fair", "poor"]
Part = Literal["model", "uncertainty", "values", "plans", "exploration"]
Row = Mapping[str, Any]

MODEL_HELP = "larger networks (model.hidden), longer training (section fit) or more data may help"
VALUES_HELP = (
    "the two critics of td3, a smaller learner.critic_learning_rate, or fewer updates per step (updates.per_step) "
    "may help"
)
SMALL_BIAS, LARGE_BIAS = 0.1, 0.5
"""Bias as a share of the root mean square of the true returns. Returns of different seeds differ by more than a tenth;
with a half, what is learned from the estimates is mostly their error."""
_SKILL, _NO_SKILL = 0.25, 1.0
"""Mean squared error as a share of that of a baseline without a model: no change, or the mean of the data. A quarter
means half the root mean square error; from 1 on the model is of no use."""
_COVERED, _FAR = 0.15, 0.3
"""Difference of actual and nominal share. With 64 starts, as in `diagnostics.csv`, the share of a calibrated model
is within 0.13 of 0.5 with a probability of 95 %; with 0.3, intervals of 90 % hold only 60 %."""
_SIZE, _WRONG_SIZE = 2.0, 4.0
"""Ratio of error and disagreement, or its inverse. Few particles and heavy tails alone can make it 2."""
_TELLS, _HARDLY = 0.5, 0.2
"""Rank correlation of disagreement and error over starts. 0.2 may be chance with 64 starts; with 0.5, most starts on
which the particles disagree are predicted badly."""
_KEPT = 0.5
"""Share of starts whose episode does not end early; below it, the errors describe only a minority of the episodes."""
_RANDOM = 0.29
"""Exploration noise as a share of the action range above which actions count as random: `1 / sqrt(12)`, the standard
deviation of uniformly random actions."""
_LITTLE = 0.01
"""The same, below which the agent hardly explores."""


class Verdict(NamedTuple):
    """The grade of a measured quantity, with an explanation."""

    part: Part
    grade: Grade
    text: str
    """The measured quantity, its baseline, and for a poor grade what may help."""


def verdicts(row: Row) -> list[Verdict]:
    """The verdicts on all quantities in a row that are present and can be judged."""
    found: list[Verdict] = []
    for judge in (_kept, _model, _rewards, _uncertainty, _values, _plans, _exploration):
        found += judge(row)
    return found


def lines(found: list[Verdict], *parts: Part) -> Iterator[str]:
    """The verdicts on some parts, one line each."""
    yield from (f"  {one.grade:4}  {one.text}" for one in found if one.part in parts)


def _kept(row: Row) -> Iterator[Verdict]:
    share = row.get("kept", math.nan)
    if share < _KEPT:
        yield Verdict(
            "model", "fair", f"only {share:.0%} of the starts do not end early; the errors are of these alone"
        )


def _model(row: Row) -> Iterator[Verdict]:
    for k in _ends(row, "std_mse"):
        still = row.get(f"still_mse_{k}", math.nan)
        other, guess = (still, "no change") if 0 < still < 1 else (1.0, "the mean of the data")  # the better guess
        share = row[f"std_mse_{k}"] / other
        grade = _low(share, _SKILL, _NO_SKILL)
        text = f"{_ahead(k)} the squared error is {_times(share)} that of predicting {guess}"
        yield Verdict("model", grade, _with_help(grade, text, MODEL_HELP))


def _rewards(row: Row) -> Iterator[Verdict]:
    yield from _bias(row, "model", "predicted rewards", "reward", MODEL_HELP)


def _uncertainty(row: Row) -> Iterator[Verdict]:
    for k in _ends(row, "share_0.9"):
        yield _coverage(row, k)
    for k in _ends(row, "disagreement"):
        yield from _size(row, k)
    for k in _ends(row, "tracking"):
        found = row[f"tracking_{k}"]
        grade: Grade = "good" if found >= _TELLS else "fair" if found >= _HARDLY else "poor"
        tells = {"good": "tells", "fair": "partly tells", "poor": "does not tell"}[grade]
        text = f"{_ahead(k)} disagreement {tells} where the errors are large (rank correlation {found:.2f})"
        yield Verdict("uncertainty", grade, text)


def _coverage(row: Row, k: int) -> Verdict:
    """The verdict on the interval whose share is furthest from its nominal one; too wide intervals are never poor."""
    gaps = {level: row.get(f"share_{level}_{k}", math.nan) - level for level in (0.5, 0.9)}
    level, gap = max(gaps.items(), key=lambda pair: abs(pair[1]) if math.isfinite(pair[1]) else -1.0)
    grade = _low(abs(gap), _COVERED, _FAR if gap < 0 else math.inf)
    side = "calibrated" if grade == "good" else "too certain" if gap < 0 else "too uncertain"
    text = f"{_ahead(k)} the central {level:.0%} of the particles hold {level + gap:.0%} of the real values: {side}"
    helped = "more members (model.members) or early stopping (fit.early_stopping with fit.holdout) may help"
    return Verdict("uncertainty", grade, _with_help(grade, text, helped))


def _size(row: Row, k: int) -> Iterator[Verdict]:
    spread, error = row[f"disagreement_{k}"], row.get(f"std_mse_{k}", math.nan)
    if not (spread > 0 and error > 0):
        return
    ratio = math.sqrt(error / spread)
    grade = _low(max(ratio, 1.0 / ratio), _SIZE, _WRONG_SIZE)
    yield Verdict("uncertainty", grade, f"{_ahead(k)} the error is {ratio:.2g} times as large as the disagreement")


def _values(row: Row) -> Iterator[Verdict]:
    for name, what in {"critic": "values of the critics", "imagined": "imagined returns"}.items():
        yield from _bias(row, "values", what, "q", VALUES_HELP, f"_{name}")
        error, bias = row.get(f"q_error_{name}", math.nan), row.get(f"q_bias_{name}", math.nan)
        spread = row.get("q_spread", math.nan) ** 2
        if math.isfinite(error - bias**2) and spread > 0:
            share = max(error - bias**2, 0.0) / spread
            grade = _low(share, _SKILL, _NO_SKILL)
            text = f"{what}: apart from the bias, the squared error is {_times(share)} the variance of the returns"
            yield Verdict("values", grade, _with_help(grade, text, "more training may help"))


def _plans(row: Row) -> Iterator[Verdict]:
    yield from _bias(row, "plans", "planned returns", "plan", MODEL_HELP)


def _exploration(row: Row) -> Iterator[Verdict]:
    noise = row.get("action_noise", math.nan)
    if not math.isfinite(noise):
        return
    text = f"exploring actions differ from greedy ones by {_times(noise)} the action range"
    if noise < _LITTLE:
        yield Verdict("exploration", "fair", f"{text}: it hardly explores")
    elif noise > _RANDOM:
        yield Verdict("exploration", "fair", f"{text}: as much as random actions")
    else:
        yield Verdict("exploration", "good", text)


def _bias(row: Row, part: Part, what: str, name: str, helped: str, of: str = "") -> Iterator[Verdict]:
    """The verdict on a bias, relative to the root mean square of the true returns."""
    bias, scale = row.get(f"{name}_bias{of}", math.nan), row.get(f"{name}_scale", math.nan)
    if not (math.isfinite(bias) and scale > 0):
        return
    share = abs(bias) / scale
    grade = _low(share, SMALL_BIAS, LARGE_BIAS)
    side = "about right" if grade == "good" else "too high" if bias > 0 else "too low"
    text = f"{what} are {side}: their bias is {_times(share)} the size of the true returns"
    yield Verdict(part, grade, _with_help(grade, text, helped))


def _ends(row: Row, name: str) -> list[int]:
    """The smallest and the largest number of steps ahead for which the row has a finite value of this name."""
    matches = [(re.fullmatch(rf"{re.escape(name)}_(\d+)", key), value) for key, value in row.items()]
    steps = sorted(int(match[1]) for match, value in matches if match and math.isfinite(value))
    return sorted({steps[0], steps[-1]}) if steps else []


def _low(value: float, good: float, poor: float) -> Grade:
    """The grade of a quantity for which lower is better."""
    return "good" if value <= good else "fair" if value < poor else "poor"


def _with_help(grade: Grade, text: str, helped: str) -> str:
    return f"{text}; {helped}" if grade == "poor" else text


def _ahead(k: int) -> str:
    return f"{k} step{'s' * (k > 1)} ahead"


def _times(share: float) -> str:
    """A share as a person reads it: `4 % of`, `1.3 times`."""
    return f"{100 * share:.2g} % of" if share < 0.995 else f"{share:.2g} times" if share < 100 else "over 100 times"
