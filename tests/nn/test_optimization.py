"""Steps are taken whole, at the pace asked for, or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from foretell.nn import all_finite, init_mlp, step_if
from tiny import quick_jit


def test_the_loss_must_be_finite() -> None:
    fine = {"a": jnp.ones(2)}
    assert all_finite(jnp.zeros(()), fine)
    assert not all_finite(jnp.array(jnp.inf), fine)
    assert not all_finite(jnp.array(jnp.nan), fine)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_gradients_and_their_squares_must_be_finite(bad: float) -> None:
    assert not all_finite(jnp.zeros(()), {"a": jnp.array([1.0, bad])})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_flows_back_through_a_network_shows_in_its_biases(bad: float) -> None:
    network = quick_jit(lambda: init_mlp(jax.random.key(0), (2, 3, 2), members=2, activation="tanh"))()
    scale = np.ones((2, 4, 2), np.float32)
    grads = quick_jit(jax.grad(lambda network, scale: (network(jnp.ones((2, 4, 2))) * scale).sum()))
    finite = quick_jit(lambda grads: all_finite(jnp.zeros(()), {"a": [grads]}))
    assert finite(grads(network, scale))
    scale[1, 2, 1] = bad
    assert not finite(grads(network, scale))


def test_gradients_that_are_not_finite_count_as_zero() -> None:
    params, optimizer = jnp.array([1.0, -2.0, 3.0, 4.0]), optax.adam(0.1)
    step = quick_jit(lambda grads: step_if(jnp.array(True), optimizer, grads, params, optimizer.init(params)))
    new, state = step(np.float32([np.nan, 0.5, np.inf, 1e30]))
    np.testing.assert_allclose(new, [1.0, -2.1, 3.0, 4.0], rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(state[0].mu)[[0, 2, 3]], 0)


@pytest.mark.long
def test_a_step_is_the_optimisers() -> None:
    params, grads, optimizer = jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0]), optax.adam(0.1)
    state = optimizer.init(params)
    updates, expected = optimizer.update(grads, state, params)
    new, new_state = step_if(jnp.array(True), optimizer, grads, params, state)
    np.testing.assert_allclose(new, params + updates)
    np.testing.assert_array_equal(new_state[0].mu, expected[0].mu)
    half, _ = step_if(jnp.array(True), optimizer, grads, params, state, 0.5)
    np.testing.assert_allclose(half, params + 0.5 * updates)


@pytest.mark.long
def test_nothing_changes_where_it_is_refused() -> None:
    params, optimizer = jnp.array([1.0]), optax.adam(0.1)
    state = optimizer.init(params)
    new, new_state = step_if(jnp.array(False), optimizer, jnp.array([np.nan]), params, state)
    assert new == params and new_state[0].count == 0 and new_state[0].mu == 0
