"""The paired test of early stopping, on numbers of the specification of DHMBPO and beside SciPy; fits that use it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Fit
from foretell.regression.paired import chance_of, judged_by_rows
from foretell.regression.prediction import Rows
from foretell.regression.split import Split, row_losses
from foretell.regression.stopping import until_stale
from tiny import on_host

chance = on_host(chance_of)


@pytest.mark.parametrize(
    ("shift", "expected", "better", "goes_on"),
    [(-0.001, 0.271750, False, True), (-0.002, 0.107501, False, True), (-0.004, 0.006127, True, True)]
    + [(0.001, 0.744496, False, False)],
)
def test_a_chance_result_is_told_from_a_better_one(shift, expected, better, goes_on):
    """Section 7.12: patience begins again below 1/2, weights are the best below 0.1."""
    difference = np.float32(shift + 0.1 * np.sin(np.arange(2000)))
    assert chance(difference, np.ones(2000, np.float32)) == pytest.approx(expected, abs=2e-4)
    judge = on_host(lambda found: judged_by_rows(jnp.ones(2000), 0.1)(found, jnp.zeros(2000)))
    assert tuple(map(bool, judge(difference))) == (better, goes_on)


@pytest.mark.parametrize("shift", [-0.3, 0.0, 0.2])
def test_with_few_rows_it_is_students_test(shift):
    """Rows that do not count may hold anything."""
    difference = np.float32(np.random.default_rng(0).normal(shift, 1.0, 30))
    expected = stats.ttest_1samp(difference, 0.0, alternative="less").pvalue
    padded, weight = np.r_[difference, np.float32([np.nan, 1e9])], np.float32(np.arange(32) < 30)
    assert chance(padded, weight) == pytest.approx(expected, rel=1e-4)


def test_no_change_is_as_likely_as_not():
    assert chance(np.zeros(9, np.float32), np.ones(9, np.float32)) == 0.5


def test_epochs_that_are_better_by_chance_are_not_kept():
    """Row losses of three epochs: far better than at the start, slightly better than that, and worse."""
    noise = 0.1 * jnp.sin(jnp.arange(2000.0))
    losses = jnp.stack([jnp.ones(2000), 0.5 + 0 * noise, 0.499 + noise, 0.6 + noise, 0.6 + noise, jnp.zeros(2000)])
    found = on_host(
        lambda: until_stale(
            lambda number, now: now + 1,
            lambda now: losses[now],
            jnp.int32(0),
            least=jnp.int32(0),
            most=jnp.int32(5),
            patience=2,
            keep_best=True,
            judge=judged_by_rows(jnp.ones(2000), 0.1),
            from_start=True,
        )
    )()
    assert (found.epochs, found.best, found.stale) == (4, 1, 2)


NETWORKS = Ensemble(members=3, variance="constant", hidden=(4,), weight_decay=0.0, scale_targets=True)


def rows_of(count=24):
    x = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    return Rows(jnp.asarray(x), jnp.asarray(x @ np.float32([[1.0, 3.0], [2.0, -1.0]])), jnp.zeros((count, 0), bool))


def test_losses_are_those_of_the_ensemble_as_one_gaussian():
    """Section 2.3: the members' noise by its geometric mean, plus the variance of their means."""
    rows = rows_of(5)

    def found():
        state = NETWORKS.init(jax.random.key(0), 2, 2, 0)
        loss = row_losses(NETWORKS, Split(rows, jnp.int32(5), jnp.int32(0), jnp.int32(5)), 9, state)
        x = jnp.broadcast_to(rows.x, (3, *rows.x.shape))
        return loss, NETWORKS.predictor(NETWORKS.ready(state))(x)

    loss, (mean, variance, _) = on_host(found)()
    whole = np.exp(np.log(variance).mean(0)) + mean.var(0, ddof=1)
    expected = (np.square(mean.mean(0) - rows.y) / whole + np.log(whole)).mean(-1)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_a_fit_may_end_with_no_change():
    """With a step size that spoils the weights, those before the first epoch stay the best; epochs have two steps."""
    settings = {"holdout": 0.5, "early_stopping": True, "significance": 0.1, "epochs": 9, "epoch_steps": 2}
    rows = rows_of()

    def fitted(rate):
        fit = Fit(learning_rate=rate, batch_size=4, bootstrap=False, patience=2, reset_moments=True, **settings)
        state = NETWORKS.init(jax.random.key(0), 2, 2, 0)
        return fit.fit(jax.random.key(1), NETWORKS, state, fit.start(state), rows, jnp.int32(24), jnp.int32(12))

    start, spoilt, better = on_host(lambda: (NETWORKS.init(jax.random.key(0), 2, 2, 0), fitted(50.0), fitted(0.05)))()
    np.testing.assert_allclose(spoilt.state.params.network.weights[0], start.params.network.weights[0], rtol=1e-5)
    assert spoilt.metrics["epochs"] == 2 and spoilt.metrics["gradient_steps"] == 4
    assert better.metrics["epochs"] > 2 and better.metrics["holdout_loss"] < spoilt.metrics["holdout_loss"]
    assert (better.state.params.network.weights[0] != start.params.network.weights[0]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"significance": 0.1}, "significance needs early_stopping=true and snapshots=joint"),
        ({"significance": 0.1, "early_stopping": True, "holdout": 0.2, "improvement": 0.01}, "must be 0 with"),
        ({"epoch_steps": 6, "new_share": 0.5, "bootstrap": False}, "epoch_steps must be null with new_share"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Fit(**changes)
