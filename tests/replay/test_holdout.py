"""Transitions kept out of training: the same ones from when they are added until they are overwritten."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.replay import Transitions, add, held_out, held_out_first, holdout, init_replay, training_slots
from tiny import quick_jit

CAPACITY, SHARE = 50, 0.3
slots = np.arange(CAPACITY)
held = quick_jit(held_out, 2)
first = quick_jit(held_out_first, 1)
drawn = quick_jit(training_slots, 2, 3)
append = quick_jit(add)


def rows(start, count):
    """Transitions whose reward is how many were added before."""
    number = jnp.arange(start, start + count, dtype=jnp.float32)
    zero = jnp.zeros((count, 1))
    return Transitions(zero, zero, number, zero, jnp.zeros(count, bool))


def replay_of(added, capacity=CAPACITY):
    """A replay after so many transitions, without adding them one by one."""
    slot = np.arange(capacity)
    number = np.where(slot < added, added - 1 - (added - 1 - slot) % capacity, 0)
    empty = init_replay(capacity, 1, 1)
    data = empty.data._replace(reward=jnp.asarray(number, jnp.float32))
    return empty._replace(data=data, added=jnp.int32(added))


def held_numbers(replay):
    size = int(replay.size)
    mask = np.asarray(held(replay, slots, SHARE))[:size]
    return dict(zip(np.asarray(replay.data.reward[:size]).astype(int), mask, strict=True))


@pytest.mark.long
def test_a_transition_is_held_out_or_not_from_the_first_to_the_last():
    replay, known, added = init_replay(CAPACITY, 1, 1), {}, 0
    for count in (7, 20, 30, 41, 3, 50):
        replay, added = append(replay, rows(added, count)), added + count
        now = held_numbers(replay)
        assert set(now) == set(range(max(added - CAPACITY, 0), added))
        assert all(known.setdefault(number, mask) == mask for number, mask in now.items())
    assert len(known) == 151


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(0, 10**9), st.sampled_from([0.1, 0.3, 0.9]))
@pytest.mark.long
def test_about_the_asked_share_is_held_out_wherever_one_looks(start, share):
    replay = replay_of(start + 2000, 2000)
    found = np.asarray(held_out(replay, jnp.arange(2000), share)).mean()
    assert abs(found - share) < 4.5 * np.sqrt(share * (1 - share) / 2000)


@pytest.mark.long
def test_none_is_held_out_where_the_share_is_zero():
    assert not held_out(replay_of(120), jnp.arange(CAPACITY), 0.0).any()


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(1, 200))
@pytest.mark.long
def test_held_out_transitions_come_first_and_empty_slots_last(added):
    replay = replay_of(added)
    order, count = map(np.asarray, first(replay, SHARE))
    size, mask = min(added, CAPACITY), np.asarray(held(replay, slots, SHARE))
    assert sorted(order) == list(range(CAPACITY))
    assert set(order[:size]) == set(range(size))
    assert count == min(mask[:size].sum(), size - 1)
    assert mask[order[:count]].all()
    assert not mask[order[count:size]].any() or count == size - 1


@pytest.mark.long
def test_the_order_is_the_same_however_many_slots_are_sorted(monkeypatch):
    monkeypatch.setattr(holdout, "_FEW", 3)
    assert holdout._counts(CAPACITY) == [1, 4, 13, 50]
    in_parts = quick_jit(lambda *given: held_out_first(*given), 1)
    for added in (1, 2, 4, 5, 13, 14, 50, 120):
        replay = replay_of(added)
        for found, expected in zip(in_parts(replay, SHARE), first(replay, SHARE), strict=True):
            used = ... if found.ndim == 0 else slice(min(added, CAPACITY))  # which empty slot comes first is no matter
            np.testing.assert_array_equal(found[used], expected[used])


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(20, 200), st.integers(0, 2**31 - 1))
@pytest.mark.long
def test_slots_to_train_on_are_written_and_never_held_out(added, seed):
    replay = replay_of(added)
    slot, use = map(np.asarray, drawn(replay, jax.random.key(seed), (3, 40), SHARE))
    assert use.all() and slot.shape == (3, 40)
    assert slot.min() >= 0 and slot.max() < min(added, CAPACITY)
    assert not np.asarray(held(replay, slot, SHARE)).any()


@pytest.mark.long
def test_all_slots_to_train_on_are_drawn_equally_often():
    replay = replay_of(120)
    slot, _ = drawn(replay, jax.random.key(0), (50, 400), SHARE)
    free = np.flatnonzero(~np.asarray(held(replay, slots, SHARE)))
    counts = np.bincount(np.asarray(slot).ravel(), minlength=CAPACITY)[free]
    assert np.abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())


@pytest.mark.parametrize("share", [0.5, 0.999])
@pytest.mark.long
def test_draws_end_even_if_all_transitions_are_held_out(share):
    """What is held out is then marked, so that nothing learns from it."""
    single = (replay_of(added, 1) for added in range(1, 40))
    replay = next(replay for replay in single if held_out(replay, jnp.arange(1), share).all())
    _, use = training_slots(replay, jax.random.key(0), (4,), share)
    assert not use.any()
