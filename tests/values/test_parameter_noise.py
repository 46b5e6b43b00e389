"""Noise on a policy's parameters, which adapts to the noise that it makes in actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.nn import init_mlp
from foretell.values.learners import DDPG, TD3
from foretell.values.learners.networks import policy_output
from foretell.values.learners.parameter_noise import ParameterNoise, perturbed
from tiny import quick_jit

KEY = jax.random.key(3)
POLICY = init_mlp(KEY, (3, 16, 16, 2), members=1, activation="relu", initializer="glorot", layer_norm=True)
X = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3)), jnp.float32)


def act(policy):
    return jnp.tanh(policy_output(policy, X))


@pytest.mark.long
def test_the_noise_starts_at_the_target_over_the_layers_and_spares_layer_norms():
    noise = ParameterNoise(target=0.3)
    state = quick_jit(noise.init)(KEY, POLICY)
    assert state.std == pytest.approx(0.1)  # two hidden layers and the output
    drawn = np.concatenate([np.ravel(a - b) for a, b in zip(state.policy.weights, POLICY.weights, strict=True)])
    assert drawn.std() == pytest.approx(0.1, rel=0.1) and abs(drawn.mean()) < 0.02
    assert all(np.abs(bias).min() > 0 for bias in state.policy.biases)
    for kept in ("gains", "shifts"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state.policy, kept), getattr(POLICY, kept))


@pytest.mark.long
def test_the_distance_is_a_root_mean_square_in_shares_of_the_action_range():
    noise = ParameterNoise()
    before, renew = quick_jit(noise.init)(KEY, POLICY), quick_jit(lambda *now: noise.renew(*now, POLICY, act))
    state, metrics = renew(KEY, before)
    acts = quick_jit(act)
    gap = np.asarray(acts(state.policy)) - np.asarray(acts(POLICY))
    assert metrics["action_noise"] == pytest.approx(np.sqrt(np.mean((gap / 2) ** 2)), rel=1e-4)
    assert metrics["parameter_noise"] == state.std


@pytest.mark.parametrize(("target", "factor"), [(0.9, 1.01), (1e-4, 1 / 1.01)])
@pytest.mark.long
def test_it_adapts_by_one_factor_once_in_so_many_updates(target, factor):
    noise = ParameterNoise(target=target, adapt_every=5)
    renew = quick_jit(lambda key, last: noise.renew(key, last, POLICY, act)[0])
    state = noise.init(KEY, POLICY)._replace(std=jnp.float32(0.05))
    found = []
    for key in jax.random.split(KEY, 11):
        state = renew(key, state)
        found.append(float(state.std) / 0.05)
    np.testing.assert_allclose(found, [1] * 4 + [factor] * 5 + [factor**2] * 2, rtol=1e-5)


@pytest.mark.long
def test_it_reaches_its_target():
    noise = ParameterNoise(target=0.1, adapt_every=2, factor=1.1)
    renew = quick_jit(lambda key, last: noise.renew(key, last, POLICY, act))
    state, distances = noise.init(KEY, POLICY)._replace(std=jnp.float32(1e-3)), []
    for key in jax.random.split(KEY, 300):
        state, metrics = renew(key, state)
        distances.append(float(metrics["action_noise"]))
    assert np.mean(distances[-100:]) == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("kind", [DDPG, TD3])
@pytest.mark.long
def test_learners_explore_with_it_and_act_greedily_without(kind):
    learner = kind(hidden=(8,), batch_size=4, parameter_noise=ParameterNoise(target=0.5), noise_std=0.0)
    state = quick_jit(learner.init, 1, 2)(KEY, 3, 2)
    explorer = learner.explorer(state)
    assert explorer is not None and not np.array_equal(explorer.weights[0], state.policy.weights[0])
    data = (
        X[None, None, :4],
        np.zeros((1, 1, 4, 2), np.float32),
        np.ones((1, 4), np.float32),
        np.ones((1, 4), np.float32),
    )
    after, metrics = quick_jit(learner.update)(state, KEY, *data)
    expected = quick_jit(perturbed)(jax.random.fold_in(KEY, 2), after.policy, state.explorer.std)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.explorer.policy, expected)
    assert metrics["action_noise"] > 0
    plain, plain_metrics = quick_jit(kind(hidden=(8,), batch_size=4).update)(state._replace(explorer=None), KEY, *data)
    jax.tree.map(np.testing.assert_array_equal, plain.policy, after.policy)
    assert plain.explorer is None and "action_noise" not in plain_metrics
