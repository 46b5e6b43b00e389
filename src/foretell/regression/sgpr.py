"""Sparse Gaussian process regression in float64: the bound of Titsias (2009) and what planning needs of its optimum.

With `z` the inducing inputs, everything follows from two Cholesky factors: `L L^T = Kzz + jitter I`, and
`M M^T = I + A A^T` where `A = L^-1 Kzx / noise_std`. Covariances of the size of the data are never formed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int


class Data(NamedTuple):
    """Rows of a regression problem, of which only those that are `present` count."""

    x: Float[Array, "rows in"]
    """Finite, even where a row is not present."""
    y: Float[Array, "rows out"]
    present: Bool[Array, "rows"]


class Parameters(NamedTuple):
    """The parameters over which the bound is maximised. All outputs share one kernel and one noise."""

    variance: Float[Array, ""]
    """Variance of the kernel, in squared units of the targets."""
    lengthscales: Float[Array, "in"]
    """In the units of the inputs."""
    noise: Float[Array, ""]
    """Variance of the observation noise, in squared units of the targets."""
    inducing: Float[Array, "inducing in"]
    """In the units of the inputs."""


class Trained(NamedTuple):
    """Where an optimisation stopped, and the latent function there.

    With `k` the kernel between an input and the inducing inputs, its mean is `k @ weights`, and its variance
    `variance - |k @ reduction|^2`, the same for all outputs.
    """

    parameters: Parameters
    weights: Float[Array, "inducing out"]
    reduction: Float[Array, "inducing inducing"]
    bound: Float[Array, ""]
    """In nats, summed over rows and outputs."""
    steps: Int[Array, ""]


class _Factors(NamedTuple):
    """The matrices of this module's docstring, and the targets as they are needed with them."""

    lower: Float[Array, "inducing inducing"]
    """`L`."""
    scaled: Float[Array, "inducing rows"]
    """`A`; its columns of rows that are not present are 0."""
    outer: Float[Array, "inducing inducing"]
    """`M`."""
    targets: Float[Array, "rows out"]
    """0 where a row is not present."""
    projected: Float[Array, "inducing out"]
    """`M^-1 A targets`."""


class _Search(NamedTuple):
    """L-BFGS between two iterations."""

    free: Parameters
    """The unconstrained parameters; see `_positive`."""
    loss: Float[Array, ""]
    """The bound's negative at `free`, in nats; infinite before the first iteration."""
    state: optax.OptState
    steps: Int[Array, ""]
    gain: Float[Array, ""]
    """Decrease of the loss in the last iteration, as a share of its size."""


def fit(data: Data, start: Parameters, *, jitter: float, iterations: int, tolerance: float) -> Trained:
    """Maximise the bound from `start`. Takes and returns float32, computes in float64, and can be compiled.

    Args:
        data: the rows to be fitted.
        start: where the search starts.
        jitter: added to the variance of the inducing values, in squared units of the targets.
        iterations: at most this many iterations of L-BFGS.
        tolerance: stop when an iteration improves the bound by less than this share of its size.
    """
    with jax.enable_x64(True):
        data, start = _cast((data, start), jnp.float64)
        parameters, value, steps = maximize(start, data, jitter=jitter, iterations=iterations, tolerance=tolerance)
        # The weights must belong to the parameters that planning will have, which are rounded.
        parameters = _cast(parameters, jnp.float32)
        weights, reduction = posterior(_cast(parameters, jnp.float64), data, jitter)
        return _cast(Trained(parameters, weights, reduction, value, steps), jnp.float32)


def bound(parameters: Parameters, data: Data, jitter: float) -> Float[Array, ""]:
    """Lower bound of the log marginal likelihood of the rows that are present, in nats, summed over outputs.

    With `Q = Kxz Kzz^-1 Kzx` it is `log N(y | 0, Q + noise I) - trace(Kxx - Q) / (2 noise)` of each output's `y`.
    """
    factors = _factorize(parameters, data, jitter)
    rows = data.present.sum()
    log_determinant = rows * jnp.log(2 * jnp.pi * parameters.noise) + 2 * jnp.log(jnp.diagonal(factors.outer)).sum()
    trace = rows * parameters.variance / parameters.noise - jnp.square(factors.scaled).sum()
    quadratic = (jnp.square(factors.targets).sum() - jnp.square(factors.projected).sum()) / parameters.noise
    return -0.5 * (data.y.shape[-1] * (log_determinant + trace) + quadratic)


def maximize(
    start: Parameters, data: Data, *, jitter: float, iterations: int, tolerance: float
) -> tuple[Parameters, Float[Array, ""], Int[Array, ""]]:
    """Maximise the bound by L-BFGS; the arguments are those of `fit`.

    Returns:
        The parameters where the search stops, the bound there in nats, and the number of iterations.
    """
    loss = lambda free: -bound(_positive(free), data, jitter)  # noqa: E731
    optimizer = optax.lbfgs()
    free, infinite = _free(start), jnp.full((), jnp.inf)
    last = jax.lax.while_loop(
        lambda search: (search.steps < iterations) & (search.gain > tolerance),
        partial(_iterate, optimizer, loss),
        _Search(free, infinite, optimizer.init(free), jnp.zeros((), jnp.int32), infinite),
    )
    return _positive(last.free), -last.loss, last.steps


def posterior(
    parameters: Parameters, data: Data, jitter: float
) -> tuple[Float[Array, "inducing out"], Float[Array, "inducing inducing"]]:
    """Weights and reduction of the latent function given the data; see `Trained`."""
    factors = _factorize(parameters, data, jitter)
    upper = factors.lower.T
    weights = solve_triangular(upper, solve_triangular(factors.outer.T, factors.projected))
    weights = weights / jnp.sqrt(parameters.noise)
    # The variance is k (Kzz^-1 - (Kzz + Kzx Kxz / noise)^-1) k below the prior's. By the eigenvalues of the second
    # matrix relative to the first, that is a single square, which rounding cannot make negative.
    values, vectors = jnp.linalg.eigh(factors.scaled @ factors.scaled.T)
    values = jnp.maximum(values, 0.0)
    return weights, solve_triangular(upper, vectors * jnp.sqrt(values / (1.0 + values)))


def _factorize(parameters: Parameters, data: Data, jitter: float) -> _Factors:
    """Condition the process on the data."""
    identity = jnp.eye(len(parameters.inducing))
    lower = jnp.linalg.cholesky(_kernel(parameters, parameters.inducing) + jitter * identity)
    cross = jnp.where(data.present, _kernel(parameters, data.x), 0.0)
    scaled = solve_triangular(lower, cross / jnp.sqrt(parameters.noise), lower=True)
    outer = jnp.linalg.cholesky(identity + scaled @ scaled.T)
    targets = jnp.where(data.present[:, None], data.y, 0.0)
    return _Factors(lower, scaled, outer, targets, solve_triangular(outer, scaled @ targets, lower=True))


def _kernel(parameters: Parameters, x: Float[Array, "rows in"]) -> Float[Array, "inducing rows"]:
    """The RBF kernel between the inducing inputs and `x`."""
    # Differences, not inner products, whose rounding would be that of large numbers where inputs are far from 0.
    apart = (parameters.inducing / parameters.lengthscales)[:, None] - x / parameters.lengthscales
    return parameters.variance * jnp.exp(-0.5 * jnp.square(apart).sum(-1))


def _iterate(
    optimizer: optax.GradientTransformationExtraArgs, loss: Callable[[Parameters], Float[Array, ""]], search: _Search
) -> _Search:
    """One iteration of L-BFGS, which never makes the loss larger."""
    before, grad = optax.value_and_grad_from_state(loss)(search.free, state=search.state)
    updates, state = optimizer.update(grad, search.state, search.free, value=before, grad=grad, value_fn=loss)
    after = optax.tree.get(state, "value")
    gain = (before - after) / jnp.maximum(jnp.maximum(jnp.abs(before), jnp.abs(after)), 1.0)
    better = after < before  # a line search that found nothing leaves no number, or none to be used
    free = jax.tree.map(lambda a, change: jnp.where(better, a + change, a), search.free, updates)
    return _Search(free, jnp.where(better, after, before), state, search.steps + 1, gain)


def _positive(free: Parameters) -> Parameters:
    """The parameters for free numbers, of which those that must be positive are the softplus."""
    variance, lengthscales, noise = (jax.nn.softplus(value) for value in free[:3])
    return Parameters(variance, lengthscales, noise, free.inducing)


def _free(parameters: Parameters) -> Parameters:
    """The inverse of `_positive`."""
    variance, lengthscales, noise = (value + jnp.log(-jnp.expm1(-value)) for value in parameters[:3])
    return Parameters(variance, lengthscales, noise, parameters.inducing)


def _cast(tree: Any, dtype: Any) -> Any:
    """The same tree with its real numbers in another precision."""
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)
