"""Estimates of action values against the returns of whole episodes, as functions of recorded arrays.

Letters: `e` is an episode, `t` a step of it, from 0; `L_e` is its length. Arrays go on beyond the length, where nothing
is read. Rewards are in the environment's units, and so are values.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from foretell.diagnostics.open_loop import Gap, gap

PERCENTILES = (5, 25, 50, 75, 95)
"""Of the distribution of estimate minus truth."""


def expanded_et(
    reward_et: Float[np.ndarray, "e t"],
    value_et: Float[np.ndarray, "e t"],
    length_e: Int[np.ndarray, "e"],
    horizon: int,
    discount: float,
    tail_e: Float[np.ndarray, "e"] | None = None,
) -> Float[np.ndarray, "e t"]:
    """The estimator oracle-H: `sum_{k < H} discount^k r_e,t+k + discount^H Q'_e,t+H` along the real path.

    Within H of the end, the sum stops there and ends with `discount^(L_e - t) tail_e`. With H = 0 it is `Q'`; with H of
    at least the length it is the return, see `returns_et`.

    Args:
        reward_et: rewards `r`.
        value_et: values `Q'` of the observations and actions of the path, by the target critics.
        length_e: steps of each episode.
        horizon: H.
        discount: factor on the next time step.
        tail_e: value of what comes after the last step; None: 0, as in the original.

    Returns:
        The estimates, 0 beyond the length.
    """
    episodes, steps = reward_et.shape
    time = np.arange(steps + 1)
    estimate = np.zeros((episodes, steps + 1))
    estimate[:, :steps] = value_et
    after = np.where(time == length_e[:, None], 0.0 if tail_e is None else tail_e[:, None], 0.0)
    beyond = time >= length_e[:, None]
    estimate = np.where(beyond, after, estimate)
    for _ in range(min(horizon, steps)):
        estimate[:, :-1] = reward_et + discount * estimate[:, 1:]
        estimate = np.where(beyond, after, estimate)
    return np.where(beyond, 0.0, estimate)[:, :steps]


def returns_et(
    reward_et: Float[np.ndarray, "e t"],
    length_e: Int[np.ndarray, "e"],
    discount: float,
    tail_e: Float[np.ndarray, "e"] | None = None,
) -> Float[np.ndarray, "e t"]:
    """The truth `G_et = sum_{k < L_e - t} discount^k r_e,t+k + discount^(L_e - t) tail_e`; 0 beyond the length.

    The arguments are those of `expanded_et`. Without `tail_e`, returns near a time limit lack what would have come
    after it, so that exact values seem too large there (too small, where rewards are negative).
    """
    return expanded_et(reward_et, np.zeros(reward_et.shape), length_e, reward_et.shape[1], discount, tail_e)


def complete_et(
    length_e: Int[np.ndarray, "e"], terminated_e: Bool[np.ndarray, "e"], steps: int, discount: float, share: float
) -> Bool[np.ndarray, "e t"]:
    """Steps whose return is nearly complete: `discount^(L_e - t) <= share`, or the episode has terminated.

    The left side is the share that an endless constant reward would have after the end. 1 keeps all steps.

    Args:
        length_e: steps of each episode.
        terminated_e: whether it came to a true end, and not to a time limit.
        steps: columns of the result.
        discount: factor on the next time step.
        share: the largest missing share.
    """
    left = length_e[:, None] - np.arange(steps)
    return (left > 0) & (terminated_e[:, None] | (discount ** np.maximum(left, 0) <= share))


def plan_gap(
    planned_et: Float[np.ndarray, "e t"],
    reward_et: Float[np.ndarray, "e t"],
    length_e: Int[np.ndarray, "e"],
    terminated_e: Bool[np.ndarray, "e"],
    horizon: int,
    every: int,
) -> Gap:
    """Planned return of each plan against what was then earned over its horizon, replanning included.

    The truth is `sum_{k < H} r_e,t+k`. Plans that reach beyond a time limit are left out. As the agent plans again
    before a plan has ended, the truth may be larger than what the plan itself would have earned.

    Args:
        planned_et: planned return `V` of the latest plan.
        reward_et: rewards `r`.
        length_e: steps of each episode.
        terminated_e: whether it came to a true end.
        horizon: H, the steps of a plan.
        every: steps from one plan to the next.
    """
    nothing, time = np.zeros(reward_et.shape), np.arange(reward_et.shape[1])
    earned = expanded_et(reward_et, nothing, length_e, horizon, 1.0)
    left = length_e[:, None] - time
    used = (left > 0) & (terminated_e[:, None] | (left >= horizon)) & (time % every == 0)
    return gap(planned_et, earned, used)


def distribution(
    estimate: Float[np.ndarray, "*n"], truth: Float[np.ndarray, "*n"], used: Bool[np.ndarray, "*n"]
) -> dict[str, float]:
    """Bias, error, standard deviation and percentiles of estimate minus truth; NaN if nothing is used."""
    found, difference = gap(estimate, truth, used), np.float64(estimate[used]) - truth[used]
    names = ("std", *(f"p{percentile}" for percentile in PERCENTILES))
    values = [difference.std(), *np.percentile(difference, PERCENTILES)] if difference.size else [np.nan] * len(names)
    return {"bias": found.bias, "error": found.error, **dict(zip(names, map(float, values), strict=True))}
