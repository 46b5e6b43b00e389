"""The linear baseline against NumPy in double precision."""

import numpy as np
import pytest

from foretell.values import baseline
from foretell.values.baseline import zero_weights
from tiny import on_host

fitted, regressors = on_host(baseline.fitted, 2), on_host(baseline.regressors)


def test_regressors_are_rllabs():
    found = regressors(np.float32([[[2.0, -30.0]]]), np.array([[250]]))
    np.testing.assert_allclose(found, [[[2, -10, 4, 100, 2.5, 6.25, 15.625, 1]]])
    assert zero_weights(2).shape == found.shape[-1:] and not zero_weights(2).any()


def data(rows, seed=0, constant=False):
    """Observations along episodes of 1000 steps, and returns that fall towards their ends."""
    rng = np.random.default_rng(seed)
    features, time = rng.normal(size=(rows, 3)), np.arange(rows) % 1000
    if constant:
        features[:, 1] = 0.7
    returns = 100 - 0.1 * time + 5 * features[:, 0] - features[:, 2] ** 2 + rng.normal(size=rows)
    return regressors(np.float32(features), time), np.float32(returns)


def by_hand(x, returns, ridge):
    """By least squares with the ridge as further rows."""
    x = np.concatenate([np.float64(x), ridge**0.5 * np.eye(x.shape[1])])
    return np.linalg.lstsq(x, np.concatenate([np.float64(returns), np.zeros(x.shape[1])]), rcond=None)[0]


@pytest.mark.parametrize("ridge", [1e-5, 100.0])
@pytest.mark.long
def test_weights_are_those_of_ridge_regression(ridge):
    x, returns = data(3000)
    np.testing.assert_allclose(fitted(x, returns, ridge), by_hand(x, returns, ridge), rtol=2e-3, atol=2e-3)


@pytest.mark.long
def test_features_that_never_change_do_no_harm():
    """They say the same as the regressor 1, so that only the ridge tells their weights apart."""
    x, returns = data(3000, constant=True)
    found = np.float64(fitted(x, returns, 1e-5))
    np.testing.assert_allclose(np.float64(x) @ found, np.float64(x) @ by_hand(x, returns, 1e-5), atol=0.05)


@pytest.mark.long
def test_fewer_rows_than_weights_are_enough():
    x, returns = data(4)
    found = fitted(x, returns, 1e-5)
    np.testing.assert_allclose(x @ found, returns, atol=0.1)
