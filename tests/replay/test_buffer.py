"""The ring buffer, against a Python list."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.replay import Transitions, add, init_replay, newest, sample

CAPACITY, CHUNK = 7, 5
compiled_add = jax.jit(add)
compiled_newest = jax.jit(newest, static_argnums=1)
compiled_sample = jax.jit(sample, static_argnums=2)


def transitions(ids):
    """Rows whose every number tells the id and the field; id 0 looks like a slot never written."""
    ids = np.asarray(ids, np.float32)
    return Transitions(
        obs=jnp.array(np.stack([ids, 10 * ids], -1)),
        action=jnp.array(20 * ids[:, None]),
        reward=jnp.array(30 * ids),
        next_obs=jnp.array(np.stack([40 * ids, 50 * ids], -1)),
        terminated=jnp.array(ids % 2 == 1),
    )


def filled(*chunks, after=None):
    replay = init_replay(CAPACITY, 2, 1) if after is None else after
    for ids in chunks:
        rows = transitions([*ids, *[99] * (CHUNK - len(ids))])
        replay = compiled_add(replay, rows, jnp.array(np.arange(CHUNK) < len(ids)))
    return replay


def assert_same(found, expected):
    for name in Transitions._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(st.lists(st.booleans(), min_size=CHUNK, max_size=CHUNK), max_size=8))
def test_holds_the_newest_rows_as_a_list_would(chunks):
    """Whichever rows of a chunk are used, the others leave no trace."""
    replay, model = init_replay(CAPACITY, 2, 1), []
    for number, use in enumerate(chunks):
        ids = 1 + CHUNK * number + np.arange(CHUNK)
        replay = compiled_add(replay, transitions(ids), jnp.array(use))
        model += list(ids[use])
    kept = model[-CAPACITY:]
    assert (int(replay.added), int(replay.size)) == (len(model), len(kept))
    assert_same(compiled_newest(replay, CAPACITY), transitions(kept[::-1] + [0] * (CAPACITY - len(kept))))
    assert sorted(np.asarray(replay.data.obs[:, 0])[replay.valid]) == kept


def test_all_rows_are_used_unless_said_otherwise():
    ids = np.arange(CHUNK) + 1
    replay = compiled_add(init_replay(CAPACITY, 2, 1), transitions(ids))
    jax.tree.map(np.testing.assert_array_equal, replay, filled(ids))
    assert replay.added == CHUNK


def test_the_next_slot_is_the_number_added_modulo_capacity():
    replay = filled([1, 2, 3, 4, 5], [6, 7, 8, 9])
    np.testing.assert_array_equal(replay.data.obs[:, 0], [8, 9, 3, 4, 5, 6, 7])


def test_what_is_new_is_counted_until_somebody_resets_it():
    replay = filled([1, 2], [], [3])
    assert (replay.new, replay.added) == (3, 3)
    replay = filled([4], after=replay._replace(new=jnp.zeros_like(replay.new)))
    assert (replay.new, replay.added) == (1, 4)


def test_newest_may_ask_for_fewer_rows_than_there_are():
    assert_same(compiled_newest(filled([1, 2, 3, 4]), 2), transitions([4, 3]))


@pytest.mark.parametrize("count", [3, 12])
@pytest.mark.long
def test_samples_are_uniform_whole_rows_of_what_is_there(count):
    """Drawn with replacement, from before the buffer is full and after it has wrapped around."""
    replay = filled(*([i, i + 1, i + 2] for i in range(1, count, 3)))
    keys = jax.random.split(jax.random.key(0), 50)
    ids = []
    for key in keys:
        rows = compiled_sample(replay, key, 40)
        ids += np.asarray(rows.obs[:, 0]).tolist()
        assert_same(rows, transitions(rows.obs[:, 0]))
    kept = range(count, max(0, count - CAPACITY), -1)
    assert set(ids) == set(kept)
    np.testing.assert_allclose([ids.count(i) / len(ids) for i in kept], 1 / len(kept), rtol=0.2)


@pytest.mark.long
def test_a_fresh_replay_is_empty():
    replay = init_replay(CAPACITY, 2, 1)
    assert replay.capacity == CAPACITY
    assert replay.size == replay.added == replay.new == 0
    assert not replay.valid.any()


@pytest.mark.long
def test_more_rows_than_the_capacity_are_refused():
    with pytest.raises(ValueError, match="4 rows do not fit into a replay of capacity 3"):
        add(init_replay(3, 2, 1), transitions([1, 2, 3, 4]))


@pytest.mark.long
def test_growing_data_never_trace_again():
    traces = []

    @jax.jit
    def grow(replay, use):
        traces.append(use)
        replay = add(replay, transitions(np.arange(CHUNK)), use)
        return replay, newest(replay, 3), replay.valid

    replay = init_replay(CAPACITY, 2, 1)
    for count in (2, 5, 0, 3):
        replay = grow(replay, jnp.arange(CHUNK) < count)[0]
    assert len(traces) == 1
