"""The losses of policies and critics against plain loops, and which critic learns what."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from actor_critics import (
    BATCH,
    CRITICS,
    KEY,
    KINDS,
    SMALL,
    SOURCES,
    batch,
    by_hand,
    fixed_policy,
    q_by_hand,
    trained_state,
)
from scipy import stats

from foretell.values.learners import DDPG, SAC, TD3, Actor
from tiny import on_host


def critic_terms(learner, networks, features, action, target, weight):
    """What each critic would add to the loss with each element of the batch."""
    terms = np.zeros((CRITICS, target.shape[1]))
    for k, b, j, s in np.ndindex(CRITICS, target.shape[1], learner.pair, target.shape[0]):
        guess = q_by_hand(networks, learner.pair * k + j, features[s, :, b], action[s, :, b]).mean()
        terms[k, b] += weight[s, b] * 0.5 * (guess - target[s, b]) ** 2 / target.size
    return terms


@pytest.mark.parametrize("kind", KINDS)
def test_balanced_critics_learn_equal_shares_of_the_batch(kind):
    learner, data = kind(**SMALL), batch()
    networks = trained_state(learner).critics
    terms = critic_terms(learner, networks, *data)
    found, mean_q = on_host(learner.critic_loss)(networks, KEY, *data)
    np.testing.assert_allclose(found, sum(terms[b * CRITICS // BATCH, b] for b in range(BATCH)), rtol=1e-4)
    real = [
        q_by_hand(networks, learner.pair * (b * CRITICS // BATCH) + j, data[0][0, 0, b], data[1][0, 0, b])
        for b, j in np.ndindex(BATCH, learner.pair)
    ]
    np.testing.assert_allclose(mean_q, np.mean(real), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_independent_critics_learn_what_is_drawn_for_them(kind):
    learner, data = kind(**SMALL, assignment="independent"), batch(size=3)
    networks = trained_state(learner).critics
    terms = critic_terms(learner, networks, *data)
    possible = {
        drawn: sum(terms[k, b] for b, k in enumerate(drawn)) for drawn in itertools.product(range(CRITICS), repeat=3)
    }
    loss, seen = on_host(learner.critic_loss), set()
    for seed in range(20):
        found, _ = loss(networks, jax.random.key(seed), *data)
        matches = [drawn for drawn, value in possible.items() if np.isclose(found, value, rtol=1e-5)]
        assert len(matches) == 1
        seen.update(enumerate(matches[0]))
    assert len(seen) == 3 * CRITICS  # every element meets every critic


@pytest.mark.parametrize("kind", [DDPG, TD3])
@pytest.mark.parametrize("assignment", ["balanced", "independent"])
def test_an_element_moves_its_own_critic_alone(kind, assignment):
    learner = kind(**SMALL, assignment=assignment)
    features, action, target, _ = batch()
    networks = trained_state(learner).critics
    gradient = on_host(jax.grad(learner.critic_loss, has_aux=True))
    for element in range(BATCH):
        weight = np.broadcast_to(np.float32(np.arange(BATCH) == element), (SOURCES, BATCH))
        grads = gradient(networks, KEY, features, action, target, weight)[0]
        moved = np.flatnonzero(grads.biases[-1].ravel())
        critic = moved[0] // learner.pair
        assert list(moved) == [critic * learner.pair + j for j in range(learner.pair)]
        others = np.delete(np.arange(CRITICS * learner.pair), moved)
        assert not any(g[others].any() for g in jax.tree.leaves(grads))
        if assignment == "balanced":
            assert critic == element * CRITICS // BATCH


@pytest.mark.long
def test_both_assignments_have_the_same_expected_gradient():
    data, networks = batch(size=3), trained_state(DDPG(**SMALL)).critics
    balanced, independent = (
        jax.grad(DDPG(**SMALL, assignment=name).critic_loss, has_aux=True) for name in ("balanced", "independent")
    )

    def of_order(networks, data, order):
        ordered = (jnp.take(a, order, axis) for a, axis in zip(data, (2, 2, 1, 1), strict=True))
        return balanced(networks, KEY, *ordered)[0]

    orders = np.array(list(itertools.permutations(range(3))))
    orders = on_host(jax.vmap(of_order, (None, None, 0)))(networks, data, orders)
    draw = jax.vmap(lambda networks, data, key: independent(networks, key, *data)[0], (None, None, 0))
    drawn = on_host(draw)(networks, data, jax.random.split(KEY, 1000))
    for a, b in zip(*map(jax.tree.leaves, (orders, drawn)), strict=True):
        assert (np.abs(a.mean(0) - b.mean(0)) < 5 * b.std(0) / np.sqrt(len(b)) + 1e-6).all()


@pytest.mark.long
def test_ddpgs_policy_raises_the_mean_value_of_all_critics_and_keeps_its_outputs_small():
    learner, x = DDPG(**SMALL, policy_regularizer=0.3), batch()[0][0, 0]
    state = trained_state(learner)
    u = by_hand(state.policy, 0, x)
    q = np.mean([q_by_hand(state.critics, k, x, np.tanh(u)) for k in range(CRITICS)])
    loss, metrics = on_host(learner.policy_loss)(Actor(state.policy, None), state, x, KEY)
    assert metrics.keys() == {"policy_loss", "policy_regularizer"}
    np.testing.assert_allclose(metrics["policy_loss"], -q, rtol=1e-4)
    np.testing.assert_allclose(metrics["policy_regularizer"], 0.3 * (u**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(loss, -q + 0.3 * (u**2).mean(), rtol=1e-4)


@pytest.mark.long
def test_td3s_policy_raises_the_first_of_each_pair():
    learner, x = TD3(**SMALL), batch()[0][0, 0]
    state = trained_state(learner)
    action = np.tanh(by_hand(state.policy, 0, x))
    q = np.mean([q_by_hand(state.critics, 2 * k, x, action) for k in range(CRITICS)])
    loss, metrics = on_host(learner.policy_loss)(Actor(state.policy, None), state, x, KEY)
    np.testing.assert_allclose([loss, metrics["policy_loss"]], -q, rtol=1e-4)


@pytest.mark.long
def test_sacs_policy_raises_the_soft_value():
    learner, x = SAC(**SMALL, target_entropy=0.25), batch()[0][0, 0]
    state = trained_state(learner)
    action, bonus = (a[0] for a in on_host(learner.propose)(state, x[None], KEY))  # the same draw
    pairs = [[q_by_hand(state.critics, 2 * k + j, x, action) for j in (0, 1)] for k in range(CRITICS)]
    alpha = np.exp(state.log_alpha)
    loss, metrics = on_host(learner.policy_loss)(Actor(state.policy, state.log_alpha), state, x, KEY)
    np.testing.assert_allclose(metrics["policy_loss"], -np.mean(bonus) - np.min(pairs, 1).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["alpha"], alpha, rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], np.mean(bonus) / alpha, rtol=1e-4)
    temperature_loss = state.log_alpha * (metrics["entropy"] - 0.25)
    np.testing.assert_allclose(loss, metrics["policy_loss"] + temperature_loss, rtol=1e-4)


@pytest.mark.parametrize(("std", "sign"), [(0.5, 1), (0.001, -1)])
@pytest.mark.long
def test_sacs_temperature_falls_where_entropy_is_above_its_target(std, sign):
    learner = SAC(**SMALL)
    assert learner.target_entropy is None  # two dimensions: -2 nats
    actor = Actor(fixed_policy(0, 0, np.log(std), np.log(std)), np.float32(0))
    slope = jax.grad(learner.policy_loss, has_aux=True)
    found, metrics = on_host(slope)(actor, trained_state(learner), batch(size=500)[0][0, 0], KEY)
    entropy = 2 * stats.norm(scale=std).entropy()  # squashing takes little of it
    assert metrics["entropy"] == pytest.approx(entropy, abs=0.6)
    np.testing.assert_allclose(found.log_alpha, metrics["entropy"] + 2, rtol=1e-4)
    assert np.sign(found.log_alpha) == sign  # a positive slope lowers it
