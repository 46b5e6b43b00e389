"""The actor-critic learners: their networks, how they act, and what they propose to targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from actor_critics import (
    ACTION,
    BATCH,
    CRITICS,
    FEATURES,
    KEY,
    KINDS,
    PARTICLES,
    SMALL,
    SOURCES,
    batch,
    by_hand,
    fixed_policy,
    q_by_hand,
    same,
    trained_state,
)
from scipy import stats

from foretell import registry
from foretell.values.learners import DDPG, SAC, TD3, Learner
from foretell.values.learners.networks import policy_output
from foretell.values.learners.stochastic import squashed_log_density
from tiny import on_host


@pytest.mark.parametrize(
    ("features", "action", "policy", "q"),
    [
        pytest.param(8, 2, 34_434, 34_561, id="swimmer"),
        pytest.param(11, 3, 34_947, 35_073, id="hopper"),
        pytest.param(17, 6, 36_102, 36_225, id="half-cheetah"),
        pytest.param(24, 4, 36_740, 36_865, id="bipedal-walker"),
        pytest.param(44, 17, 40_977, 41_089, id="roboschool-humanoid"),
        pytest.param(376, 17, 83_473, 83_585, id="humanoid"),
    ],
)
def test_networks_are_as_large_as_the_released_ones(features, action, policy, q):
    count = lambda tree: sum(a.size for a in jax.tree.leaves(tree))  # noqa: E731
    for learner, networks in ((DDPG(), 1), (DDPG(critics=4), 4), (TD3(critics=4), 8)):
        state = jax.eval_shape(lambda learner=learner: learner.init(KEY, features, action))
        assert (count(state.policy), count(state.critics)) == (policy, networks * q)
        assert count(state.target_critics) == count(state.critics)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_start_as_what_they_follow(kind):
    state = on_host(lambda: kind(**SMALL).init(KEY, FEATURES, ACTION))()
    assert same(state.target_critics, state.critics)
    assert same(state.target_policy, state.policy if kind is TD3 else None)
    assert (state.log_alpha is None) == (kind is not SAC)
    assert state.updates == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_value_of_a_critic_is_the_least_of_its_pair(kind):
    learner, (features, action, *_) = kind(**SMALL), batch()
    networks, pair = trained_state(learner).critics, learner.pair
    found = on_host(learner.values)(networks, features[1], action[1])
    for k in range(CRITICS):
        members = [q_by_hand(networks, pair * k + j, features[1], action[1]) for j in range(pair)]
        np.testing.assert_allclose(found[k], np.min(members, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_actions_are_squashed_outputs(kind):
    learner, x = kind(**SMALL), batch()[0][1, 0]
    policy = trained_state(learner).policy
    found = on_host(lambda policy, x: learner.act(policy, x, KEY, explore=False))(policy, x)
    np.testing.assert_allclose(found, np.tanh(by_hand(policy, 0, x)[:, :ACTION]), rtol=1e-4, atol=1e-6)


def explored(learner, policy, rows=20_000):
    return np.float64(on_host(lambda: learner.act(policy, jnp.zeros((rows, FEATURES)), KEY, explore=True))())


def test_ddpg_adds_noise_to_some_dimensions_before_it_squashes():
    found = np.arctanh(explored(DDPG(explore_probability=0.3, explore_std=0.8), fixed_policy(0.5, -0.2))) - (0.5, -0.2)
    chosen = np.abs(found) > 1e-5
    np.testing.assert_allclose(chosen.mean(0), 0.3, atol=0.015)
    assert chosen.all(1).mean() == pytest.approx(0.09, abs=0.01)  # each dimension by itself
    np.testing.assert_allclose(found[chosen].mean(), 0, atol=0.04)
    np.testing.assert_allclose(found[chosen].std(), 0.8, rtol=0.03)


def test_ddpg_without_noise_explores_greedily():
    found = explored(DDPG(explore_probability=0), fixed_policy(0.5, -0.2), rows=10)
    np.testing.assert_allclose(found, np.tanh([[0.5, -0.2]] * 10), rtol=1e-6)


@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_noise_on_actions_is_normal_and_clipped(kind):
    off = {"explore_probability": 0} if kind is DDPG else {}
    found = explored(kind(noise_std=0.1, **off), fixed_policy(0.0, 10.0))
    np.testing.assert_allclose(found[:, 0].std(), 0.1, rtol=0.03)
    assert abs(found).max() == 1 and (found[:, 1] == 1).mean() == pytest.approx(0.5, abs=0.02)


def test_sac_explores_by_its_policy():
    found = np.arctanh(explored(SAC(), fixed_policy(0.3, -0.4, np.log(0.2), np.log(0.7))))
    np.testing.assert_allclose(found.mean(0), (0.3, -0.4), atol=0.02)
    np.testing.assert_allclose(found.std(0), (0.2, 0.7), rtol=0.03)


def proposed(learner, state, rows=5000):
    return on_host(learner.propose)(state, np.zeros((PARTICLES, rows, FEATURES), np.float32), KEY)


def test_ddpg_proposes_the_current_policys_actions():
    learner = DDPG(**SMALL)
    action, bonus = proposed(learner, trained_state(learner)._replace(policy=fixed_policy(0.5, -0.2)))
    np.testing.assert_allclose(action, np.broadcast_to(np.tanh([0.5, -0.2]), action.shape), rtol=1e-6)
    assert bonus.shape == (PARTICLES, 5000) and not bonus.any()


def test_td3_proposes_the_target_policys_actions_with_clipped_noise():
    learner = TD3(**SMALL, smoothing_std=0.3, smoothing_clip=0.4)
    action, bonus = proposed(learner, trained_state(learner)._replace(target_policy=fixed_policy(0.0, 10.0)))
    action = np.float64(action)
    assert abs(action[..., 0]).max() == pytest.approx(0.4)
    clipped = 2 * stats.norm.cdf(-0.4 / 0.3)
    assert (abs(action[..., 0]) > 0.39999).mean() == pytest.approx(clipped, abs=0.02)
    assert action[..., 1].max() == 1 and action[..., 1].min() == pytest.approx(0.6)
    assert not bonus.any()


def test_sac_proposes_draws_and_adds_their_entropy():
    learner, mean, std = SAC(**SMALL), np.array([0.3, -0.4]), np.array([0.2, 0.7])
    state = trained_state(learner)._replace(policy=fixed_policy(*mean, *np.log(std)), log_alpha=np.float32(np.log(0.5)))
    action, bonus = (np.float64(a) for a in proposed(learner, state))
    expected = stats.norm.logpdf(np.arctanh(action), mean, std) - np.log(1 - action**2)
    np.testing.assert_allclose(bonus, -0.5 * expected.sum(-1), rtol=1e-3, atol=1e-3)


log_density = on_host(squashed_log_density)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.8, -1.0), (-1.5, 0.5)])
def test_the_density_of_squashed_draws_integrates_to_one(mean, log_std):
    u = np.linspace(-9, 9, 20_001)
    z = (u - mean) / np.exp(log_std)
    density = np.exp(log_density(*(np.float32(a)[:, None] for a in (u, z, np.full_like(u, log_std)))))
    assert np.trapezoid(density, np.tanh(u)) == pytest.approx(1, abs=1e-3)


def test_the_density_is_finite_where_the_action_rounds_to_its_bound():
    u = np.float32([[30.0], [-30.0]])
    found = log_density(u, 0 * u, 0 * u)
    np.testing.assert_allclose(found, stats.norm.logpdf(0) - 2 * (np.log(2) - 30), rtol=1e-5)


def test_the_kind_selects_the_learner():
    names = ("ddpg", "td3", "sac")
    assert [registry.find("learner", name, Learner) for name in names] == KINDS
    assert [kind().kind for kind in KINDS] == list(names)


def test_ddpgs_defaults_are_the_released_ones():
    learner = DDPG()
    assert (learner.hidden, learner.activation, learner.batch_size) == ((128, 128, 128), "relu", 512)
    assert (learner.policy_learning_rate, learner.critic_learning_rate) == (3e-4, 3e-4)
    assert (learner.target_every, learner.target_tau, learner.discount) == (500, None, 0.99)
    assert (learner.policy_regularizer, learner.explore_probability, learner.explore_std) == (0.001, 0.05, 1.0)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            DDPG,
            {"batch_size": 511, "critics": 4},
            "multiple of critics .4. with assignment=balanced; the nearest is 512",
        ),
        (DDPG, {"batch_size": 509, "critics": 4}, "the nearest is 508"),
        (TD3, {"batch_size": 2, "critics": 8}, "the nearest is 8"),
        (DDPG, {"target_tau": 0.0}, "target_tau"),
        (SAC, {"target_tau": 1.5}, "target_tau"),
        (DDPG, {"target_every": 0}, "target_every"),
        (DDPG, {"discount": 1.1}, "discount"),
        (DDPG, {"explore_probability": -0.1}, "explore_probability"),
        (SAC, {"log_std_range": (2.0, -20.0)}, "low < high"),
        (SAC, {"initial_temperature": 0.0}, "initial_temperature"),
        (TD3, {"explore_probability": 0.05}, "explore_probability"),
    ],
)
def test_impossible_settings_are_refused(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**change)


def test_independent_critics_may_share_any_batch():
    assert DDPG(batch_size=511, critics=4, assignment="independent").batch_size == 511


@pytest.mark.long
def test_outputs_keep_the_shape_of_their_rows():
    policy = trained_state(DDPG(**SMALL)).policy
    features = batch()[0]
    found = on_host(policy_output)(policy, features)
    assert found.shape == (SOURCES, PARTICLES, BATCH, ACTION)
    np.testing.assert_allclose(found, by_hand(policy, 0, features), rtol=1e-4, atol=1e-5)
