"""Whether a model knows how uncertain it is: how often the truth lies where its particles say it does.

Letters: `i` is a start, `p` a particle, `d` a dimension of the observation, `a` a nominal level.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

LEVELS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
"""Nominal shares of the truth in the central interval."""
FEW_PARTICLES = 10
"""With fewer particles their mean and standard deviation stand for the distribution, taken for Gaussian."""


class Calibration(NamedTuple):
    """Of predictions a number of steps ahead."""

    share_ad: Float[np.ndarray, "a d"]
    """Share of real values within the central interval; NaN for a dimension in which the particles do not differ."""
    square_d: Float[np.ndarray, "d"]
    """Mean squared error in units of the predicted variance: 1 if calibrated, more if too certain; see
    `standard_square_d`."""
    gaussian: bool
    """Whether intervals are those of a Gaussian, or else of the particles."""

    @property
    def share_a(self) -> Float[np.ndarray, "a"]:
        """Mean over the dimensions that have an uncertainty."""
        return np.nanmean(self.share_ad, 1)

    @property
    def square(self) -> float:
        """Mean over the dimensions that have an uncertainty."""
        return float(np.nanmean(self.square_d))


def calibration(particles_ipd: Float[np.ndarray, "i p d"], real_id: Float[np.ndarray, "i d"]) -> Calibration | None:
    """Shares and squared errors; None where the model has no uncertainty: one particle, or equal ones; or no starts.

    Args:
        particles_ipd: predictions.
        real_id: what was real.
    """
    uncertain_d = np.ptp(particles_ipd, 1).min(0, initial=np.inf) > 0
    if not len(real_id) or particles_ipd.shape[1] < 2 or not uncertain_d.any():
        return None
    gaussian = particles_ipd.shape[1] < FEW_PARTICLES
    inside = gaussian_inside_aid if gaussian else particles_inside_aid
    share_ad = inside(particles_ipd, real_id, np.array(LEVELS)).mean(1)
    square_d = np.full(len(uncertain_d), np.nan)
    square_d[uncertain_d] = standard_square_d(particles_ipd[..., uncertain_d], real_id[:, uncertain_d])
    return Calibration(np.where(uncertain_d, share_ad, np.nan), square_d, gaussian)


def particles_inside_aid(
    particles_ipd: Float[np.ndarray, "i p d"], real_id: Float[np.ndarray, "i d"], level_a: Float[np.ndarray, "a"]
) -> Bool[np.ndarray, "a i d"]:
    """`q((1-a)/2) <= x_id <= q((1+a)/2)`, where `q(u)` is the particle of rank `u (P + 1)`, interpolated.

    With these ranks the expected share is exactly `a` if truth and P particles have one distribution, whatever it is,
    for levels up to `(P - 1) / (P + 1)`.
    """
    edges = np.concatenate([(1.0 - level_a) / 2, (1.0 + level_a) / 2])
    low_aid, high_aid = np.split(np.quantile(np.float64(particles_ipd), edges, axis=1, method="weibull"), 2)
    return (low_aid <= real_id) & (real_id <= high_aid)


def gaussian_inside_aid(
    particles_ipd: Float[np.ndarray, "i p d"], real_id: Float[np.ndarray, "i d"], level_a: Float[np.ndarray, "a"]
) -> Bool[np.ndarray, "a i d"]:
    """`|x_id - m_id| <= s_id Phi^-1((1+a)/2)`, with mean `m` and standard deviation `s` (of P - 1) of the particles."""
    mean_id, std_id = particles_ipd.mean(1), particles_ipd.std(1, ddof=1)
    width_a = np.array([NormalDist().inv_cdf((1.0 + level) / 2) for level in level_a])
    return np.abs(real_id - mean_id) <= width_a[:, None, None] * std_id


def standard_square_d(
    particles_ipd: Float[np.ndarray, "i p d"], real_id: Float[np.ndarray, "i d"]
) -> Float[np.ndarray, "d"]:
    """`mean_i (x_id - m_id)^2 / s_id^2`, with mean `m` and standard deviation `s` (of P - 1) of the particles.

    Of a calibrated Gaussian with P particles its expectation is `(1 + 1/P) (P - 1) / (P - 3)`, which tends to 1.
    """
    mean_id, var_id = np.float64(particles_ipd).mean(1), np.float64(particles_ipd).var(1, ddof=1)
    return (np.square(real_id - mean_id) / var_id).mean(0)


def tracking(spread_i: Float[np.ndarray, "i"], error_i: Float[np.ndarray, "i"]) -> float:
    """Whether a model knows where it is wrong: Spearman's rank correlation of disagreement and error over starts.

    NaN with fewer than three starts, or if one of the two does not vary.
    """
    from scipy import stats  # type: ignore[import-untyped]  # slow to import, and needed here alone

    if len(spread_i) < 3 or not (spread_i != spread_i[0]).any() or not (error_i != error_i[0]).any():
        return float("nan")
    return float(stats.spearmanr(spread_i, error_i).statistic)
