"""Sparse Gaussian process regression in float64: the bound of Titsias (2009) and what planning needs of its optimum.

Kernel, conditioning and bound are GPJax's. This module imports it, which takes seconds, and is therefore itself
imported only where a Gaussian process is trained.
"""

from typing import Any, NamedTuple

import gpjax
import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int


class Data(NamedTuple):
    """Rows of a regression problem, of which only those that are `present` count."""

    x: Float[Array, "rows in"]
    y: Float[Array, "rows out"]
    present: Bool[Array, "rows"]


class Parameters(NamedTuple):
    """What the bound is maximised over. One kernel and one noise serve all outputs."""

    variance: Float[Array, ""]
    """Variance of the kernel, in squared units of the targets."""
    lengthscales: Float[Array, "in"]
    """In the units of the inputs."""
    noise: Float[Array, ""]
    """Variance of the observation noise, in squared units of the targets."""
    inducing: Float[Array, "inducing in"]


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


class _PresentRBF(gpjax.kernels.RBF):
    """The RBF kernel times the last entries of both inputs: a row that ends with 0 varies with nothing."""

    def __call__(self, x: Float[Array, "in_and_1"], y: Float[Array, "in_and_1"]) -> Float[Array, ""]:
        return super().__call__(x[:-1], y[:-1]) * x[-1] * y[-1]


def fit(data: Data, start: Parameters, *, jitter: float, iterations: int, tolerance: float) -> Trained:
    """Maximise the bound from `start`. Takes and returns float32, computes in float64, and can be compiled.

    L-BFGS stops after `iterations` iterations, or when one gains less than `tolerance` of the bound's size.
    """
    with jax.enable_x64(True):
        data, start = _cast((data, start), jnp.float64)
        parameters, value, steps = maximize(start, data, jitter=jitter, iterations=iterations, tolerance=tolerance)
        # The weights must belong to the parameters that planning will have, which are rounded.
        parameters = _cast(parameters, jnp.float32)
        weights, reduction = posterior(_cast(parameters, jnp.float64), data, jitter)
        return _cast(Trained(parameters, weights, reduction, value, steps), jnp.float32)


def bound(parameters: Parameters, data: Data, jitter: float) -> Float[Array, ""]:
    """Lower bound of the log marginal likelihood of the rows that are present, in nats, summed over outputs."""
    per_output = jax.vmap(lambda y: _conditioned(parameters, data, y, jitter).elbo_bound, in_axes=1)(data.y)
    # A row that is absent has no variance but the noise's, so that its target, 0, has the density below.
    absent = (~data.present).sum() * -0.5 * jnp.log(2 * jnp.pi * parameters.noise)
    return (per_output - absent).sum()


def maximize(
    start: Parameters, data: Data, *, jitter: float, iterations: int, tolerance: float
) -> tuple[Parameters, Float[Array, ""], Int[Array, ""]]:
    """Parameters where L-BFGS stops, the bound there, and the number of iterations.

    It searches over free numbers of which those that must be positive are the softplus.
    """
    loss = lambda free: -bound(_positive(free), data, jitter)  # noqa: E731
    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: tuple) -> tuple:
        free, _, state, steps, _ = carry
        before, grad = value_and_grad(free, state=state)
        updates, state = optimizer.update(grad, state, free, value=before, grad=grad, value_fn=loss)
        after = optax.tree.get(state, "value")
        gain = (before - after) / jnp.maximum(jnp.maximum(jnp.abs(before), jnp.abs(after)), 1.0)
        better = after < before  # a line search that found nothing leaves no number, or none to be used
        free = jax.tree.map(lambda a, change: jnp.where(better, a + change, a), free, updates)
        return free, jnp.where(better, after, before), state, steps + 1, gain

    def goes_on(carry: tuple) -> Bool[Array, ""]:
        return (carry[3] < iterations) & (carry[4] > tolerance)

    free, inf = _free(start), jnp.full((), jnp.inf)
    first = free, inf, optimizer.init(free), jnp.zeros((), jnp.int32), inf
    free, value, _, steps, _ = jax.lax.while_loop(goes_on, step, first)
    return _positive(free), -value, steps


def posterior(
    parameters: Parameters, data: Data, jitter: float
) -> tuple[Float[Array, "inducing out"], Float[Array, "inducing inducing"]]:
    """Weights and reduction of the latent function given the data; see `Trained`."""
    given = jax.vmap(lambda y: _conditioned(parameters, data, y, jitter), in_axes=1)(data.y)
    lower, scaled = given.cholesky_kzz[0], given.scaled_cross[0]  # they are the same for every output
    # The variance is k (Kzz^-1 - (Kzz + Kzx Kxz / noise)^-1) k below the prior's. By the eigenvalues of the second
    # matrix relative to the first, that is a single square, which rounding cannot make negative.
    values, vectors = jnp.linalg.eigh(scaled @ scaled.T)
    values = jnp.maximum(values, 0.0)
    reduction = solve_triangular(lower.T, vectors * jnp.sqrt(values / (1.0 + values)), lower=False)
    return given.representer_weights[..., 0].T, reduction


def _conditioned(parameters: Parameters, data: Data, y: Float[Array, "rows"], jitter: float) -> gpjax.Posterior:
    """GPJax's sparse posterior of one output."""
    fixed = gpjax.parameters.Real  # positive already, so not to be transformed again
    kernel = _PresentRBF(lengthscale=fixed(parameters.lengthscales), variance=fixed(parameters.variance))
    prior = gpjax.Prior(kernel, gpjax.mean_functions.Zero(), jitter=jitter)
    model = prior * gpjax.likelihoods.Gaussian(jnp.sqrt(parameters.noise))
    here = jnp.ones((len(parameters.inducing), 1))
    inducing = jnp.concatenate([parameters.inducing, here], -1)
    family = gpjax.variational_families.CollapsedVariationalGaussian(model, inducing)
    x = jnp.concatenate([data.x, data.present[:, None]], -1)
    return family.condition(gpjax.Dataset(x, jnp.where(data.present, y, 0.0)[:, None]))


def _positive(free: Parameters) -> Parameters:
    variance, lengthscales, noise = (jax.nn.softplus(value) for value in free[:3])
    return Parameters(variance, lengthscales, noise, free.inducing)


def _free(parameters: Parameters) -> Parameters:
    variance, lengthscales, noise = (value + jnp.log(-jnp.expm1(-value)) for value in parameters[:3])
    return Parameters(variance, lengthscales, noise, parameters.inducing)


def _cast(tree: Any, dtype: Any) -> Any:
    """The same tree with its real numbers in another precision."""
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)
