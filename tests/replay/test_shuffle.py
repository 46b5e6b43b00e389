"""Bootstraps and shuffles that are computed element by element."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.replay import bootstrap, shuffle

LIMIT = 1024
compiled_shuffle = jax.jit(shuffle)
compiled_bootstrap = jax.jit(jax.vmap(bootstrap, (0, None, None)))


def images(seed, length):
    """Where `0..length-1` go; one compiled program serves all lengths."""
    position = jnp.arange(LIMIT) % length
    return np.asarray(compiled_shuffle(jax.random.key(seed), position, jnp.array(length)))[:length]


@pytest.mark.parametrize("length", [*range(1, 35), 63, 64, 65, LIMIT - 1, LIMIT])
def test_is_a_permutation(length):
    assert sorted(images(0, length)) == list(range(length))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, LIMIT))
def test_is_a_permutation_for_every_key_and_length(seed, length):
    assert sorted(images(seed, length)) == list(range(length))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 2**30), st.data())
def test_long_lengths_stay_in_range_and_never_collide(seed, length, data):
    start = data.draw(st.integers(0, length - 1))
    count = min(LIMIT, length - start)
    position = jnp.array(start + np.arange(LIMIT) % count, jnp.int32)
    found = np.asarray(compiled_shuffle(jax.random.key(seed), position, jnp.array(length)))[:count]
    assert 0 <= found.min() <= found.max() < length
    assert len(set(found)) == count


def test_an_image_depends_on_its_own_position_alone():
    whole = images(3, 100)
    few = compiled_shuffle(jax.random.key(3), jnp.array([99, 41]), jnp.array(100))
    np.testing.assert_array_equal(few, whole[[99, 41]])


def test_keys_decide_the_order():
    assert (images(0, 100) == images(0, 100)).all()
    assert (images(0, 100) == images(1, 100)).mean() < 0.2


@pytest.mark.parametrize("length", [5, 12])
def test_every_image_is_about_equally_likely(length):
    keys = jax.random.split(jax.random.key(0), 4000)
    position = jnp.arange(length)
    found = np.asarray(jax.jit(jax.vmap(lambda k: shuffle(k, position, jnp.array(length))))(keys))
    for i in range(length):
        np.testing.assert_allclose(np.bincount(found[:, i], minlength=length) / 4000, 1 / length, rtol=0.25)


def test_neighbours_are_not_kept_together():
    gaps = np.concatenate([np.diff(images(seed, 1000)) % 1000 for seed in range(20)])
    assert np.bincount(gaps).max() < 0.3 * len(gaps)


def test_every_order_of_few_rows_occurs():
    keys = jax.random.split(jax.random.key(1), 2000)
    found = jax.jit(jax.vmap(lambda k: shuffle(k, jnp.arange(3), jnp.array(3))))(keys)
    assert set(map(tuple, np.asarray(found).tolist())) == set(itertools.permutations(range(3)))


def samples(seed, size, count):
    """The first entries of three members' bootstrap samples."""
    keys = jax.random.split(jax.random.key(seed), 3)
    return np.asarray(compiled_bootstrap(keys, jnp.arange(count), jnp.array(size)))


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 300))
def test_bootstrap_draws_from_the_valid_rows(seed, size):
    draws = samples(seed, size, 300)
    assert draws.shape == (3, 300)
    assert 0 <= draws.min() <= draws.max() < size


def test_bootstrap_draws_uniformly_with_replacement():
    draws = samples(0, 1000, 1000)
    for row in draws:
        assert len(set(row)) / 1000 == pytest.approx(1 - np.exp(-1), abs=0.04)  # a draw without would give 1
    assert draws.mean() == pytest.approx(499.5, rel=0.03)
    assert draws.std() == pytest.approx(1000 / np.sqrt(12), rel=0.03)


def test_each_member_has_its_own_bootstrap():
    for first, second in itertools.combinations(samples(0, 1000, 1000), 2):
        assert (first == second).mean() < 0.02


def test_entries_of_a_bootstrap_are_drawn_as_jax_draws_arrays():
    for key, row in zip(jax.random.split(jax.random.key(5), 3), samples(5, 77, 300), strict=True):
        np.testing.assert_array_equal(row, jax.random.bits(key, (300,)) % 77)


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_bootstrap_takes_keys_of_other_generators(kind):
    first, second = (bootstrap(jax.random.key(seed, impl=kind), jnp.arange(300), jnp.array(77)) for seed in (0, 1))
    assert len(set(np.asarray(first).tolist())) > 60 and (first != second).any()
