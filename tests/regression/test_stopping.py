"""Early stopping: the rule, on errors that are given; and what it does for networks on few noisy rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Fit, fit
from foretell.regression.prediction import Rows, mean_square_error
from foretell.regression.stopping import until_stale
from tiny import on_host

LENGTH = 8


def counted(errors, least, most, patience):
    """Training whose progress is the number of epochs."""
    return until_stale(
        lambda number, now: now + 1,
        lambda now: errors[now - 1],
        jnp.int32(0),
        least=least,
        most=most,
        patience=patience,
        keep_best=True,
    )


watched = on_host(counted, 3)


def by_hand(errors, least, most, patience):
    """Epochs trained, and the epoch after which the error was lowest."""
    lowest, best, stale = np.inf, 0, 0
    for done, error in enumerate(errors[:most], start=1):
        if np.isnan(error) or np.isnan(lowest) or error < lowest:
            lowest, best, stale = error, done, 0
        else:
            stale += 1
        if stale >= patience and done >= least:
            return done, best
    return most, best


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, np.inf, np.nan]), min_size=LENGTH, max_size=LENGTH),
    st.integers(0, LENGTH),
    st.integers(1, LENGTH),
    st.integers(1, 3),
)
@pytest.mark.long
def test_training_stops_after_epochs_without_a_lower_error(errors, least, most, patience):
    found = watched(np.float32(errors), np.int32(least), np.int32(most), patience)
    assert (found.epochs, found.best) == by_hand(errors, least, most, patience)
    assert found.now == found.epochs


SIZE, CAPACITY = 40, 50
LARGE = Ensemble(members=2, probabilistic=False, hidden=(64, 64), weight_decay=0.0)
LONG = Fit(learning_rate=5e-3, batch_size=8, epochs=150, bootstrap=False, holdout=0.5)
compiled_fit = on_host(fit, 1, 2)
fresh = on_host(lambda: (lambda state: (state, LONG.start(state)))(LARGE.init(jax.random.key(0), 1, 1, 0)))


def noisy_rows():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (CAPACITY, 1))
    y = x + 0.5 * rng.normal(size=x.shape)
    return Rows(np.float32(x), np.float32(y), np.zeros((CAPACITY, 0), bool))


def train(how):
    state, carried = fresh()
    held = np.int32(SIZE // 2)
    return compiled_fit(jax.random.key(1), LARGE, how, state, carried, noisy_rows(), np.int32(SIZE), held)


@pytest.fixture(scope="module")
def fits():
    early = LONG.model_copy(update={"early_stopping": True})
    choices = {
        "to the end": LONG,
        "best": early,
        "last": early.model_copy(update={"keep_best": False}),
        "patient": early.model_copy(update={"patience": 5}),
    }
    return {name: train(how) for name, how in choices.items()}


@pytest.mark.long
def test_where_networks_overfit_they_stop_early_and_err_less(fits):
    whole, early = fits["to the end"].metrics, fits["best"].metrics
    assert whole["gradient_steps"] == 150 * 3
    assert early["epochs"] < 60 and early["gradient_steps"] == 3 * early["epochs"]
    assert early["holdout_mse"] < whole["holdout_mse"]
    assert early["train_mse"] > whole["train_mse"]


@pytest.mark.long
def test_the_best_weights_are_those_of_the_lowest_loss(fits):
    best, last, patient = (fits[name].metrics for name in ("best", "last", "patient"))
    assert best["epochs"] == last["epochs"] <= patient["epochs"]
    assert patient["holdout_loss"] <= best["holdout_loss"] <= last["holdout_loss"]
    assert fits["best"].carried.opt_state[0].count == 3 * (best["epochs"] - 1)
    assert fits["last"].carried.opt_state[0].count == 3 * last["epochs"]
    for found in (best, last, patient):  # half the squared error
        assert float(found["holdout_loss"]) == pytest.approx(0.5 * float(found["holdout_mse"]), rel=1e-4)


@pytest.mark.long
def test_rows_kept_out_are_the_first_and_are_never_trained_on():
    rows, (state, carried) = noisy_rows(), fresh()
    y = rows.y.copy()
    y[: SIZE // 2] += 1e3
    how = LONG.model_copy(update={"epochs": 2})
    args = (jax.random.key(1), LARGE, how, state, carried)
    clean, other = (compiled_fit(*args, r, np.int32(SIZE), np.int32(SIZE // 2)) for r in (rows, rows._replace(y=y)))
    jax.tree.map(np.testing.assert_array_equal, clean.state, other.state)


@pytest.mark.long
def test_fewest_steps_hold_all_the_same():
    early = LONG.model_copy(update={"early_stopping": True, "min_steps": 200})
    assert 67 <= train(early).metrics["epochs"] < 150  # of three steps


@pytest.mark.long
def test_early_stopping_needs_rows_to_judge_by():
    with pytest.raises(ValueError, match="early_stopping needs holdout above 0"):
        Fit(early_stopping=True)


@pytest.mark.long
def test_rows_that_do_not_count_may_hold_anything():
    rows, (state, _) = noisy_rows(), fresh()
    weight = np.float32(np.arange(CAPACITY) < 10)
    spoilt = Rows(*(np.where(weight[:, None] > 0, a, np.nan) for a in rows[:2]), rows.flags)
    error = on_host(LARGE.error)
    clean = error(state, rows, weight)
    np.testing.assert_array_equal(clean, error(state, spoilt, weight))
    squared = on_host(lambda state, *given: mean_square_error(LARGE.predictor(LARGE.ready(state)), 2, *given))
    mse = squared(state, rows, weight)
    assert float(clean) == pytest.approx(0.5 * float(mse), rel=1e-5)
    assert np.isnan(error(state, rows, 0 * weight))


HOLDOUT = [  # epochs x members: numbers of the specification of MBPO, section 7.4
    (1.00, 0.90, 2.00),
    (0.80, 0.895, 1.50),
    (0.795, 0.85, 1.60),
    (0.79, 0.86, 1.70),
    (0.81, 0.87, 1.495),
    (0.80, 0.88, 1.49),
    (0.82, 0.86, 1.60),
    (0.83, 0.86, 1.60),
    (0.84, 0.86, 1.60),
    (0.84, 0.86, 1.60),
]


def test_each_member_keeps_its_best_epoch_and_all_train_until_none_improves():
    """An error must fall by 1 % to count as lower; the number of the best epoch is its progress minus 1."""
    errors = jnp.array(HOLDOUT)
    found = on_host(
        lambda: until_stale(
            lambda number, now: now + 1,
            lambda now: errors[now[0] - 1],
            jnp.zeros(3, jnp.int32),
            least=jnp.int32(0),
            most=jnp.int32(10),
            patience=6,
            keep_best=True,
            improvement=0.01,
            keep=lambda lower, now, best: jnp.where(lower, now, best),
        )
    )()
    assert found.epochs - 1 == 9
    np.testing.assert_array_equal(found.best - 1, [3, 2, 1])
    np.testing.assert_allclose(found.lowest, [0.79, 0.85, 1.5])
    elites = Ensemble(members=3, elites=2, hidden=(4,)).with_elites
    state = Ensemble(members=3, elites=2, hidden=(4,)).init(jax.random.key(0), 2, 1, 0)
    np.testing.assert_array_equal(elites(state, jnp.array(found.lowest)).elites, [0, 1])


def test_elites_alone_predict():
    """Those of the least error on held-out rows; the others are trained on."""
    few = Ensemble(members=3, elites=2, hidden=(8,), weight_decay=0.0)
    settings = Fit(epochs=3, holdout=0.3, early_stopping=True, snapshots="member", improvement=0.01)
    x = jax.random.normal(jax.random.key(1), (40, 2))
    rows, state = Rows(x, x[:, :1], jnp.zeros((40, 0), bool)), few.init(jax.random.key(0), 2, 1, 0)

    def trained():
        found = settings.fit(jax.random.key(2), few, state, settings.start(state), rows, jnp.int32(40))
        weights = [of.params.network.weights[1] for of in (few.ready(found.state), found.state)]
        return found.state.elites, weights, found.metrics["holdout_loss"]

    elites, (ready, all_of_them), loss = on_host(trained)()
    assert few.serving == len(elites) == len(ready) == 2
    np.testing.assert_array_equal(ready, all_of_them[elites])
    assert np.isfinite(loss)
