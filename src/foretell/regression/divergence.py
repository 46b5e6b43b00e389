"""How far the members of an ensemble disagree about a prediction: the geometric Jensen-Shannon divergence.

Frauenknecht et al. 2024, "Trust the model where it trusts itself" (MACURA), after Nielsen 2019.
"""

from itertools import combinations

import jax.numpy as jnp
from jaxtyping import Array, Float

from foretell.regression.prediction import Prediction


def gaussian_divergence(
    mean: Float[Array, "*rows out"],
    variance: Float[Array, "*rows out"],
    other_mean: Float[Array, "*rows out"],
    other_variance: Float[Array, "*rows out"],
) -> Float[Array, "*rows"]:
    """The geometric Jensen-Shannon divergence of two diagonal Gaussians, with equal weights.

    With `V` the harmonic mean of the variances and `M = V (m1 / v1 + m2 / v2) / 2` it is half the sum over outputs of
    `(m1^2 / v1 + m2^2 / v2) / 2 - M^2 / V + (ln v1 + ln v2) / 2 - ln V`. It does not depend on units.

    Args:
        mean: of the first Gaussian.
        variance: likewise.
        other_mean: of the second.
        other_variance: likewise.
    """
    total = variance + other_variance
    apart = 0.5 * jnp.square(mean - other_mean) / total
    return 0.5 * (apart + jnp.log(0.5 * total) - 0.5 * (jnp.log(variance) + jnp.log(other_variance))).sum(-1)


def disagreement(prediction: Prediction) -> Float[Array, "rows"]:
    """The mean divergence of all pairs of members."""
    first, second = (jnp.array(side) for side in zip(*combinations(range(len(prediction.mean)), 2), strict=True))
    mean, variance, _ = prediction
    return gaussian_divergence(mean[first], variance[first], mean[second], variance[second]).mean(0)
