"""Estimates of values against Monte-Carlo returns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.diagnostics.returns import complete_et, distribution, expanded_et, plan_gap, returns_et

GAMMA = 0.9
LENGTH = np.array([6, 3, 1])
REWARD, VALUE = np.random.default_rng(0).normal(size=(2, 3, 6))
TAIL = np.array([10.0, 0.0, -2.0])
WITHIN = np.arange(6) < LENGTH[:, None]
tails = pytest.mark.parametrize("tail", [None, TAIL], ids=["stops", "goes on"])


@tails
@pytest.mark.parametrize("horizon", [0, 1, 2, 4, 6, 50])
def test_an_estimate_is_h_real_rewards_and_then_the_value_there(horizon, tail):
    found = expanded_et(REWARD, VALUE, LENGTH, horizon, GAMMA, tail)
    for e, length in enumerate(LENGTH):
        for t in range(length):
            end = min(t + horizon, length)
            expected = sum(GAMMA ** (s - t) * REWARD[e, s] for s in range(t, end))
            beyond = VALUE[e, end] if end < length else (0.0 if tail is None else tail[e])
            assert found[e, t] == pytest.approx(expected + GAMMA ** (end - t) * beyond)
        assert (found[e, length:] == 0).all()


@tails
def test_beyond_the_end_an_estimate_is_the_return(tail):
    truth = returns_et(REWARD, LENGTH, GAMMA, tail)
    np.testing.assert_allclose(expanded_et(REWARD, VALUE, LENGTH, 6, GAMMA, tail), truth)
    np.testing.assert_allclose(expanded_et(REWARD, VALUE, LENGTH, 9999, GAMMA, tail), truth)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 8))
def test_it_is_a_difference_of_returns_and_a_value(horizon):
    """`G_t - gamma^h G_t+h + gamma^h Q_t+h`, with zeros after the end."""
    truth = returns_et(REWARD, LENGTH, GAMMA)
    later = np.pad(np.where(WITHIN, VALUE, 0.0) - truth, ((0, 0), (0, 9)))[:, horizon : horizon + 6]
    found = expanded_et(REWARD, VALUE, LENGTH, horizon, GAMMA)
    np.testing.assert_allclose(found, np.where(WITHIN, truth + GAMMA**horizon * later, 0.0), atol=1e-12)


def test_exact_values_are_exact_at_every_horizon_if_the_truth_goes_on():
    """Of an endless reward of 1; without the rest of the return they seem too large."""
    reward, exact = np.ones((1, 20)), np.full((1, 20), 1 / (1 - GAMMA))
    length, tail = np.array([20]), np.array([1 / (1 - GAMMA)])
    truth = returns_et(reward, length, GAMMA, tail)
    for horizon in (0, 3, 20):
        np.testing.assert_allclose(expanded_et(reward, exact, length, horizon, GAMMA, tail), truth)
    cut = returns_et(reward, length, GAMMA)
    np.testing.assert_allclose((exact - cut)[0], GAMMA ** (20 - np.arange(20)) / (1 - GAMMA))


def test_steps_count_as_far_as_little_is_missing():
    """Of a truncated episode those with at least 7 steps left: 0.9^7 = 0.478, 0.9^6 = 0.531."""
    length, ended = np.array([10, 10]), np.array([False, True])
    used = complete_et(length, ended, 12, GAMMA, 0.5)
    assert used.sum(1).tolist() == [4, 10] and used[0, :4].all() and used[1, :10].all()
    assert complete_et(length, ended, 12, GAMMA, 1.0).sum(1).tolist() == [10, 10]


def test_plans_are_compared_with_what_their_horizon_brought():
    planned = np.array([[5.0, 9.0, 7.0, 9.0, 9.0, 9.0], [1.0, 9.0, 4.0, 9.0, 9.0, 9.0]])
    reward, length, ended = np.ones((2, 6)), np.array([5, 3]), np.array([False, True])
    # Plans are made at steps 0, 2 and 4. In the first episode those at 0 and 2 have their 3 steps; the other
    # episode ends for good after 3 steps: 3 are earned from step 0 on, and 1 from step 2 on.
    bias, error, scale = plan_gap(planned, reward, length, ended, 3, 2)
    differences = [5 - 3, 7 - 3, 1 - 3, 4 - 1]
    assert bias == pytest.approx(np.mean(differences)) and error == pytest.approx(np.mean(np.square(differences)))
    assert scale == pytest.approx(np.sqrt((9 + 9 + 9 + 1) / 4))


@pytest.mark.long
def test_a_distribution_is_of_the_used_steps():
    estimate, truth = np.array([1.0, 2.0, 3.0, 99.0]), np.array([0.0, 0.0, 0.0, 0.0])
    found = distribution(estimate, truth, np.array([True, True, True, False]))
    assert found["bias"] == 2.0 and found["p50"] == 2.0 and found["error"] == pytest.approx(14 / 3)
    assert np.isnan(list(distribution(estimate, truth, np.zeros(4, bool)).values())).all()
