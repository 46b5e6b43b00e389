"""What an update changes and when, against Adam by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from actor_critics import (
    KEY,
    KINDS,
    SMALL,
    assert_close,
    batch,
    quick_jit,
    same,
    trained_state,
)

from foretell.values.learners import DDPG, SAC, TD3, Actor


def manual_updates(learner, state, data, keys):
    """Adam by hand: both gradients at the old parameters."""
    policy_adam, critic_adam = optax.adam(learner.policy_learning_rate), optax.adam(learner.critic_learning_rate)
    actor, critics = Actor(state.policy, state.log_alpha), state.critics
    moments = policy_adam.init(actor), critic_adam.init(critics)
    for key in keys:
        critic_key, policy_key = jax.random.split(key)
        slope = jax.grad(learner.policy_loss, has_aux=True)(actor, critics, data[0][0, 0], policy_key)[0]
        critic_slope = jax.grad(learner.critic_loss, has_aux=True)(critics, critic_key, *data)[0]
        step, policy_moments = policy_adam.update(slope, moments[0])
        critic_step, critic_moments = critic_adam.update(critic_slope, moments[1])
        actor, critics = optax.apply_updates(actor, step), optax.apply_updates(critics, critic_step)
        moments = policy_moments, critic_moments
    return actor, critics


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("assignment", ["balanced", "independent"])
def test_policy_and_critics_step_together_from_the_old_parameters(kind, assignment):
    learner = kind(**SMALL, assignment=assignment, policy_delay=1, policy_learning_rate=0.01, critic_learning_rate=0.03)
    state, data, keys = trained_state(learner), batch(), list(jax.random.split(KEY, 3))
    (policy, log_alpha), critics = quick_jit(lambda: manual_updates(learner, state, data, keys))()
    update = quick_jit(learner.update)
    for key in keys:
        state, metrics = update(state, key, *data)
    assert_close((state.policy, state.critics, state.log_alpha), (policy, critics, log_alpha), atol=1e-5)
    assert state.updates == 3 and metrics["value_skipped"] == 0


def test_metrics():
    common = {"policy_loss", "critic_loss", "mean_q", "value_skipped"}
    for kind, own in ((DDPG, {"policy_regularizer"}), (TD3, set()), (SAC, {"alpha", "entropy"})):
        learner = kind(**SMALL)
        _, metrics = jax.eval_shape(learner.update, trained_state(learner), KEY, *batch())
        assert metrics.keys() == common | own
        assert all(m.shape == () and m.dtype == jnp.float32 for m in metrics.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_learns_at_real_features_alone(kind):
    learner = kind(**SMALL, policy_delay=1)
    state, (features, action, target, weight) = trained_state(learner), batch()
    update = quick_jit(learner.update)
    before, _ = update(state, KEY, features, action, target, weight)
    imagined, _ = update(state, KEY, features.at[1].add(1.0), action, target + 1.0, weight)
    assert same(before.policy, imagined.policy) and not same(before.critics, imagined.critics)
    real, _ = update(state, KEY, features.at[0].add(1.0), action, target, weight)
    assert not same(before.policy, real.policy)


def history(learner, updates, state=None):
    """The states after 0, 1, ... updates."""
    update, data = quick_jit(learner.update), batch()
    states = [trained_state(learner) if state is None else state]
    for key in jax.random.split(KEY, updates):
        states.append(update(states[-1], key, *data)[0])
    return states


@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_targets_are_copied_before_every_so_many_updates(kind):
    states = history(kind(**SMALL, target_every=3, target_tau=None), 8)
    copied = [same(s.target_critics, s.critics) for s in states]
    assert [u for u, c in enumerate(copied) if c] == [2, 5, 8]  # where u + 1 is a multiple of 3
    for before, after, c in zip(states, states[1:], copied[1:], strict=False):
        assert c or same(before.target_critics, after.target_critics)
        if kind is TD3:
            assert same(after.target_policy, after.policy if c else before.target_policy)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_move_a_share_of_the_way_to_what_they_follow(kind):
    before, after = history(kind(**SMALL, target_tau=0.2, policy_delay=1), 1)
    assert_close(
        after.target_critics, jax.tree.map(lambda a, b: 0.8 * a + 0.2 * b, before.target_critics, after.critics)
    )
    if kind is TD3:
        assert_close(
            after.target_policy, jax.tree.map(lambda a, b: 0.8 * a + 0.2 * b, before.target_policy, after.policy)
        )


def test_td3_delays_policy_and_targets():
    states = history(TD3(**SMALL, policy_delay=3), 6)
    changes = {
        name: [not same(getattr(a, name), getattr(b, name)) for a, b in itertools.pairwise(states)]
        for name in ("critics", "policy", "policy_opt", "target_critics", "target_policy")
    }
    assert changes.pop("critics") == [True] * 6
    assert all(changed == [False, False, True] * 2 for changed in changes.values())


def test_td3_is_delayed_by_two_and_the_others_are_not():
    assert [kind().policy_delay for kind in KINDS] == [1, 2, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_that_is_not_finite_is_skipped_and_counted(kind):
    learner = kind(**SMALL, policy_delay=1)
    state, (features, action, target, weight) = trained_state(learner), batch()
    update = quick_jit(learner.update)
    for bad in (np.nan, np.inf, 1e30):  # the square of the last one's gradient is not finite
        after, metrics = update(state, KEY, features, action, target.at[0, 1].set(bad), weight)
        assert metrics.pop("value_skipped") == 1 and not any(metrics.values())
        for name in ("policy", "critics", "log_alpha", "policy_opt", "critic_opt"):
            assert same(getattr(after, name), getattr(state, name))
        assert after.updates == 1
    after, metrics = update(state, KEY, features.at[0, 0, 0, 0].set(np.nan), action, target, weight)
    assert metrics["value_skipped"] == 1 and same(after.policy, state.policy)
