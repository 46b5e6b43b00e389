"""Every learner solves small tasks whose best policies are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.values.learners import DDPG, SAC, TD3
from tiny import by_hand, quick_jit

KINDS = [DDPG, TD3, SAC]
QUICK = {"hidden": (32, 32), "batch_size": 64}


def train(learner, batch, updates, feature_size, action_size):
    """The policy's greedy actions, after updates on what `batch(key, state)` gives: features, actions and targets."""

    def step(i, state):
        batch_key, update_key = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
        features, action, target = batch(batch_key, state)
        weight = jnp.ones((1, learner.batch_size))
        return learner.update(state, update_key, features[None, None], action[None, None], target[None], weight)[0]

    @quick_jit
    def run():
        state = learner.init(jax.random.key(0), feature_size, action_size)
        return jax.lax.fori_loop(0, updates * learner.policy_delay, step, state).policy

    policy = run()
    return lambda features: learner.act(policy, features, jax.random.key(2), explore=False)


def uniform(key, rows, columns, limit=1.0):
    return jax.random.uniform(key, (rows, columns), minval=-limit, maxval=limit)


def best_action(features):
    """Of the task of one step."""
    return jnp.stack([0.7 * jnp.sin(2 * features[:, 0]), 0.5 * features[:, 1] - 0.2], -1)


@pytest.mark.long
@pytest.mark.parametrize("kind", by_hand(*KINDS))
def test_a_task_of_one_step_is_learned(kind):
    learner = kind(**QUICK, policy_learning_rate=5e-3, critic_learning_rate=5e-3)

    def batch(key, state):
        del state
        features, action = (uniform(k, learner.batch_size, 2) for k in jax.random.split(key))
        return features, action, -jnp.square(action - best_action(features)).sum(-1)

    act = train(learner, batch, 600, 2, 2)
    features = uniform(jax.random.key(9), 500, 2)
    assert quick_jit(lambda features: jnp.abs(act(features) - best_action(features)).mean())(features) < 0.1


def push(state, action):
    """A mass that is pushed along a line: its next position and velocity, and the reward."""
    velocity = state[:, 1] + 0.4 * action[:, 0]
    position = state[:, 0] + 0.4 * velocity
    return jnp.stack([position, velocity], -1), -jnp.square(position) - 0.1 * jnp.square(velocity)


def discounted_return(act):
    """Mean over a grid of starts."""

    def step(state, i):
        state, reward = push(state, act(state))
        return state, 0.95**i * reward.mean()

    start = np.stack(np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 5)), -1).reshape(-1, 2)
    return float(quick_jit(lambda start: jax.lax.scan(step, start, jnp.arange(40))[1].sum())(np.float32(start)))


@pytest.mark.long
@pytest.mark.parametrize("kind", [DDPG, SAC, *by_hand(TD3)])
def test_a_task_of_many_steps_is_learned(kind):
    rates = {"policy_learning_rate": 1e-2, "critic_learning_rate": 1e-2, "target_tau": 0.05}
    learner = kind(**QUICK, **rates, discount=0.95, critics=2)

    def batch(key, state):
        features_key, action_key, next_key = jax.random.split(key, 3)
        features, action = uniform(features_key, learner.batch_size, 2, 2.0), uniform(action_key, learner.batch_size, 1)
        after, reward = push(features, action)
        next_action, bonus = learner.propose(state, after[None], next_key)
        value = learner.values(state.target_critics, after[None], next_action).mean(0) + bonus
        return features, action, reward + learner.discount * value[0]

    # Clipped linear feedback reaches -1.14 at best, -2.6 at half that stiffness and damping, -10.5 without damping.
    assert discounted_return(train(learner, batch, 600, 2, 1)) > -3.5
