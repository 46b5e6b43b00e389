"""Calibration of models whose uncertainty is known."""

import numpy as np
import pytest

from foretell.diagnostics.calibration import (
    LEVELS,
    calibration,
    gaussian_inside_aid,
    particles_inside_aid,
    standard_square_d,
    tracking,
)

STARTS = 4000


def drawn(particles, wrong=1.0, seed=0):
    """Particles and truths of one Gaussian per start, the truth's standard deviation `wrong` times as large."""
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(size=(STARTS, 2)), rng.uniform(0.5, 2.0, (STARTS, 2))
    predicted = mean[:, None] + std[:, None] * rng.normal(size=(STARTS, particles, 2))
    return predicted, mean + wrong * std * rng.normal(size=(STARTS, 2))


@pytest.mark.parametrize("particles", [20, 200])
@pytest.mark.long
def test_a_known_gaussian_is_calibrated(particles):
    found = calibration(*drawn(particles))
    assert not found.gaussian
    np.testing.assert_allclose(found.share_ad, np.array(LEVELS)[:, None] * [1, 1], atol=0.03)
    np.testing.assert_allclose(found.share_a, LEVELS, atol=0.02)
    expected = (1 + 1 / particles) * (particles - 1) / (particles - 3)
    assert found.square == pytest.approx(expected, rel=0.06)


@pytest.mark.long
def test_errors_twice_as_large_as_predicted_are_seen():
    found = calibration(*drawn(200, wrong=2.0))
    assert found.square == pytest.approx(4.0, rel=0.1)
    assert found.share_a[4] == pytest.approx(0.264, abs=0.02)  # P(|z| < 0.674 / 2)


def test_intervals_are_those_of_sorted_particles():
    """Of 9 particles 1 to 9 the central 60 % lie between ranks 2 and 8."""
    particles = np.arange(1.0, 10.0)[::-1].reshape(1, 9, 1)
    for value, inside in [(1.9, False), (2.0, True), (5.0, True), (8.0, True), (8.1, False)]:
        assert particles_inside_aid(particles, np.array([[value]]), np.array([0.6]))[0, 0, 0] == inside


def test_few_particles_stand_for_a_gaussian():
    found = calibration(*drawn(5))
    assert found.gaussian
    particles = np.array([[[-1.0], [0.0], [1.0]]])  # mean 0, standard deviation 1
    for value, inside in [(0.67, True), (-0.67, True), (0.68, False)]:
        assert gaussian_inside_aid(particles, np.array([[value]]), np.array([0.5]))[0, 0, 0] == inside
    assert standard_square_d(particles, np.array([[3.0]])).tolist() == [9.0]


def test_a_model_without_uncertainty_has_no_calibration():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(10, 2))
    assert calibration(rng.normal(size=(10, 1, 2)), real) is None
    assert calibration(np.ones((10, 30, 2)), real) is None
    assert calibration(np.ones((0, 30, 2)), real[:0]) is None


@pytest.mark.long
def test_a_dimension_that_is_certain_is_left_out():
    particles, real = drawn(50)
    particles[..., 1] = 0.0
    found = calibration(particles, real)
    assert np.isnan(found.share_ad[:, 1]).all() and np.isnan(found.square_d[1])
    np.testing.assert_allclose(found.share_a, found.share_ad[:, 0])


@pytest.mark.long
def test_the_order_of_starts_and_particles_does_not_matter():
    particles, real = drawn(20)
    order = np.random.default_rng(1).permutation(STARTS)
    first, second = calibration(particles, real), calibration(particles[order][:, ::-1], real[order])
    np.testing.assert_allclose(first.share_ad, second.share_ad)
    np.testing.assert_allclose(first.square_d, second.square_d)


def test_disagreement_that_is_larger_where_errors_are_larger_is_seen():
    """It is a rank correlation: neither scale nor outliers matter."""
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2.0, 1000)
    assert tracking(std, std**3) == pytest.approx(1.0) and tracking(std, -std) == pytest.approx(-1.0)
    assert tracking(std, np.abs(std * rng.normal(size=1000))) > 0.2 > abs(tracking(std, rng.normal(size=1000)))
    assert np.isnan([tracking(np.ones(9), std[:9]), tracking(std[:9], np.ones(9)), tracking(std[:2], std[:2])]).all()


def test_the_order_of_starts_with_equal_disagreement_does_not_matter():
    tied = np.array([0.0, 0.0, 0.0, 1.0])
    assert tracking(tied, np.array([1.0, 2.0, 3.0, 4.0])) == tracking(tied, np.array([3.0, 2.0, 1.0, 4.0])) < 1.0
