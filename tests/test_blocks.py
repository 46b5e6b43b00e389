"""Work on the first rows: the same as on all of them, whatever lies beyond."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell import blocks
from foretell.nn import fit_normalizer


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)


def numbers(capacity, size):
    """Random rows, then NaN."""
    rows = np.random.default_rng(0).normal(size=(capacity, 2)).astype(np.float32)
    rows[size:] = np.nan
    return rows


@pytest.mark.parametrize("capacity", [5, 8, 19, 32])
def test_rows_are_mapped_as_far_as_there_are_any(small_blocks, capacity):
    double = jax.jit(partial(blocks.map_rows, lambda pair: {"twice": 2 * pair[0], "odd": pair[1] % 2 == 1}))
    for size in (0, 1, capacity - 1, capacity):
        rows = numbers(capacity, size)
        found = double((rows, jnp.arange(capacity)), jnp.array(size))
        np.testing.assert_array_equal(found["twice"][:size], 2 * rows[:size])
        np.testing.assert_array_equal(found["odd"][:size], np.arange(size) % 2 == 1)
        if capacity > 8:
            beyond = -(-size // 8) * 8
            assert not found["twice"][beyond:].any()


@pytest.mark.parametrize("capacity", [5, 8, 19])
def test_sums_count_each_row_once(capacity):
    masked = lambda a, use: jnp.where(use[:, None], a, 0.0).sum(0)  # noqa: E731
    total = jax.jit(partial(blocks.sum_rows, masked, block=8))
    for size in (0, 1, capacity - 1, capacity):
        rows = numbers(capacity, size)
        np.testing.assert_allclose(total(rows, jnp.array(size)), rows[:size].sum(0, dtype=np.float64), atol=1e-5)


def test_statistics_do_not_depend_on_the_capacity():
    """More than one block of data: the bits of mean and standard deviation are the same."""
    rows = 3.0 + numbers(3 * blocks.BLOCK, 3 * blocks.BLOCK)
    size = blocks.BLOCK + 10
    fitted = jax.jit(partial(fit_normalizer, min_std=0.0))
    found = [fitted(rows[:capacity], np.arange(capacity) < size) for capacity in (2 * blocks.BLOCK, len(rows))]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0].mean, rows[:size].mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(found[0].std, rows[:size].std(0, dtype=np.float64), rtol=1e-6)
