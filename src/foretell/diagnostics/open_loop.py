"""Open-loop errors of a world model, as functions of what it predicted and of what was real.

Letters: `i` is a start, `k` a step after it (1 to K), `p` a particle, `d` a dimension of the observation. Where a model
has several particles, their mean is the prediction that is compared here; `calibration` looks at the particles.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

LEAST_STD = 1e-6
"""A dimension with a smaller standard deviation counts as constant: the value 1 is used instead."""


class OpenLoop(NamedTuple):
    """What a model predicted for sequences of K actions, and what they led to."""

    particles_ikpd: Float[np.ndarray, "i k p d"]
    real_ikd: Float[np.ndarray, "i k d"]
    planned_reward_ik: Float[np.ndarray, "i k"]
    """Mean over particles and over reward networks."""
    real_reward_ik: Float[np.ndarray, "i k"]
    terminated_ik: Bool[np.ndarray, "i k"]
    """Whether the real step ended the episode; what comes after such a step means nothing."""
    std_d: Float[np.ndarray, "d"]
    """Standard deviations of the data, 1 for constants."""
    replayed: bool
    """Whether the actions were planned and replayed in the true simulator; else they are recorded ones."""
    begin_id: Float[np.ndarray, "i d"]
    """The observation at which each prediction starts."""

    @property
    def planned_ikd(self) -> Float[np.ndarray, "i k d"]:
        """The prediction: the mean over particles."""
        return self.particles_ikpd.mean(2)

    @property
    def kept_i(self) -> Bool[np.ndarray, "i"]:
        """See `kept_i`."""
        return kept_i(self.terminated_ik)

    @property
    def still_k(self) -> Float[np.ndarray, "k"]:
        """The error of predicting that nothing changes, in squared units of standard deviations."""
        begin = np.broadcast_to(self.begin_id[:, None], self.real_ikd.shape)
        return mse_k(begin / self.std_d, self.real_ikd / self.std_d, self.kept_i)

    @property
    def error_ik(self) -> Float[np.ndarray, "i k"]:
        """Root mean square error of each kept start, over dimensions, in units of standard deviations."""
        difference = (np.float64(self.real_ikd) - self.planned_ikd)[self.kept_i] / self.std_d
        return np.sqrt(np.square(difference).mean(2))

    @property
    def spread_ik(self) -> Float[np.ndarray, "i k"]:
        """Root mean square standard deviation of the particles of each kept start, likewise: their disagreement."""
        return np.sqrt(np.square(self.particles_ikpd[self.kept_i].std(2) / self.std_d).mean(2))


class Norms(NamedTuple):
    """Length of the error vector after each step, over the kept starts."""

    mean_k: Float[np.ndarray, "k"]
    low_k: Float[np.ndarray, "k"]
    """16th percentile."""
    high_k: Float[np.ndarray, "k"]
    """84th percentile."""


class Gap(NamedTuple):
    """How far estimates are from the truth."""

    bias: float
    """Mean of estimate minus truth; positive is optimistic."""
    error: float
    """Mean square of estimate minus truth."""
    scale: float
    """Root mean square of the truth."""


def std_of(obs: Float[np.ndarray, "rows d"]) -> Float[np.ndarray, "d"]:
    """`s_d`, the population standard deviation of each dimension; 1 where it is below `LEAST_STD`."""
    std = obs.std(0)
    return np.where(std < LEAST_STD, 1.0, std)


def kept_i(terminated_ik: Bool[np.ndarray, "i k"]) -> Bool[np.ndarray, "i"]:
    """`not any_{k < K} T_ik`: starts whose real trajectory reaches its last step. It may end with that step."""
    return np.logical_not(terminated_ik[:, :-1].any(1))


def mse_k(
    planned_ikd: Float[np.ndarray, "i k d"], real_ikd: Float[np.ndarray, "i k d"], kept_i: Bool[np.ndarray, "i"]
) -> Float[np.ndarray, "k"]:
    """The k-step error `1 / (N D) sum_{i kept} sum_d (x_ikd - y_ikd)^2`, over N kept starts; NaN if there are none.

    It is in squared units of the observation. Divide both arguments by `s_d` for units of standard deviations.

    Args:
        planned_ikd: the prediction `y`.
        real_ikd: the real observations `x`.
        kept_i: starts that count, see `kept_i`.
    """
    if not kept_i.any():
        return np.full(real_ikd.shape[1], np.nan)
    return np.square(np.float64(real_ikd[kept_i]) - planned_ikd[kept_i]).mean((0, 2))


def norms_k(
    planned_ikd: Float[np.ndarray, "i k d"], real_ikd: Float[np.ndarray, "i k d"], kept_i: Bool[np.ndarray, "i"]
) -> Norms:
    """`|x_ik - y_ik|_2` after each step: mean, 16th and 84th percentile over kept starts; NaN if there are none.

    The arguments are those of `mse_k`. Feinberg et al. 2018 (MVE), figure 1.
    """
    if not kept_i.any():
        return Norms(*np.full((3, real_ikd.shape[1]), np.nan))
    norm_ik = np.linalg.norm(np.float64(real_ikd[kept_i]) - planned_ikd[kept_i], axis=-1)
    return Norms(norm_ik.mean(0), *np.percentile(norm_ik, (16, 84), axis=0))


def discounted_i(reward_ik: Float[np.ndarray, "i k"], discount: float) -> Float[np.ndarray, "i"]:
    """The K-step return `sum_k discount^(k-1) r_ik`."""
    return np.float64(reward_ik) @ discount ** np.arange(reward_ik.shape[1])


def gap(estimate: Float[np.ndarray, "*n"], truth: Float[np.ndarray, "*n"], used: Bool[np.ndarray, "*n"]) -> Gap:
    """Bias `mean(estimate - truth)` and error `mean((estimate - truth)^2)` where `used`; NaN if that is nowhere."""
    known = np.float64(truth[used])
    difference = estimate[used] - known
    if not difference.size:
        return Gap(np.nan, np.nan, np.nan)
    return Gap(float(difference.mean()), float(np.square(difference).mean()), float(np.sqrt(np.square(known).mean())))


def reward_gap(found: OpenLoop, discount: float) -> Gap:
    """Optimism of the model: planned minus real K-step return. The original code reports real minus planned."""
    planned, real = (discounted_i(reward, discount) for reward in (found.planned_reward_ik, found.real_reward_ik))
    return gap(planned, real, found.kept_i)
