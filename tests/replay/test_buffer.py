"""The ring buffer, against a Python list."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.replay import Transitions, add, init_replay, newest, single_steps

CAPACITY, CHUNK = 7, 5
compiled_add = jax.jit(add)
compiled_newest = jax.jit(newest, static_argnums=1)


def transitions(ids):
    """Rows whose every number tells the id and the field; id 0 looks like a slot never written."""
    ids = np.asarray(ids, np.float32)
    return Transitions(
        obs=jnp.stack([ids, 10 * ids], -1),
        action=20 * ids[:, None],
        reward=jnp.array(30 * ids),
        next_obs=jnp.stack([40 * ids, 50 * ids], -1),
        terminated=jnp.array(ids % 2 == 1),
        time=jnp.array(60 * ids, jnp.int32),
        environment=jnp.array(70 * ids, jnp.int32),
        over=jnp.array(ids % 3 == 1),
    )


def filled(*chunks, capacity=CAPACITY):
    replay = init_replay(capacity, 2, 1)
    for ids in chunks:
        replay = add(replay, transitions(ids), jnp.array(len(ids)))
    return replay


def assert_same(found, expected):
    for name in Transitions._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(st.integers(0, CHUNK), max_size=8))
def test_holds_the_newest_rows_as_a_list_would(counts):
    replay, model = init_replay(CAPACITY, 2, 1), []
    for count in counts:
        ids = len(model) + 1 + np.arange(CHUNK)
        replay = compiled_add(replay, transitions(ids), jnp.array(count))
        model += list(ids[:count])
    kept = model[-CAPACITY:]
    assert (int(replay.added), int(replay.size)) == (len(model), len(kept))
    assert_same(compiled_newest(replay, CAPACITY), transitions(kept[::-1] + [0] * (CAPACITY - len(kept))))
    assert sorted(np.asarray(replay.data.obs[:, 0])[replay.valid]) == kept


def test_the_next_slot_is_the_number_added_modulo_capacity():
    replay = filled([1, 2], [3, 4], capacity=3)
    np.testing.assert_array_equal(replay.data.obs[:, 0], [4, 2, 3])


def test_newest_may_ask_for_fewer_rows_than_there_are():
    assert_same(newest(filled([1, 2, 3, 4]), 2), transitions([4, 3]))


def test_single_steps_are_episodes_of_their_own():
    rows = transitions([1, 2, 3])
    found = single_steps(*map(jnp.asarray, rows[:5]))
    zeros = np.zeros(3, np.int32)
    assert_same(found, rows._replace(time=zeros, environment=zeros, over=np.ones(3, bool)))
    assert found.time.dtype == jnp.int32


def test_a_fresh_replay_is_empty():
    replay = init_replay(CAPACITY, 2, 1)
    assert replay.capacity == CAPACITY
    assert replay.size == 0
    assert not replay.valid.any()


def test_more_rows_than_the_capacity_are_refused():
    with pytest.raises(ValueError, match="4 rows do not fit into a replay of capacity 3"):
        filled([1, 2, 3, 4], capacity=3)


def test_growing_data_never_trace_again():
    traces = []

    @jax.jit
    def grow(replay, count):
        traces.append(count)
        replay = add(replay, transitions(np.arange(CHUNK)), count)
        return replay, newest(replay, 3), replay.valid

    replay = init_replay(CAPACITY, 2, 1)
    for count in (2, 5, 0, 3):
        replay = grow(replay, jnp.array(count))[0]
    assert len(traces) == 1
