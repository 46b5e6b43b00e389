"""Steps that raise a function while a second one, a mean divergence from the start, stays within a bound.

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
    """The function that multiplies a vector by the Hessian of the divergence at `params`, `damping` on its diagonal.

    It is exact: the forward-mode derivative of the gradient. The released code of Nagabandi et al. takes finite
    differences.
    """
    derivative = jax.linearize(jax.grad(divergence), params)[1]
    return lambda vector: derivative(vector) + damping * vector


def natural_step(
    gradient: Vector, product: Callable[[Vector], Vector], *, max_divergence: float, iterations: int, tolerance: float
) -> Vector:
    """The natural gradient, scaled to the bound on a quadratic divergence (Schulman et al. 2015, appendix C).

    Args:
        gradient: of the function to be raised.
        product: multiplies a vector by the Fisher matrix.
        max_divergence: the bound.
        iterations: of conjugate gradients, at most.
        tolerance: conjugate gradients stop at this squared residual.

    Returns:
        The step; zeros for a gradient of zeros.
    """
    direction = cg(product, gradient, tol=0.0, atol=tolerance**0.5, maxiter=iterations)[0]
    curvature = direction @ product(direction)
    return direction * jnp.where(curvature > 0, jnp.sqrt(2.0 * max_divergence / curvature), 0.0)


class Search(NamedTuple):
    """The end of a line search."""

    tries: Int[Array, ""]
    """Fractions that were tried."""
    fraction: Float[Array, ""]
    """The last one tried, of the whole step."""
    gain: Float[Array, ""]
    """Increase of the function there."""
    divergence: Float[Array, ""]
    found: Bool[Array, ""]
    """Whether the function is higher there, within the bound."""


def line_search(
    evaluate: Callable[[Float[Array, ""]], tuple[Float[Array, ""], Float[Array, ""]]],
    *,
    max_divergence: float,
    ratio: float,
    tries: int,
) -> Search:
    """The largest of the fractions 1, `ratio`, `ratio^2`, ... that raises the function within the bound.

    Args:
        evaluate: fraction -> gain and divergence; where they are not finite, a smaller fraction is tried.
        max_divergence: the bound.
        ratio: of each fraction to the one before.
        tries: fractions tried, at most.
    """

    def attempt(last: Search) -> Search:
        fraction = jnp.float32(ratio) ** last.tries
        gain, divergence = evaluate(fraction)
        return Search(last.tries + 1, fraction, gain, divergence, (gain > 0) & (divergence <= max_divergence))

    zero = jnp.zeros(())
    start = Search(jnp.zeros((), jnp.int32), zero, zero, zero, jnp.zeros((), bool))
    return jax.lax.while_loop(lambda last: ~last.found & (last.tries < tries), attempt, start)
