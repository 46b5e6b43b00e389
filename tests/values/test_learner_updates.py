"""What an update changes and when, against Adam by hand."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from actor_critics import KEY, KINDS, SMALL, SOURCES, assert_close, batch, same, trained_state

from foretell.values.learners import DDPG, SAC, TD3, Actor
from tiny import on_host

PROMPT = {"policy_delay": 1, "target_tau": 0.2, "policy_learning_rate": 0.01, "critic_learning_rate": 0.03}


@cache
def updating(learner):
    return on_host(learner.update)


def history(learner, updates):
    """The states after 0, 1, ... updates on the same batch, and the metrics of the last."""
    states, metrics = [trained_state(learner)], {}
    for key in jax.random.split(KEY, updates):
        state, metrics = updating(learner)(states[-1], key, *batch())
        states.append(state)
    return states, metrics


def adam_by_hand(learner, state, updates):
    """The actor and the critics, both of whose gradients are taken at the old parameters."""
    actor, critics = Actor(state.policy, state.log_alpha), state.critics
    adams = optax.adam(learner.policy_learning_rate), optax.adam(learner.critic_learning_rate)

    @on_host
    def step(actor, critics, moments, key, data):
        keys = jax.random.split(key)
        slopes = (
            jax.grad(learner.policy_loss, has_aux=True)(actor, state._replace(critics=critics), data[0][0, 0], keys[1])[
                0
            ],
            jax.grad(learner.critic_loss, has_aux=True)(critics, keys[0], *data)[0],
        )
        steps = [adam.update(slope, m) for adam, slope, m in zip(adams, slopes, moments, strict=True)]
        actor, critics = optax.apply_updates(actor, steps[0][0]), optax.apply_updates(critics, steps[1][0])
        return actor, critics, (steps[0][1], steps[1][1])

    moments = state.policy_opt, state.critic_opt
    for key in jax.random.split(KEY, updates):
        actor, critics, moments = step(actor, critics, moments, key, batch())
    return actor, critics


@pytest.mark.long
@pytest.mark.parametrize(
    "learner",
    [*(kind(**SMALL, **PROMPT) for kind in KINDS), SAC(**SMALL, **PROMPT, assignment="independent")],
    ids=["ddpg", "td3", "sac", "sac-independent"],
)
def test_policy_and_critics_step_together_from_the_old_parameters(learner):
    states, metrics = history(learner, 3)
    actor, critics = adam_by_hand(learner, states[0], 3)
    assert_close((states[3].policy, states[3].log_alpha), tuple(actor), atol=1e-5)
    assert_close(states[3].critics, critics, atol=1e-5)
    assert states[3].updates == 3 and metrics["value_skipped"] == 0


@pytest.mark.long
def test_metrics():
    common = {"policy_loss", "critic_loss", "mean_q", "value_skipped"}
    for kind, own in ((DDPG, {"policy_regularizer"}), (TD3, set()), (SAC, {"alpha", "entropy"})):
        learner = kind(**SMALL)
        _, metrics = jax.eval_shape(learner.update, trained_state(learner), KEY, *batch())
        assert metrics.keys() == common | own
        assert all(m.shape == () and m.dtype == jnp.float32 for m in metrics.values())


def source(number):
    """1 for that source, 0 for the others."""
    return np.float32(np.arange(SOURCES) == number).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_the_policy_learns_at_real_features_alone(kind):
    learner = kind(**SMALL, **PROMPT)
    state, (features, action, target, weight) = trained_state(learner), batch()
    before, _ = updating(learner)(state, KEY, features, action, target, weight)
    imagined, _ = updating(learner)(state, KEY, features + source(1), action, target + 1.0, weight)
    assert same(before.policy, imagined.policy) and not same(before.critics, imagined.critics)
    real, _ = updating(learner)(state, KEY, features + source(0), action, target, weight)
    assert not same(before.policy, real.policy)


@pytest.mark.long
@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_targets_are_copied_before_every_so_many_updates(kind):
    states, _ = history(kind(**SMALL, target_every=3, target_tau=None), 8)
    copied = [same(s.target_critics, s.critics) for s in states]
    assert [u for u, c in enumerate(copied) if c] == [2, 5, 8]  # where u + 1 is a multiple of 3
    for before, after in itertools.pairwise(states):
        copy = same(after.target_critics, after.critics)
        assert copy or same(before.target_critics, after.target_critics)
        if kind is TD3:
            assert same(after.target_policy, after.policy if copy else before.target_policy)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_targets_move_a_share_of_the_way_to_what_they_follow(kind):
    (before, after), _ = history(kind(**SMALL, **PROMPT), 1)
    between = lambda old, new: jax.tree.map(lambda a, b: 0.8 * a + 0.2 * b, old, new)  # noqa: E731
    assert_close(after.target_critics, between(before.target_critics, after.critics))
    if kind is TD3:
        assert_close(after.target_policy, between(before.target_policy, after.policy))


@pytest.mark.long
def test_td3_delays_policy_and_targets():
    states, _ = history(TD3(**SMALL, policy_delay=3), 6)
    changes = {
        name: [not same(getattr(a, name), getattr(b, name)) for a, b in itertools.pairwise(states)]
        for name in ("critics", "policy", "policy_opt", "target_critics", "target_policy")
    }
    assert changes.pop("critics") == [True] * 6
    assert all(changed == [False, False, True] * 2 for changed in changes.values())


@pytest.mark.long
def test_td3_is_delayed_by_two_and_the_others_are_not():
    assert [kind().policy_delay for kind in KINDS] == [1, 2, 1]


def spoilt(array, place, *values):
    """Copies, each with one of the values in that place."""
    copies = [array.copy() for _ in values]
    for copy, value in zip(copies, values, strict=True):
        copy[place] = value
    return copies


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_an_update_that_is_not_finite_is_skipped_and_counted(kind):
    learner = kind(**SMALL, **PROMPT)
    state, (features, action, target, weight) = trained_state(learner), batch()
    targets, (broken,) = (spoilt(target, (0, 1), np.nan, np.inf, 1e30), spoilt(features, (0, 0, 0, 0), np.nan))
    bad = [*((features, y) for y in targets), (broken, target)]  # Adam squares the gradient of 1e30
    for x, y in bad:
        after, metrics = updating(learner)(state, KEY, x, action, y, weight)
        assert metrics.pop("value_skipped") == 1 and not any(metrics.values())
        for name in ("policy", "critics", "log_alpha", "policy_opt", "critic_opt"):
            assert same(getattr(after, name), getattr(state, name))
        assert after.updates == 1
