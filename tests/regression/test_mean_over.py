"""Means over a traced number of rows."""

import jax.numpy as jnp
import numpy as np
import pytest

from foretell.regression.prediction import CHUNK, mean_over
from tiny import quick_jit

VALUES = np.random.default_rng(0).normal(size=(2 * CHUNK + 7, 3))


@quick_jit
def mean_of(count):
    def weighted(place, weight):
        return (jnp.asarray(VALUES)[place] * weight[:, None]).sum(0) / weight.sum()

    return mean_over(weighted, count)


@pytest.mark.parametrize("count", [1, 5, CHUNK - 1, CHUNK, CHUNK + 1, len(VALUES)])
def test_every_place_counts_once(count):
    np.testing.assert_allclose(mean_of(jnp.int32(count)), VALUES[:count].mean(0), atol=1e-6)


def test_without_places_there_is_no_mean():
    assert np.isnan(mean_of(jnp.int32(0))).all()
