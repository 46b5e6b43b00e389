"""Standardisation, in particular of columns that never change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foretell.nn import Normalizer, fit_normalizer, identity_normalizer, normalizer

fit = jax.jit(fit_normalizer, static_argnames="min_std")

# Multiples of 1/64: their standard deviation is either 0 or far above any guard.
ROWS = arrays(np.float32, (12, 3), elements=st.integers(-64_000, 64_000).map(lambda i: i / 64))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(ROWS, st.integers(1, 12), st.booleans())
def test_equals_numpy_in_float64_on_the_valid_rows(x, count, constant):
    if constant:
        x[:, 1] = x[0, 1]
    valid = np.zeros(12, bool)
    valid[np.random.default_rng(count).permutation(12)[:count]] = True
    mean, std = x[valid].astype(np.float64).mean(0), x[valid].astype(np.float64).std(0)
    x[~valid] = 1e6
    found = fit(x, valid, min_std=1e-12)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.std, np.where(std < 1e-12, 1, std), rtol=1e-6)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("offset", [0.0, 0.1, 1e4 + 0.3, -3e7])
@pytest.mark.long
def test_a_constant_column_gets_standard_deviation_one_at_any_offset(offset, compiled):
    x = jnp.asarray(np.full((200, 1), offset, np.float32))
    found = (fit if compiled else fit_normalizer)(x, jnp.asarray(np.arange(200) < 157), min_std=1e-12)
    assert found.std == 1
    assert found.mean == np.asarray(x)[0]
    assert not found.normalize(x).any()


@pytest.mark.parametrize("span", [(0, 23), (0, 5), (7, 11), (9, 22), (22, 23)])
def test_rows_are_summed_in_chunks_from_the_first_valid_one_to_the_last(monkeypatch, span):
    monkeypatch.setattr(normalizer, "_CHUNK", 5)
    x = np.random.default_rng(0).normal(size=(23, 2)).astype(np.float32)
    valid = jnp.asarray([span[0] <= i < span[1] for i in range(23)])
    found = fit_normalizer(jnp.asarray(x), valid, min_std=1e-12)
    mean, std = x[slice(*span)].astype(np.float64).mean(0), x[slice(*span)].astype(np.float64).std(0)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.std, np.where(std < 1e-12, 1, std), rtol=1e-6)


def test_min_std_is_the_least_standard_deviation_that_counts():
    x = np.array([[0.9e-3, 1.1e-3], [-0.9e-3, -1.1e-3]], np.float32)
    found = fit(x, np.ones(2, bool), min_std=1e-3)
    np.testing.assert_allclose(found.std, [1.0, 1.1e-3], rtol=1e-6)


def test_no_valid_rows_give_the_identity():
    found = fit(np.full((4, 2), 7, np.float32), np.zeros(4, bool), min_std=1e-12)
    assert not found.mean.any()
    assert (found.std == 1).all()


def test_the_statistics_are_float32():
    found = fit(np.ones((4, 2), np.float32), np.ones(4, bool), min_std=1e-12)
    assert found.mean.dtype == found.std.dtype == jnp.float32


@pytest.mark.long
def test_normalize_subtracts_then_divides_and_denormalize_undoes_it():
    normalizer = Normalizer(jnp.array([1.0, -2.0]), jnp.array([4.0, 0.5]))
    x = jnp.array([[[3.0, -1.0], [1.0, -2.0]]])
    np.testing.assert_allclose(normalizer.normalize(x), [[[0.5, 2.0], [0.0, 0.0]]])
    np.testing.assert_allclose(normalizer.denormalize(normalizer.normalize(x)), x)


@pytest.mark.long
def test_the_identity_changes_nothing():
    x = jnp.array([[3.0, -1.0]])
    assert (identity_normalizer(2).normalize(x) == x).all()


@pytest.mark.long
def test_rows_that_are_not_finite_or_not_valid_are_left_out():
    x = np.float32([[1.0], [3.0], [np.inf], [np.nan], [9.0]])
    found = fit(x, np.array([True, True, True, True, False]), min_std=1e-5)
    assert (float(found.mean[0]), float(found.std[0])) == (2.0, 1.0)
