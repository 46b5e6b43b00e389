"""The Gaussian policy against closed forms and numerical integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from actor_critics import FEATURES, KEY, fixed_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from foretell.values.gaussian import GaussianPolicy, GaussianState
from tiny import on_host

POLICY = GaussianPolicy(hidden=(8,))
number = st.floats(-2, 2).map(lambda value: round(value, 2))


def policy_of(mean, std):
    """A policy that acts alike whatever it sees."""
    return GaussianState(fixed_policy(*mean), jnp.asarray(np.float32(np.log(std))))


def seen(rows):
    return np.zeros((rows, FEATURES), np.float32)


def begun(policy, key=KEY, features=FEATURES, actions=2):
    return on_host(lambda: policy.init(key, features, actions))()


mean_of, sample, log_prob, kl, entropy = map(
    on_host, (POLICY.mean, POLICY.sample, POLICY.log_prob, POLICY.kl, POLICY.entropy)
)
X = np.float32(np.random.default_rng(0).normal(size=(4, 3, FEATURES)))


def test_it_begins_as_rllabs_does():
    state = begun(GaussianPolicy(initial_std=0.5), KEY, 20, 6)
    assert [w.shape for w in state.network.weights] == [(1, 20, 64), (1, 64, 64), (1, 64, 6)]
    assert not any(b.any() for b in state.network.biases)
    for weight in state.network.weights:
        limit = np.sqrt(6 / sum(weight.shape[1:]))
        assert 0.9 * limit < abs(weight).max() <= limit
    np.testing.assert_allclose(state.log_std, np.log([0.5] * 6), rtol=1e-6)


def test_its_mean_is_the_networks_output_without_a_bound():
    state = begun(POLICY)
    hidden = np.tanh(np.float64(X) @ np.float64(state.network.weights[0][0]))
    expected = hidden @ np.float64(state.network.weights[1][0])
    np.testing.assert_allclose(mean_of(state, X), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean_of(policy_of([5.0, -9.0], [1, 1]), seen(1)), [[5.0, -9.0]])


def test_draws_are_normal_and_go_beyond_the_bounds():
    drawn = np.float64(sample(policy_of([0.9, -0.3], [0.7, 0.1]), seen(20_000), KEY))
    np.testing.assert_allclose(drawn.mean(0), [0.9, -0.3], atol=0.02)
    np.testing.assert_allclose(drawn.std(0), [0.7, 0.1], rtol=0.03)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03
    assert (drawn[:, 0] > 1).mean() == pytest.approx(stats.norm.sf(1, 0.9, 0.7), abs=0.02)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(*[st.tuples(number, number)] * 3)
def test_the_density_of_an_action(mean, log_std, action):
    found = log_prob(policy_of(mean, np.exp(log_std)), seen(1), np.float32([action]))
    expected = stats.norm.logpdf(action, mean, np.exp(log_std)).sum()
    np.testing.assert_allclose(found, [expected], rtol=1e-4, atol=1e-4)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(*[st.tuples(number, number)] * 2, *[st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7))] * 2)
def test_the_divergence_of_one_policy_from_another(first, second, first_log_std, second_log_std):
    """Against the integral, dimension by dimension, of the first's density times the logarithm of their ratio."""
    old, new = policy_of(first, np.exp(first_log_std)), policy_of(second, np.exp(second_log_std))
    found = float(kl(old, new, seen(1))[0])
    expected = 0.0
    for mean, other, log_std, other_log_std in zip(first, second, first_log_std, second_log_std, strict=True):
        x = mean + np.exp(log_std) * np.linspace(-9, 9, 2001)
        density, log_density = stats.norm.pdf(x, mean, np.exp(log_std)), stats.norm.logpdf(x, mean, np.exp(log_std))
        expected += np.trapezoid(density * (log_density - stats.norm.logpdf(x, other, np.exp(other_log_std))), x)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.long
def test_a_policy_does_not_diverge_from_itself():
    state = begun(POLICY)
    np.testing.assert_allclose(kl(state, state, X[:, 0]), np.zeros(4), atol=1e-7)


@pytest.mark.long
def test_its_entropy():
    expected = stats.norm.entropy(0, [0.3, 2.0]).sum()
    assert float(entropy(policy_of([0.0, 0.0], [0.3, 2.0]))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("learn", [True, False])
def test_standard_deviations_that_are_fixed_have_no_gradient(learn):
    policy = GaussianPolicy(hidden=(8,), learn_std=learn)
    density = lambda s, other, x: policy.log_prob(s, x, jnp.ones((4, 2))).sum()  # noqa: E731
    divergence = lambda s, other, x: policy.kl(other, s, x).sum()  # noqa: E731
    for function in (density, divergence):
        grads = on_host(jax.grad(function))(begun(POLICY), begun(POLICY, jax.random.key(1)), X[:, 0])
        assert bool(grads.log_std.any()) == learn
        assert all(weight.any() for weight in grads.network.weights)
