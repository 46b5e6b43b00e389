"""Advantages and returns against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.values.advantages import Steps, estimate, explained_variance, standardised
from tiny import on_host

TIMES, ENVIRONMENTS = 7, 2
estimated = on_host(lambda *args: estimate(args[-1], discount=args[0], gae_lambda=args[1], bootstrap=args[2]), 0, 1, 2)
standard, explained = on_host(standardised), on_host(explained_variance)


def steps_of(seed, ends):
    """Random numbers; `ends` says of each step whether the episode goes on (0), is truncated (1) or terminates (2)."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(3, TIMES, ENVIRONMENTS)).astype(np.float32)
    ends = np.array(ends).reshape(TIMES, ENVIRONMENTS)
    return Steps(*numbers, ends == 2, ends > 0)


def by_hand(steps, discount, gae_lambda, bootstrap):
    """Path by path, as rllab has them: each is cut out, its sums are written out, and put back."""
    reward, value, next_value, terminated, over = (np.asarray(a) for a in steps)
    advantage, returns = np.zeros((2, TIMES, ENVIRONMENTS))
    for e in range(ENVIRONMENTS):
        start = 0
        while start < TIMES:
            stop = next((t for t in range(start, TIMES) if over[t, e]), TIMES - 1) + 1
            tail = next_value[stop - 1, e] if bootstrap and not terminated[stop - 1, e] else 0.0
            # Within a path the next value is the one that the next step's predecessor has stored.
            values = [*value[start:stop, e], tail]
            following = [*next_value[start : stop - 1, e], tail] if bootstrap else values[1:]
            for t in range(start, stop):
                later = range(t, stop)
                deltas = [reward[i, e] + discount * following[i - start] - value[i, e] for i in later]
                advantage[t, e] = sum(
                    (discount * gae_lambda) ** (i - t) * d for i, d in zip(later, deltas, strict=True)
                )
                returns[t, e] = sum(discount ** (i - t) * reward[i, e] for i in later) + discount ** (stop - t) * tail
            start = stop
    return advantage, returns


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.integers(0, 99),
    st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=TIMES * ENVIRONMENTS, max_size=TIMES * ENVIRONMENTS),
    st.sampled_from([(0.9, 1.0, True), (0.9, 1.0, False), (0.995, 0.5, True), (0.995, 0.5, False), (1.0, 0.0, True)]),
)
def test_they_are_what_a_plain_loop_finds(seed, ends, how):
    steps = steps_of(seed, ends)
    if not how[2]:  # rllab knows a path's values alone: what a step leads to is where the next one starts
        steps = steps._replace(next_value=np.concatenate([steps.value[1:], steps.next_value[-1:]]))
    found = estimated(*how, steps)
    for mine, expected in zip(found, by_hand(steps, *how), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4)


def test_with_a_lambda_of_one_advantages_are_returns_less_the_baseline():
    """Where the next value is the value of the next step."""
    steps = steps_of(0, [0] * 6 + [2, 0] + [0] * 6)
    steps = steps._replace(next_value=np.concatenate([steps.value[1:], steps.next_value[-1:]]))
    found = estimated(0.9, 1.0, True, steps)
    np.testing.assert_allclose(found.advantage, found.returns - steps.value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("bootstrap", "last"), [(True, 1 + 0.5 * 8), (False, 1.0)])
@pytest.mark.long
def test_what_follows_where_an_episode_or_the_batch_is_cut(bootstrap, last):
    """Rewards of 1, next values of 8: after a termination nothing follows, after a cut 8 if bootstrapped."""
    one = np.ones((3, 1), np.float32)
    terminated, over = np.array([[False], [True], [False]]), np.array([[True], [True], [False]])
    found = estimated(0.5, 1.0, bootstrap, Steps(one, 0 * one, 8 * one, terminated, over))
    np.testing.assert_allclose(found.returns[:, 0], [last, 1.0, last])


@pytest.mark.long
def test_standardised_numbers():
    x = np.float32(np.random.default_rng(0).normal(3, 5, (40, 2)))
    np.testing.assert_allclose([standard(x).mean(), standard(x).std()], [0, 1], atol=1e-5)
    np.testing.assert_array_equal(standard(np.full((40, 2), 2.0, np.float32)), np.zeros((40, 2)))


@pytest.mark.long
def test_explained_variance():
    returns = np.float32(np.random.default_rng(0).normal(size=(40, 2)))
    assert explained(returns, returns) == pytest.approx(1)
    assert explained(returns - 7, returns) == pytest.approx(1, abs=1e-5)
    assert explained(0 * returns, returns) == pytest.approx(0)
    assert explained(-returns, returns) == pytest.approx(-3, abs=1e-4)
    assert explained(returns, 0 * returns + 1) == 0
