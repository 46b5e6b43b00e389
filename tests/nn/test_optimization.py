"""Steps are taken whole, at the pace asked for, or not at all."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from foretell.nn import all_finite, step_if


def test_the_loss_must_be_finite() -> None:
    fine = {"a": jnp.ones(2)}
    assert all_finite(jnp.zeros(()), fine)
    assert not all_finite(jnp.array(jnp.inf), fine)
    assert not all_finite(jnp.array(jnp.nan), fine)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_gradients_and_their_squares_must_be_finite(bad: float) -> None:
    assert not all_finite(jnp.zeros(()), {"a": jnp.array([1.0, bad])})


def test_a_step_is_the_optimisers() -> None:
    params, grads, optimizer = jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0]), optax.adam(0.1)
    state = optimizer.init(params)
    updates, expected = optimizer.update(grads, state, params)
    new, new_state = step_if(jnp.array(True), optimizer, grads, params, state)
    np.testing.assert_allclose(new, params + updates)
    np.testing.assert_array_equal(new_state[0].mu, expected[0].mu)
    half, _ = step_if(jnp.array(True), optimizer, grads, params, state, 0.5)
    np.testing.assert_allclose(half, params + 0.5 * updates)


def test_nothing_changes_where_it_is_refused() -> None:
    params, optimizer = jnp.array([1.0]), optax.adam(0.1)
    state = optimizer.init(params)
    new, new_state = step_if(jnp.array(False), optimizer, jnp.array([np.nan]), params, state)
    assert new == params and new_state[0].count == 0 and new_state[0].mu == 0
