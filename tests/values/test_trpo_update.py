"""What TRPO makes of a batch: the step it takes or does not take, and the baseline for the next one."""

from functools import cache, partial

import jax
import numpy as np
import pytest

from foretell.values.baseline import fitted, regressors
from foretell.values.gaussian import GaussianPolicy
from foretell.values.trpo import Batch, TRPOUpdate
from tiny import by_hand, on_host

TIMES, ENVIRONMENTS, FEATURES, ACTION = 25, 4, 3, 2
POLICY = GaussianPolicy(hidden=(8,))
OLD = on_host(lambda: POLICY.init(jax.random.key(0), FEATURES, ACTION))()
log_prob, kl, entropy, sample = map(on_host, (POLICY.log_prob, POLICY.kl, POLICY.entropy, POLICY.sample))
regressed = on_host(lambda features, time: regressors(features, time).reshape(TIMES * ENVIRONMENTS, -1))
fit = on_host(fitted, 2)


@cache
def steps():
    """Episodes of one step; an action earns the less the farther it is from what the features say."""
    features = np.float32(np.random.default_rng(1).normal(size=(TIMES, ENVIRONMENTS, FEATURES)))
    action = sample(OLD, features, jax.random.key(1))
    ends = np.ones((TIMES, ENVIRONMENTS), bool)
    reward = -np.square(action - features[..., :ACTION]).sum(-1)
    return Batch(features, action, reward, features, ends, ends, np.zeros((TIMES, ENVIRONMENTS), np.int32))


def batch(**changed):
    return steps()._replace(**changed)


@cache
def compiled(optimizer, policy=POLICY):
    return on_host(partial(optimizer.update, policy))


def updated(batch, *, times=1, policy=POLICY, **settings):
    """The state after so many updates on the same batch, and the last metrics."""
    optimizer = TRPOUpdate(**settings)
    state = jax.device_get(optimizer.init(OLD, FEATURES))
    for _ in range(times):
        state, metrics = compiled(optimizer, policy)(state, batch)
    return state, {name: float(value) for name, value in metrics.items()}


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.long
@pytest.mark.parametrize("bound", [0.05, *by_hand(0.001, 0.5)])
def test_the_step_raises_the_surrogate_within_the_bound(bound):
    data = batch()
    state, metrics = updated(data, max_kl=bound)
    new, old = (log_prob(policy, data.features, data.action) for policy in (state.policy, OLD))
    advantage = (data.reward - data.reward.mean()) / data.reward.std()
    gain, divergence = (np.exp(new - old) * advantage).mean(), kl(OLD, state.policy, data.features).mean()
    assert metrics["accepted"] == 1 and metrics["gradient_steps"] == 1 and metrics["skipped_steps"] == 0
    assert metrics["surrogate_gain"] == pytest.approx(gain, rel=1e-3) and gain > 0
    assert metrics["kl"] == pytest.approx(divergence, rel=1e-3) and 0.2 * bound < divergence <= bound
    assert metrics["entropy"] == pytest.approx(float(entropy(state.policy)), rel=1e-4)
    assert metrics["std"] == pytest.approx(np.exp(state.policy.log_std).mean(), rel=1e-4)


@pytest.mark.long
def test_a_fixed_standard_deviation_stays():
    state, metrics = updated(batch(), policy=GaussianPolicy(hidden=(8,), learn_std=False))
    assert metrics["accepted"] == 1
    assert same(state.policy.log_std, OLD.log_std) and not same(state.policy.network, OLD.network)
    assert not same(updated(batch())[0].policy.log_std, OLD.log_std)


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.long
def test_equal_advantages_are_no_reason_to_move_once_they_are_standardised(standardise):
    state, metrics = updated(batch(reward=np.ones((TIMES, ENVIRONMENTS), np.float32)), standardise=standardise)
    assert metrics["skipped_steps"] == 0
    assert (metrics["accepted"] == 0) == same(state.policy, OLD) == standardise


WIDE = {"max_kl": 1e3, "backtracks": 1}


@pytest.mark.long
@pytest.mark.parametrize("accept_first", [True, False])
def test_where_no_step_is_good_enough_only_the_first_iteration_may_be_set_to_take_one(accept_first):
    """A bound so wide that the only length tried is far too long."""
    first, metrics = updated(batch(), **WIDE, accept_first=accept_first)
    assert (metrics["accepted"] == 1) == (not same(first.policy, OLD)) == accept_first
    assert metrics["kl"] == 0 if not accept_first else metrics["surrogate_gain"] <= 0 or metrics["kl"] > 1e3
    second, metrics = updated(batch(), times=2, **WIDE, accept_first=accept_first)
    assert same(second.policy, first.policy) and metrics["accepted"] == metrics["kl"] == metrics["backtracks"] == 0
    assert second.iterations == 2


@pytest.mark.parametrize("accept_first", [True, False])
@pytest.mark.long
def test_a_step_that_is_not_finite_is_never_taken_and_counted(accept_first):
    """Whatever the bound."""
    bad = batch(reward=np.full((TIMES, ENVIRONMENTS), np.nan, np.float32))
    state, metrics = updated(bad, **WIDE, accept_first=accept_first)
    assert same(state.policy, OLD) and not state.baseline.any()
    assert metrics.pop("skipped_steps") == metrics.pop("gradient_steps") == 1
    assert not any(metrics.values())


@pytest.mark.long
def test_the_first_baseline_is_zero_and_later_ones_are_fitted_to_the_batch_before():
    """The returns of episodes of one step are their rewards."""
    data = batch()
    state, metrics = updated(data)
    x = regressed(data.features, data.time)
    assert metrics["explained_variance"] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(x @ state.baseline, x @ fit(x, data.reward.ravel(), 1e-5), rtol=1e-3, atol=1e-3)
    explained = float(1 - np.var(data.reward.ravel() - x @ state.baseline) / np.var(data.reward))
    assert updated(data, times=2)[1]["explained_variance"] == pytest.approx(explained, abs=1e-3)
    assert explained > 0.1


@pytest.mark.long
def test_what_follows_a_step_has_the_value_of_the_next_time():
    """Next observations are valued by the baseline one step later, so that a cut is not a loss."""
    data = batch(terminated=np.zeros((TIMES, ENVIRONMENTS), bool), time=np.full((TIMES, ENVIRONMENTS), 99, np.int32))
    optimizer = TRPOUpdate(discount=0.5)
    known = jax.device_get(optimizer.init(OLD, FEATURES))
    known = known._replace(
        baseline=np.float32(8 * (np.arange(len(known.baseline)) == 2 * FEATURES))
    )  # 8 every 100 steps
    later = compiled(optimizer)(known, data)[0]
    x = regressed(data.features, data.time)
    expected = x @ fit(x, data.reward.ravel() + np.float32(0.5 * 8.0), 1e-5)
    np.testing.assert_allclose(x @ later.baseline, expected, rtol=1e-2, atol=1e-2)
