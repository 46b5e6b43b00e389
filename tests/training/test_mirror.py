"""The copy of the replay from which checkpoints are written is the replay, to the last bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.replay import Transitions, add, init_replay
from foretell.training import mirror
from foretell.training.mirror import Mirror, blocks
from tiny import quick_jit

CAPACITY = 11


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(mirror, "BLOCK", 4)


@given(st.integers(0, 100), st.integers(0, 60), st.integers(1, 25))
def test_blocks_lie_within_the_buffer_and_hold_everything_that_was_added(before, new, capacity):
    starts, size = blocks(before, before + new, capacity), min(mirror.BLOCK, capacity)
    assert all(0 <= start <= capacity - size for start in starts)
    written = {number % capacity for number in range(before, before + new)}
    assert written <= {start + i for start in starts for i in range(size)}
    assert len(starts) <= len(written) / size + 2, "and hardly more"


@quick_jit
def added(replay, count, value):
    """With so many more rows, which begin with this value."""
    ramp = value + jnp.arange(1.0 * CAPACITY)
    pairs = ramp[:, None] + jnp.arange(2)
    rows = Transitions(pairs, -ramp[:, None], 2 * ramp, pairs + 1, ramp % 3 == 0)
    return add(replay, rows, jnp.arange(CAPACITY) < count)


def assert_equal(copy, replay):
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(copy))
    jax.tree.map(np.testing.assert_array_equal, copy, replay)
    assert [leaf.dtype for leaf in jax.tree.leaves(copy)] == [leaf.dtype for leaf in jax.tree.leaves(replay)]


@pytest.mark.parametrize("early", [0, 3], ids="after {} additions".format)
def test_it_follows_a_replay_from_any_moment_also_over_its_end(early):
    replay = init_replay(CAPACITY, 2, 1)
    copy = None
    for number, count in enumerate([3, 4, 3, 1, 7, 11, 2]):  # the last of the fourth is that of the buffer
        copy = Mirror(replay) if number == early else copy
        replay = added(replay, count, 100.0 * number)
        if copy is not None and number != 5:  # more is added between two copies than there is room for
            assert_equal(copy.follow(replay), replay)


def test_what_it_returned_is_left_alone_until_it_is_asked_again():
    replay = added(init_replay(CAPACITY, 2, 1), 5, 1.0)
    found = (copy := Mirror(replay)).follow(replay)
    before = jax.tree.map(np.copy, found)
    more = added(replay, 9, 50.0)
    assert_equal(found, before)
    assert_equal(copy.follow(more), more)
