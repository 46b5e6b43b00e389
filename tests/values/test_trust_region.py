"""Natural-gradient steps and their line search, on functions whose answers are known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from foretell.values.gaussian import GaussianPolicy
from foretell.values.trust_region import fisher_vector_product, line_search, natural_step
from tiny import on_host

SIZE = 6


def positive_definite(seed):
    root = np.random.default_rng(seed).normal(size=(SIZE, SIZE))
    return np.float32(root @ root.T + 0.5 * np.eye(SIZE))


@on_host
def solved(gradient, matrix):
    how = {"max_divergence": 0.03, "iterations": 2 * SIZE, "tolerance": 1e-10}
    return natural_step(gradient, lambda v: matrix @ v, **how)


@pytest.mark.parametrize("seed", range(5))
def test_the_direction_solves_the_linear_system_and_the_step_reaches_the_bound(seed):
    matrix = positive_definite(seed)
    gradient = np.float32(np.random.default_rng(seed + 9).normal(size=SIZE))
    step = solved(gradient, matrix)
    direction = np.linalg.solve(np.float64(matrix), gradient)
    scale = np.sqrt(2 * 0.03 / (direction @ np.float64(matrix) @ direction))
    np.testing.assert_allclose(step, scale * direction, rtol=1e-2, atol=1e-3)
    assert 0.5 * step @ matrix @ step == pytest.approx(0.03, rel=1e-3)


@pytest.mark.long
def test_conjugate_gradients_stop_after_their_iterations_or_at_their_tolerance():
    matrix, gradient, products = jnp.asarray(positive_definite(0)), jnp.ones(SIZE), []

    def product(vector):
        jax.debug.callback(lambda: products.append(1))
        return matrix @ vector

    def count(**stop):
        products.clear()
        jax.block_until_ready(natural_step(gradient, product, max_divergence=1.0, **stop))
        jax.effects_barrier()
        return len(products)

    few, many = (count(iterations=iterations, tolerance=0.0) for iterations in (1, 3))
    assert many == few + 2
    assert count(iterations=3, tolerance=1e9) == few - 1


@pytest.mark.parametrize("matrix", [np.eye(SIZE), np.zeros((SIZE, SIZE))])
def test_without_a_gradient_there_is_no_step(matrix):
    np.testing.assert_array_equal(solved(np.zeros(SIZE, np.float32), np.float32(matrix)), np.zeros(SIZE))


@pytest.mark.parametrize("learn_std", [True, False])
@pytest.mark.long
def test_products_with_the_fisher_matrix_are_those_of_the_divergences_hessian(learn_std):
    policy = GaussianPolicy(hidden=(3,), learn_std=learn_std)

    @on_host
    def both(features):
        old = policy.init(jax.random.key(0), 2, 2)
        start, unravel = ravel_pytree(old)
        divergence = lambda params: policy.kl(old, unravel(params), features).mean()  # noqa: E731
        product = fisher_vector_product(divergence, start, 0.25)
        return jax.hessian(divergence)(start), jax.vmap(product)(jnp.eye(len(start)))

    hessian, rows = both(np.float32(np.random.default_rng(1).normal(size=(50, 2))))
    np.testing.assert_allclose(rows, hessian + 0.25 * np.eye(len(hessian)), rtol=1e-4, atol=1e-5)
    assert np.linalg.eigvalsh(hessian).min() > -1e-5
    assert hessian[-2:, -2:].diagonal() == pytest.approx([2.0, 2.0] if learn_std else [0.0, 0.0], abs=1e-4)


@partial(jax.jit, static_argnames="tries")
def search(gains, divergences, tries=4):
    """Where it stops if these are met one after another."""

    def evaluate(fraction):
        index = jnp.round(jnp.log(fraction) / jnp.log(0.5)).astype(int)
        return gains[index], divergences[index]

    return line_search(evaluate, max_divergence=1.0, ratio=0.5, tries=tries)


PAIRS = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 1.0, np.nan, np.inf]), st.sampled_from([0.5, 1.0, 1.5, np.nan, np.inf])),
    min_size=4,
    max_size=4,
)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(PAIRS)
@pytest.mark.long
def test_the_search_takes_the_first_gain_within_the_bound(pairs):
    gains, divergences = np.float32(pairs).T
    good = [i for i, (gain, divergence) in enumerate(pairs) if gain > 0 and divergence <= 1]
    found = search(gains, divergences)
    assert bool(found.found) == bool(good)
    last = good[0] if good else 3
    assert (int(found.tries), float(found.fraction)) == (last + 1, 0.5**last)
    np.testing.assert_array_equal([found.gain, found.divergence], [gains[last], divergences[last]])


@pytest.mark.long
def test_the_search_gives_up_after_its_tries():
    found = search(np.float32([-1, -1, 1]), np.zeros(3, np.float32), tries=2)
    assert not found.found and found.tries == 2 and found.fraction == 0.5
