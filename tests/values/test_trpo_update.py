"""What TRPO makes of a batch: the step it takes or does not take, and the baseline for the next one."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.values.advantages import standardised
from foretell.values.baseline import fitted, regressors
from foretell.values.gaussian import GaussianPolicy
from foretell.values.trpo import Batch, TRPOUpdate
from tiny import quick_jit

TIMES, ENVIRONMENTS, FEATURES, ACTION = 25, 4, 3, 2
POLICY = GaussianPolicy(hidden=(8,))
OLD = POLICY.init(jax.random.key(0), FEATURES, ACTION)


def batch(**changed):
    """Episodes of one step; an action earns the less the farther it is from what the features say."""
    feature_key, action_key = jax.random.split(jax.random.key(1))
    features = jax.random.normal(feature_key, (TIMES, ENVIRONMENTS, FEATURES))
    action = POLICY.sample(OLD, features, action_key)
    ends = jnp.ones((TIMES, ENVIRONMENTS), bool)
    reward = -jnp.square(action - features[..., :ACTION]).sum(-1)
    data = Batch(features, action, reward, features, ends, ends, jnp.zeros((TIMES, ENVIRONMENTS), jnp.int32))
    return data._replace(**changed)


@lru_cache
def compiled(optimizer, policy=POLICY):
    return quick_jit(partial(optimizer.update, policy))


def updated(batch, *, times=1, policy=POLICY, **settings):
    """The state after so many updates on the same batch, and the last metrics."""
    optimizer = TRPOUpdate(**settings)
    state = optimizer.init(OLD, FEATURES)
    for _ in range(times):
        state, metrics = compiled(optimizer, policy)(state, batch)
    return state, {name: float(value) for name, value in metrics.items()}


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("bound", [0.001, 0.05, 0.5])
def test_the_step_raises_the_surrogate_within_the_bound(bound):
    data = batch()
    state, metrics = updated(data, max_kl=bound)
    ratio = np.exp(
        POLICY.log_prob(state.policy, data.features, data.action) - POLICY.log_prob(OLD, data.features, data.action)
    )
    gain = float((ratio * standardised(data.reward)).mean())
    kl = float(POLICY.kl(OLD, state.policy, data.features).mean())
    assert metrics["accepted"] == 1 and metrics["gradient_steps"] == 1 and metrics["skipped_steps"] == 0
    assert metrics["surrogate_gain"] == pytest.approx(gain, rel=1e-3) and gain > 0
    assert metrics["kl"] == pytest.approx(kl, rel=1e-3) and 0.2 * bound < kl <= bound
    assert metrics["entropy"] == pytest.approx(float(POLICY.entropy(state.policy)), rel=1e-4)
    assert metrics["std"] == pytest.approx(float(jnp.exp(state.policy.log_std).mean()), rel=1e-4)


def test_a_fixed_deviation_stays():
    state, metrics = updated(batch(), policy=GaussianPolicy(hidden=(8,), learn_std=False))
    assert metrics["accepted"] == 1
    assert same(state.policy.log_std, OLD.log_std) and not same(state.policy.network, OLD.network)
    assert not same(updated(batch())[0].policy.log_std, OLD.log_std)


@pytest.mark.parametrize("standardise", [True, False])
def test_equal_advantages_are_no_reason_to_move_once_they_are_standardised(standardise):
    state, metrics = updated(batch(reward=jnp.ones((TIMES, ENVIRONMENTS))), standardise=standardise)
    assert metrics["skipped_steps"] == 0
    assert (metrics["accepted"] == 0) == same(state.policy, OLD) == standardise


@pytest.mark.parametrize("accept_first", [True, False])
def test_where_no_step_is_good_enough_only_the_first_iteration_may_be_told_to_take_one(accept_first):
    """A bound so wide that the only length tried is far too long."""
    wide = {"max_kl": 1e3, "backtracks": 1, "accept_first": accept_first}
    first, metrics = updated(batch(), **wide)
    assert (metrics["accepted"] == 1) == (not same(first.policy, OLD)) == accept_first
    assert metrics["kl"] == 0 if not accept_first else metrics["surrogate_gain"] <= 0 or metrics["kl"] > 1e3
    second, metrics = updated(batch(), times=2, **wide)
    assert same(second.policy, first.policy) and metrics["accepted"] == metrics["kl"] == metrics["backtracks"] == 0
    assert second.iterations == 2


@pytest.mark.parametrize("accept_first", [True, False])
def test_a_step_that_is_not_finite_is_never_taken_and_counted(accept_first):
    state, metrics = updated(batch(reward=jnp.full((TIMES, ENVIRONMENTS), jnp.nan)), accept_first=accept_first)
    assert same(state.policy, OLD) and not state.baseline.any()
    assert metrics.pop("skipped_steps") == metrics.pop("gradient_steps") == 1
    assert not any(metrics.values())


def test_the_first_baseline_is_zero_and_later_ones_are_fitted_to_the_batch_before():
    """The returns of episodes of one step are their rewards."""
    data = batch()
    state, metrics = updated(data)
    x = regressors(data.features, data.time).reshape(TIMES * ENVIRONMENTS, -1)
    assert metrics["explained_variance"] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(x @ state.baseline, x @ fitted(x, data.reward.ravel(), 1e-5), rtol=1e-3, atol=1e-3)
    explained = float(1 - np.var(data.reward.ravel() - x @ state.baseline) / np.var(data.reward))
    assert updated(data, times=2)[1]["explained_variance"] == pytest.approx(explained, abs=1e-3)
    assert explained > 0.1


def test_what_follows_a_step_has_the_value_of_the_next_time():
    """Next observations are valued by the baseline one step later, so that a cut is not a loss."""
    data = batch(terminated=jnp.zeros((TIMES, ENVIRONMENTS), bool), time=jnp.full((TIMES, ENVIRONMENTS), 99, jnp.int32))
    optimizer = TRPOUpdate(discount=0.5)
    known = optimizer.init(OLD, FEATURES)
    known = known._replace(baseline=known.baseline.at[2 * FEATURES].set(8.0))  # 8 for each 100 steps gone by
    later = compiled(optimizer)(known, data)[0]
    x = regressors(data.features, data.time).reshape(TIMES * ENVIRONMENTS, -1)
    expected = x @ fitted(x, data.reward.ravel() + 0.5 * 8.0, 1e-5)
    np.testing.assert_allclose(x @ later.baseline, expected, rtol=1e-2, atol=1e-2)
