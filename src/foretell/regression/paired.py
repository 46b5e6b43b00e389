"""A paired test on held-out rows: whether later weights predict better than earlier ones, or seem to by chance.

Kubo et al. 2025 (DHMBPO), in the released code.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from foretell.regression.stopping import Judge

_MANY_ROWS = 1000
"""With at least so many rows the test is a z-test, with fewer Student's t-test."""


def judged_by_rows(weight: Float[Array, "rows"], significance: float) -> Judge:
    """Judges losses row by row, see `Fit.significance`.

    Args:
        weight: 1 for rows that count, else 0.
        significance: the probability of a chance result below which weights are better.
    """

    def judge(found: Float[Array, "rows"], lowest: Float[Array, "rows"]) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
        chance = chance_of(found - lowest, weight)
        return ~(chance >= significance), ~(chance >= 0.5)

    return judge


def chance_of(difference: Float[Array, "rows"], weight: Float[Array, "rows"]) -> Float[Array, ""]:
    """The probability that the mean would be at most what it is, if the expected difference were 0.

    Args:
        difference: of each row.
        weight: 1 for rows that count, else 0.

    Returns:
        The probability: small if differences are clearly negative; NaN if no row counts.
    """
    count = weight.sum()
    mean = jnp.where(weight > 0, difference, 0.0).sum() / count
    square = jnp.where(weight > 0, jnp.square(difference - mean), 0.0).sum() / jnp.maximum(count - 1, 1)
    z = jnp.where(mean == 0, 0.0, mean / jnp.sqrt(square / count))
    return jnp.where(count >= _MANY_ROWS, jax.scipy.stats.norm.cdf(z), _student(z, jnp.maximum(count - 1, 1)))


def _student(t: Float[Array, ""], freedom: Float[Array, ""]) -> Float[Array, ""]:
    """The distribution function of Student's t, by the incomplete beta function."""
    tail = 0.5 * jax.scipy.special.betainc(0.5 * freedom, 0.5, freedom / (freedom + jnp.square(t)))
    return jnp.where(t > 0, 1.0 - tail, tail)
