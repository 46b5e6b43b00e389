"""Hashed normals must be as good as drawn ones for all that planning does with them."""

import jax
import numpy as np
import pytest
from scipy import stats

from foretell.models.noise import hashed_bits, hashed_normal, normal_of
from tiny import on_host

hashed = on_host(hashed_normal, 1, 2)


@pytest.fixture(scope="module")
def draws():
    return np.float64(hashed(jax.random.key(0), (50, 20, 100, 4)))


def correlation(a, b):
    """In units of the standard deviation that independent draws of this number would have."""
    return np.corrcoef(a.ravel(), b.ravel())[0, 1] * np.sqrt(a.size)


def test_they_are_standard_normals(draws):
    assert stats.kstest(draws.ravel(), "norm").pvalue > 0.01
    assert np.allclose([(draws**n).mean() for n in (1, 2, 3, 4)], [0, 1, 0, 3], atol=0.03)


def test_neighbours_along_any_axis_are_independent(draws):
    for axis in range(draws.ndim):
        for lag in (1, 2, 3):
            later = np.take(draws, range(lag, draws.shape[axis]), axis)
            earlier = np.take(draws, range(draws.shape[axis] - lag), axis)
            assert abs(correlation(earlier, later)) < 5
            assert abs(correlation(earlier**2, later**2)) < 5


def test_neighbouring_keys_give_independent_draws():
    """As the steps of a rollout have them."""
    keys = jax.random.split(jax.random.key(1), 30)
    rows = on_host(jax.vmap(lambda key: hashed_normal(key, (20_000,))))(keys)
    off_diagonal = np.corrcoef(rows)[~np.eye(30, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(20_000)
    assert abs(off_diagonal.std() * np.sqrt(20_000) - 1) < 0.15


def test_streams_of_one_key_are_independent():
    key, shape = jax.random.key(2), (100, 200)
    streams = [hashed(key, shape, stream) for stream in (0, 1, 8, 2**16 - 1)]
    for i, a in enumerate(streams):
        assert stats.kstest(a.ravel(), "norm").pvalue > 0.01
        assert all(abs(correlation(a, b)) < 5 for b in streams[:i])


def test_a_number_depends_on_its_position_alone():
    """So that more rows change nothing for the first ones."""
    key = jax.random.key(3)
    np.testing.assert_array_equal(hashed(key, (5, 7))[:2], hashed(key, (2, 7)))


@pytest.mark.long
def test_bits_are_uniform_words():
    words = on_host(hashed_bits, 1)(jax.random.key(4), (100_000,))
    assert words.dtype == np.uint32 and len(np.unique(words)) > 0.999 * len(words)
    share = np.stack([(words >> np.uint32(bit)) & 1 for bit in range(32)]).mean(1)
    np.testing.assert_allclose(share, 0.5, atol=0.01)


@pytest.mark.long
def test_the_most_extreme_words_are_finite_and_symmetric():
    least, greatest = on_host(normal_of)(np.uint32([0, 2**32 - 1]))
    assert least == -greatest
    assert 5 < greatest < 6
