"""What short names of columns and of measured numbers mean, for tooltips and legends of the page."""

import re
from collections.abc import Iterable

from foretell.page.tables import Table

_OF = {"critic": "the critics", "target": "the target critics", "imagined": "imagined rollouts"}
_MEANINGS = {
    "returns of": "what the returns are of: evaluation episodes, or trials where there is no evaluation",
    "final return": "mean of the last tenth of a run's points, at least of three",
    "best return": "the highest point of a run",
    "environment steps": "steps of the environment in all episodes but those of evaluation",
    "wall time": "of a run, without earlier stages",
    "success rate": "share of successful episodes at the last tenth of the points",
    "name": "what was measured",
    "steps": "steps predicted ahead",
    "dimension": "of the observation; all: mean over the dimensions that have an uncertainty",
    "estimator": "what estimates values: critic, target (critics), oracle_H (H real steps, then target critics)",
    "bias": "mean of estimate minus truth; positive is too high",
    "error": "mean square of estimate minus truth",
    "std": "standard deviation of estimate minus truth",
    r"p(\d+)": "percentile {0} of estimate minus truth",
    "return": "mean return of the fresh episodes",
    r"mse(_\d+)?": "squared error so many steps ahead, in squared units of the observation",
    r"std_mse(_\d+)?": "squared error so many steps ahead, in squared standard deviations of the data",
    r"still_mse(_\d+)?": "the std_mse of predicting that nothing changes",
    "norm": "length of the error vector, a mean over starts",
    r"norm_(16|84)": "percentile {0} of the length of the error vector",
    "kept": "share of starts whose episode does not end early",
    "reward_bias": "predicted minus true return of the predicted steps, a mean; positive is optimistic",
    "reward_error": "mean square of predicted minus true return of the predicted steps",
    "reward_scale": "root mean square of the true return of the predicted steps",
    r"share_(0\.\d)(_\d+)?": "share of real values in the central interval that should hold {0} of them",
    r"standard_square(_\d+)?": "squared error in units of the predicted variance: 1 is calibrated, more is too certain",
    r"disagreement_\d+": "variance of the particles so many steps ahead, in the units of std_mse",
    r"tracking_\d+": "rank correlation of disagreement and error over starts: 1 knows where it is wrong",
    r"q_bias_(\w+)": "value according to {0} minus true return, a mean; positive is too high",
    r"q_error_(\w+)": "mean square of value according to {0} minus true return",
    "q_scale": "root mean square of the true returns",
    "q_spread": "standard deviation of the true returns",
    "plan_bias": "planned minus realised return, a mean; positive is optimistic",
    "plan_error": "mean square of planned minus realised return",
    "plan_scale": "root mean square of the realised returns",
    r"(policy|critic)_loss": "loss of the {0} on a batch of recorded steps",
    r"(policy|critic)_grad_2": "2-norm of the gradient of the {0}'s loss",
    r"(policy|critic)_grad_inf": "largest entry of the gradient of the {0}'s loss",
    "action_noise": "exploring minus greedy actions, root mean square, as a share of the action range",
    r"(policy|critic)_(?:weights|biases)_\d+": "mean absolute value of an array of weights or biases of the {0}",
}
"""By regular expressions of names."""


def meaning_of(name: str) -> str | None:
    """The meaning of a name; None if it is not known."""
    for known, text in _MEANINGS.items():
        if match := re.fullmatch(known, name):
            return text.format(*(_OF.get(one or "", one) for one in match.groups()))
    return None


def legend(table: Table) -> dict[str, str]:
    """The names in the header and in the first column of a table whose meaning is known, with their meanings."""
    return meanings_of([*table.header, *(row[0] for row in table.rows if row)])


def meanings_of(names: Iterable[str]) -> dict[str, str]:
    """Those of the names whose meaning is known."""
    return {name: text for name in names if (text := meaning_of(name)) is not None}
