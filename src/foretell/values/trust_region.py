"""Steps that raise one function while another, a mean divergence from where they start, stays within a bound.

Schulman, Levine, Moritz, Jordan, Abbeel: "Trust region policy optimization", ICML 2015 (TRPO). Parameters are flat
vectors.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float, Int

Vector = Float[Array, "parameters"]
Function = Callable[[Vector], Float[Array, ""]]


def fisher_vector_product(divergence: Function, params: Vector, damping: float) -> Callable[[Vector], Vector]:
    """The product of a vector with the divergence's second derivatives at `params`, plus `damping` times the vector.

    Exact: the derivative, forwards, of the gradient. The released code of Nagabandi et al. takes finite differences.
    """
    derivative = jax.linearize(jax.grad(divergence), params)[1]
    return lambda vector: derivative(vector) + damping * vector


def natural_step(
    gradient: Vector, product: Callable[[Vector], Vector], *, max_divergence: float, iterations: int, tolerance: float
) -> Vector:
    """The natural gradient, as long as a quadratic divergence would allow; zeros for a gradient of zeros.

    Found by conjugate gradients, at most so many `iterations`, fewer if the squared residual falls to `tolerance`.
    """
    direction = cg(product, gradient, tol=0.0, atol=tolerance**0.5, maxiter=iterations)[0]
    curvature = direction @ product(direction)
    return direction * jnp.where(curvature > 0, jnp.sqrt(2.0 * max_divergence / curvature), 0.0)


class Search(NamedTuple):
    """Where a line search stopped."""

    tries: Int[Array, ""]
    fraction: Float[Array, ""]
    """Of the whole step, the last one tried."""
    gain: Float[Array, ""]
    """By which the function is higher there."""
    divergence: Float[Array, ""]
    found: Bool[Array, ""]
    """Whether that is a gain within the bound."""


def line_search(
    outcome: Callable[[Float[Array, ""]], tuple[Float[Array, ""], Float[Array, ""]]],
    *,
    max_divergence: float,
    ratio: float,
    tries: int,
) -> Search:
    """The largest of the fractions 1, `ratio`, `ratio^2`, ..., so many in all, that gains within the bound.

    `outcome` tells of a fraction the gain and the divergence; where they are not finite, a smaller one is tried.
    """

    def attempt(last: Search) -> Search:
        fraction = jnp.float32(ratio) ** last.tries
        gain, divergence = outcome(fraction)
        return Search(last.tries + 1, fraction, gain, divergence, (gain > 0) & (divergence <= max_divergence))

    zero = jnp.zeros(())
    start = Search(jnp.zeros((), jnp.int32), zero, zero, zero, jnp.zeros((), bool))
    return jax.lax.while_loop(lambda last: ~last.found & (last.tries < tries), attempt, start)
