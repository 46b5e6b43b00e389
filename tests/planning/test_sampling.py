"""Random action sequences: truncated normals and coloured noise."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foretell.planning.sampling import clipped_coloured, colouring, released_scale, truncated_normal

SAMPLERS = {
    "truncated": jax.jit(truncated_normal, static_argnums=1),
    "coloured": jax.jit(partial(clipped_coloured, exponent=2.0), static_argnums=1),
}
KEY = jax.random.key(0)


def draw(sampler, mean, std, low, high, count=50_000):
    """Samples of one action at one time."""
    mean, std = jnp.full((1, 1), mean), jnp.full((1, 1), std)
    return np.asarray(SAMPLERS[sampler](KEY, count, mean, std, jnp.array([low]), jnp.array([high])))[:, 0, 0]


@pytest.mark.parametrize("sampler", SAMPLERS)
@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(0, 2**31), st.floats(-100, 100), st.floats(1e-3, 200), st.floats(0, 1), st.floats(0, 300))
@example(0, -1.0, 4.0, 0.0, 10.0)
@example(0, -1.0, 4.0, 1.0, 10.0)
def test_samples_never_leave_the_bounds(sampler, seed, low, extent, where, std):
    low = np.float32([low, -0.1])
    high = low + np.float32([extent, 3.0])
    mean = np.clip(np.broadcast_to(low + np.float32(where) * (high - low), (3, 2)), low, high)
    samples = SAMPLERS[sampler](jax.random.key(seed), 400, mean, np.full((3, 2), std, np.float32), low, high)
    slack = 1e-6 * np.maximum(np.abs(low), np.abs(high))  # one rounding error
    assert samples.shape == (400, 3, 2)
    assert (samples >= low - slack).all() and (samples <= high + slack).all()


def test_the_cut_leaves_its_share_of_the_standard_deviation():
    samples = draw("truncated", 0.5, 0.2, -10.0, 10.0)
    assert samples.mean() == pytest.approx(0.5, abs=0.003)
    assert samples.std() == pytest.approx(0.879626 * 0.2, rel=0.01)
    assert 0.399 < np.abs(samples - 0.5).max() <= 0.4


@pytest.mark.parametrize(("mean", "expected"), [(2.0, 0.5), (-0.8, 0.1), (1.0, 0.6)])
def test_the_standard_deviation_shrinks_to_half_the_distance_to_the_nearer_bound(mean, expected):
    samples = draw("truncated", mean, 0.6, -1.0, 3.0)
    assert samples.std() == pytest.approx(0.879626 * expected, rel=0.01)
    assert samples.mean() == pytest.approx(mean, abs=0.02)


def test_on_a_bound_the_truncated_normal_is_the_bound():
    assert (draw("truncated", 3.0, 0.6, -1.0, 3.0) == 3.0).all()


def test_coloured_noise_is_clipped_to_the_bounds():
    samples = draw("coloured", 2.5, 0.5, -1.0, 3.0)
    assert (samples == 3.0).mean() == pytest.approx(0.1587, abs=0.01)  # beyond one standard deviation
    assert samples.min() < 2.5 - 3 * 0.5


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_time_and_action_has_its_own_mean_standard_deviation_and_draws(sampler):
    mean, std = jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), jnp.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    bounds = jnp.array([-100.0, -100.0]), jnp.array([100.0, 100.0])
    samples = np.asarray(SAMPLERS[sampler](KEY, 20_000, mean, std, *bounds))
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(samples.std(0), std * (0.879626 if sampler == "truncated" else 1), rtol=0.03)
    actions = (samples - samples.mean(0)) / samples.std(0)
    assert abs((actions[:, :, 0] * actions[:, :, 1]).mean()) < 0.02


def covariance(horizon, exponent):
    matrix = np.float64(colouring(horizon, exponent))
    return matrix.T @ matrix


@pytest.mark.parametrize("horizon", [1, 2, 3, 8, 25])
def test_exponent_zero_is_white_noise(horizon):
    np.testing.assert_allclose(covariance(horizon, 0.0), np.eye(horizon), atol=1e-6)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 40), st.floats(0, 4))
def test_coloured_noise_has_unit_variance_at_every_time_and_is_stationary(horizon, exponent):
    found = covariance(horizon, exponent)
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-5)
    for lag in range(1, horizon):
        assert np.ptp(np.diag(found, lag)) < 1e-5


@pytest.mark.parametrize("horizon", [9, 20])
@pytest.mark.parametrize("exponent", [1.0, 2.5])
def test_the_power_falls_with_frequency_to_the_exponent(horizon, exponent):
    """Timmer and Koenig (1995); the lowest frequency stands in for 0, where the power would be infinite."""
    power = np.fft.fft(covariance(horizon, exponent)[0]).real[: horizon // 2 + 1]
    frequency = np.maximum(np.arange(len(power)), 1)
    np.testing.assert_allclose(power / power[1], frequency**-exponent, rtol=1e-3)


@pytest.mark.long
def test_coloured_samples_have_that_covariance():
    zero, one, far = jnp.zeros((6, 1)), jnp.ones((6, 1)), jnp.array([100.0])
    samples = np.asarray(SAMPLERS["coloured"](KEY, 50_000, zero, one, -far, far))[..., 0]
    np.testing.assert_allclose(samples.T @ samples / 50_000, covariance(6, 2.0), atol=0.02)


def generated(horizon, exponent, rows):
    """As colorednoise 2 makes it: random Fourier coefficients over its estimate of the sum's standard deviation."""
    power = np.fft.rfftfreq(horizon)
    power[0] = power[1]
    power = power ** (-exponent / 2)
    used = power[1:].copy()
    used[-1] *= (1 + horizon % 2) / 2
    real, imag = np.random.default_rng(0).normal(size=(2, rows, len(power))) * power
    if horizon % 2 == 0:
        real[:, -1], imag[:, -1] = real[:, -1] * 2**0.5, 0
    real[:, 0], imag[:, 0] = real[:, 0] * 2**0.5, 0
    return np.fft.irfft(real + 1j * imag, n=horizon) / (2 * np.sqrt((used**2).sum()) / horizon)


@pytest.mark.parametrize(("horizon", "exponent"), [(20, 1.0), (25, 2.0), (30, 0.25), (30, 3.0), (2, 1.0)])
def test_the_released_scale_is_that_of_the_generator(horizon, exponent):
    found = released_scale(horizon, exponent)
    assert found == pytest.approx(generated(horizon, exponent, 20_000).std(), rel=0.01)
    assert horizon < 20 or 1.03 < found < 1.195


@pytest.mark.long
def test_a_single_step_has_no_other_scale():
    assert released_scale(1, 2.0) == 1.0
