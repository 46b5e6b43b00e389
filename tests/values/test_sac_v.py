"""SAC with a state-value function, against losses written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from actor_critics import by_hand, q_by_hand
from scipy import stats

from foretell.values import Expansion, Frames
from foretell.values.learners import SACV, Actor, Visits
from tiny import quick_jit

KEY = jax.random.key(5)
LEARNER = SACV(hidden=(8,), batch_size=6, temperature=0.5, target_tau=0.1)
INIT, PROPOSE = quick_jit(LEARNER.init, 1, 2), quick_jit(LEARNER.propose)
RNG = np.random.default_rng(2)
X = jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32)


def filled():
    """As after training: no two networks are alike."""
    state = INIT(KEY, 3, 2)
    fill = lambda tree: jax.tree.map(lambda a: np.float32(RNG.normal(0, 0.4, a.shape)), tree)  # noqa: E731
    value = state.state_value._replace(network=fill(state.critics), target=fill(state.critics))
    value = value._replace(network=fill(state.state_value.network), target=fill(state.state_value.target))
    filled = state._replace(policy=fill(state.policy), critics=fill(state.critics), state_value=value)
    return jax.tree.map(jnp.asarray, filled)


STATE = filled()


@pytest.mark.long
def test_targets_use_the_target_value_of_the_observation():
    """The bonus that targets add to it is taken off first: what is left of horizon 0 is `r + gamma V(s')`."""
    batch = 4
    obs = jnp.asarray(RNG.normal(size=(1, 1, batch, 3)), jnp.float32)
    action, bonus = PROPOSE(STATE, obs[0], KEY)
    value = np.asarray(quick_jit(LEARNER.target_values)(STATE, obs, action[None], bonus[None]))
    reward, ends = np.float32(RNG.normal(size=(1, 1, 1, batch))), np.float32([[[0, 1, 0, 1]]])
    frames = Frames(obs, action[None], reward, ends, bonus[None], np.moveaxis(value, 0, 1))
    targets = quick_jit(lambda frames: Expansion(horizon=0, reduction="last").targets(frames, 0.9))
    found = targets(frames).target[0]
    expected = reward[0, 0, 0] + 0.9 * (1 - ends[0, 0]) * by_hand(STATE.state_value.target, 0, obs[0, 0])[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_the_bonus_is_the_temperature_times_the_entropy_of_the_squashed_action():
    action, bonus = PROPOSE(STATE, X[None], KEY)
    out = by_hand(STATE.policy, 0, X)
    mean, std = np.clip(out[:, :2], -5, 5), np.exp(np.clip(out[:, 2:], -20, 2))
    u = np.arctanh(np.clip(np.float64(action[0]), -1 + 1e-9, 1 - 1e-9))
    log_density = (stats.norm(mean, std).logpdf(u) - np.log(1 - np.tanh(u) ** 2)).sum(-1)
    np.testing.assert_allclose(bonus[0], -0.5 * log_density, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("tdk", [False, True])
@pytest.mark.long
def test_the_value_learns_soft_values_of_actions_at_real_and_at_visited_observations(tdk):
    visits = None
    if tdk:
        features, action = np.float32(RNG.normal(size=(3, 1, 6, 3))), np.float32(RNG.uniform(-1, 1, (3, 1, 6, 2)))
        bonus, weight = np.float32(RNG.normal(size=(3, 1, 6))), np.float32(RNG.uniform(size=(3, 6)))
        visits = jax.tree.map(jnp.asarray, Visits(features, action, bonus, weight))
    found = quick_jit(LEARNER.value_loss)(STATE.state_value.network, STATE, X, visits, KEY)
    own, own_bonus = PROPOSE(STATE, X[None], KEY)
    soft = q_by_hand(STATE.critics, 0, X, np.asarray(own[0])) + np.asarray(own_bonus[0])
    expected = np.mean((by_hand(STATE.state_value.network, 0, X)[:, 0] - soft) ** 2)
    if visits is not None:
        soft = q_by_hand(STATE.critics, 0, features, action) + bonus
        error = (by_hand(STATE.state_value.network, 0, features)[..., 0] - soft) ** 2
        expected += (weight * error[:, 0]).sum()
    assert found == pytest.approx(0.5 * expected, rel=1e-3)


@pytest.mark.long
def test_both_gradients_of_the_policy_agree_in_the_mean():
    """Through the sampled action, and by the score function, whose variance is larger."""
    rows = np.repeat(X[:1], 20_000, 0)
    state = STATE._replace(policy=jax.tree.map(lambda a: 0.3 * a, STATE.policy))
    slopes = []
    for through in (True, False):
        learner = LEARNER.model_copy(update={"reparameterized": through})
        slope = quick_jit(jax.grad(learner.policy_loss, has_aux=True))
        slopes.append(np.asarray(slope(Actor(state.policy, None), state, rows, KEY)[0].policy.biases[-1]).ravel())
    np.testing.assert_allclose(slopes[0], slopes[1], atol=0.05 * np.abs(slopes[0]).max() + 0.02)


@pytest.mark.long
def test_the_value_steps_from_the_old_parameters_and_its_target_follows():
    data = X[None, None], jnp.zeros((1, 1, 6, 2)), jnp.ones((1, 6)), jnp.ones((1, 6))
    before = INIT(KEY, 3, 2)
    after, metrics = quick_jit(LEARNER.update)(before, KEY, *data)

    @quick_jit
    def stepped(network, opt):
        slope = jax.grad(LEARNER.value_loss)(network, before, X, None, jax.random.fold_in(KEY, 3))
        return jax.tree.map(jnp.add, network, LEARNER.critic_optimizer.update(slope, opt)[0])

    expected = stepped(before.state_value.network, before.state_value.opt)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)  # noqa: E731
    jax.tree.map(close, after.state_value.network, expected)
    follow = lambda old, new: (1 - 0.1) * np.asarray(old) + 0.1 * np.asarray(new)  # noqa: E731
    moved = jax.tree.map(follow, before.state_value.target, after.state_value.network)
    jax.tree.map(close, after.state_value.target, moved)
    assert {"value_loss", "critic_loss", "policy_loss", "entropy"} <= metrics.keys() and metrics["value_skipped"] == 0
