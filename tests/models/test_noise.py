"""Hashed normals must be as good as drawn ones for all that planning does with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from foretell.models.noise import hashed_normal, normal_of


@pytest.fixture(scope="module")
def draws():
    return np.asarray(hashed_normal(jax.random.key(0), (50, 20, 100, 4)), np.float64)


def test_they_are_standard_normals(draws):
    assert stats.kstest(draws.ravel(), "norm").pvalue > 0.01
    assert np.allclose([(draws**n).mean() for n in (1, 2, 3, 4)], [0, 1, 0, 3], atol=0.03)


def test_no_neighbour_along_any_axis_tells_anything_of_another(draws):
    bound = 4.5 / np.sqrt(draws.size)
    for axis in range(draws.ndim):
        for lag in (1, 2, 3):
            if lag < draws.shape[axis]:
                a, b = (
                    np.take(draws, range(lag, draws.shape[axis]), axis),
                    np.take(draws, range(draws.shape[axis] - lag), axis),
                )
                assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 1.2 * bound
                assert abs(np.corrcoef(a.ravel() ** 2, b.ravel() ** 2)[0, 1]) < 1.2 * bound


def test_neighbouring_keys_give_independent_draws():
    keys = jax.random.split(jax.random.key(1), 30)
    rows = np.asarray(jax.vmap(lambda key: hashed_normal(key, (20_000,)))(keys))
    off_diagonal = np.corrcoef(rows)[~np.eye(30, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(20_000)
    assert abs(off_diagonal.std() * np.sqrt(20_000) - 1) < 0.15


def test_the_most_extreme_words_are_finite_and_symmetric():
    least, greatest = normal_of(jnp.array([0, 2**32 - 1], jnp.uint32))
    assert least == -greatest
    assert 5 < greatest < 6
