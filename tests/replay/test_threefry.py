"""The random generator without its loop gives JAX's own numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.replay.threefry import bits_at, fold_in

bits = jax.jit(bits_at)
folded = jax.jit(fold_in)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_keys_are_those_of_jax(seed, data):
    key = jax.random.key(seed)
    expected = jax.random.key_data(jax.random.fold_in(key, data))
    np.testing.assert_array_equal(jax.random.key_data(folded(key, jnp.int32(data))), expected)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 2**31 - 1))
def test_bits_are_those_of_jax_at_every_place(seed):
    key = jax.random.key(seed)
    whole = np.asarray(jax.random.bits(key, (300,)))
    np.testing.assert_array_equal(bits(key, jnp.arange(300)), whole)
    np.testing.assert_array_equal(bits(key, jnp.array([[299, 0], [7, 7]])), whole[np.array([[299, 0], [7, 7]])])


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_keys_of_another_generator_stay_of_that_kind(kind):
    key = jax.random.key(3, impl=kind)
    expected = jax.random.key_data(jax.random.fold_in(key, 5))
    np.testing.assert_array_equal(jax.random.key_data(fold_in(key, jnp.int32(5))), expected)
