"""Small learners, data for them, and what their networks make of it in double precision."""

import jax
import jax.numpy as jnp
import numpy as np

from foretell.nn import MLP
from foretell.values.learners import DDPG, SAC, TD3, Actor

KINDS = [DDPG, TD3, SAC]
FEATURES, ACTION, CRITICS, SOURCES, PARTICLES, BATCH = 3, 2, 3, 2, 4, 6
SMALL = {"hidden": (8, 5), "critics": CRITICS, "batch_size": BATCH}
KEY = jax.random.key(7)


def trained_state(learner, seed=0):
    """As after training: no bias is zero, and targets differ from what they follow."""
    rng = np.random.default_rng(seed)
    state = jax.eval_shape(lambda: learner.init(KEY, FEATURES, ACTION))
    fill = lambda tree: jax.tree.map(lambda a: np.float32(rng.normal(0, 0.5, a.shape)), tree)  # noqa: E731
    zeros = lambda init, tree: jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), jax.eval_shape(init, tree))  # noqa: E731
    filled = {
        name: fill(getattr(state, name))
        for name in ("policy", "critics", "target_critics", "target_policy", "log_alpha")
    }
    actor = Actor(filled["policy"], filled["log_alpha"])
    policy_opt = zeros(learner.policy_optimizer.init, actor)
    critic_opt = zeros(learner.critic_optimizer.init, filled["critics"])
    return state._replace(**filled, policy_opt=policy_opt, critic_opt=critic_opt, updates=np.zeros((), np.int32))


def batch(seed=0, sources=SOURCES, size=BATCH):
    """Features, actions, targets and weights; source 0 is alike in all particles."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(sources, PARTICLES, size, FEATURES))
    action = rng.uniform(-1, 1, (sources, PARTICLES, size, ACTION))
    features[0], action[0] = features[0, :1], action[0, :1]
    target, weight = rng.normal(size=(sources, size)), rng.uniform(0.2, 1, (sources, size))
    return tuple(map(np.float32, (features, action, target, weight)))


def by_hand(network, member, x):
    """Outputs of one member, in double precision."""
    x = np.float64(x)
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        x = x @ np.float64(weight[member]) + np.float64(bias[member, 0])
        x = np.maximum(x, 0) if layer < len(network.weights) - 1 else x
    return x


def q_by_hand(networks, member, features, action):
    return by_hand(networks, member, np.concatenate([features, action], -1))[..., 0]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def assert_close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **{"rtol": 1e-4, "atol": 1e-6, **tolerance})


def fixed_policy(*outputs):
    """A policy that gives these outputs whatever it sees."""
    weights, biases = np.zeros((1, FEATURES, len(outputs)), np.float32), np.float32(outputs).reshape(1, 1, -1)
    return MLP((jnp.asarray(weights),), (jnp.asarray(biases),), "relu")
