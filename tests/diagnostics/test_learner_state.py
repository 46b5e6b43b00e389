"""Gradients, noise and weights of a learner, against computations of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.diagnostics.learning import action_noise, losses, mean_absolute, norms, weights
from foretell.replay import Transitions
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from tiny import LINE, quick_jit

SMALL = {"task": {"env": LINE}, "learner": {"hidden": [6], "batch_size": 4, "critics": 1}}
KEY = jax.random.key(0)


def agent_of(preset, **learner):
    settings = resolve(preset, [SMALL, {"learner": learner}])
    agent = settings.build(make_task(settings.task))
    return agent, agent.init(KEY)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(4, 2)), rng.uniform(-1, 1, (4, 1)), rng.normal(size=4), rng.normal(size=(4, 2))]
    return Transitions(*map(jnp.float32, rows), jnp.array([False, True, False, False]))


@pytest.mark.long
def test_norms_of_a_tree():
    two, greatest = norms({"a": jnp.array([[3.0, 0.0]]), "b": (jnp.array(-4.0),)})
    assert float(two) == 5.0 and float(greatest) == 4.0


def mlp(network, x):
    first, second, bias, last = (np.float64(a[0]) for a in (*network.weights, *network.biases))
    return np.maximum(x @ first + bias, 0) @ second + last


@pytest.mark.long
def test_losses_and_gradients_are_those_of_the_one_step_target(batch):
    """The gradient of a mean square in the critic's last bias is the mean error; that of the loss follows by hand."""
    agent, state = agent_of("ddpg/default")
    found = quick_jit(losses, 0)(agent, state, batch, KEY)
    obs, action, reward, after, ended = map(np.float64, batch)
    critic, policy = state.learner.critics, state.learner.policy
    q = mlp(critic, np.hstack([obs, action]))[:, 0]
    ahead = mlp(state.learner.target_critics, np.hstack([after, np.tanh(mlp(policy, after))]))[:, 0]
    error = q - (reward + 0.99 * (1 - ended) * ahead)
    assert float(found["critic_loss"]) == pytest.approx(0.5 * np.mean(error**2), rel=1e-4)
    hidden = np.maximum(
        np.hstack([obs, action]) @ np.float64(critic.weights[0][0]) + np.float64(critic.biases[0][0]), 0
    )
    back = error[:, None] / 4 * np.float64(critic.weights[1][0, :, 0]) * (hidden > 0)
    gradient = [hidden.T @ error / 4, error.mean(), np.hstack([obs, action]).T @ back, back.sum(0)]
    flat = np.concatenate([np.ravel(g) for g in gradient])
    assert float(found["critic_grad_2"]) == pytest.approx(np.sqrt(np.sum(flat**2)), rel=1e-4)
    assert float(found["critic_grad_inf"]) == pytest.approx(np.abs(flat).max(), rel=1e-4)
    assert float(found["policy_grad_2"]) >= float(found["policy_grad_inf"]) > 0


@pytest.mark.parametrize("preset", ["sac/default", "td3/default", "mve/default"])
@pytest.mark.long
def test_all_learners_have_them(preset, batch):
    agent, state = agent_of(preset)
    found = quick_jit(losses, 0)(agent, state, batch, KEY)
    assert all(np.isfinite(float(value)) for value in found.values()) and float(found["critic_grad_inf"]) > 0


@pytest.mark.long
def test_noise_is_the_distance_of_exploring_from_greedy_actions(batch):
    agent, state = agent_of("ddpg/default", explore_probability=0.0, noise_std=0.0)
    noise = jax.jit(lambda agent_state, obs: action_noise(agent, agent.task, agent.policy(agent_state), obs, KEY))
    assert float(noise(state, batch.obs)) == 0.0
    agent, state = agent_of("ddpg/default", explore_probability=0.0, noise_std=0.05)
    many = jnp.zeros((5000, 2))
    found = action_noise(agent, agent.task, agent.policy(state), many, KEY)
    assert float(found) == pytest.approx(0.025, rel=0.05)


@pytest.mark.long
def test_weights_are_reported_by_array():
    assert mean_absolute({"a": jnp.array([1.0, -3.0]), "b": (jnp.zeros(2),)}) == {"a": 2.0, "b_0": 0.0}
    _, state = agent_of("ddpg/default")
    found = weights(state)
    assert set(found) == {
        f"{part}_{kind}_{i}" for part in ("policy", "critic") for kind in ("weights", "biases") for i in (0, 1)
    }
    assert float(found["critic_weights_1"]) == pytest.approx(float(np.abs(state.learner.critics.weights[1]).mean()))
