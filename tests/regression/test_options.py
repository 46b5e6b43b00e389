"""Options of the networks: norms of hidden layers, dropout, inputs as they are, and constants that stay constant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.nn import Normalizer
from foretell.nn.regularization import averaged, no_moments
from foretell.regression.ensemble import Ensemble, predict
from foretell.regression.fit import Fit, fit
from foretell.regression.prediction import Rows
from tiny import by_hand, on_host

SMALL = Ensemble(members=2, hidden=(16, 16), weight_decay=0.0, probabilistic=False)
OPTIONS = {
    "layer": {"hidden_norm": "layer"},
    "batch": {"hidden_norm": "batch"},
    "dropout": {"dropout": 0.1},
    "raw": {"standardize": False},
    "operands of 16 bits": {"operands": "bfloat16"},
    "batch and dropout": {"hidden_norm": "batch", "dropout": 0.1},
}
TYPES = {
    "PE": {"probabilistic": True, "logvar_penalty": 0.0},
    "DE": {},
    "P": {"members": 1, "probabilistic": True},
    "D": {"members": 1},
}
CAPACITY = 210
compiled_fit = on_host(fit, 1, 2)
compiled_step = on_host(lambda ensemble, how, *args: how.step(ensemble, *args), 0, 1)


def options(name, **more):
    return Ensemble.model_validate({**SMALL.model_dump(), **OPTIONS[name], **more})


def begin(ensemble, flags=0):
    return on_host(lambda: (lambda state: (state, Fit().start(state)))(ensemble.init(jax.random.key(0), 2, 1, flags)))()


def regression(flags=0):
    rng = np.random.default_rng(0)
    x = rng.normal([1.0, -1.0], [1.5, 0.5], (CAPACITY, 2))
    y = np.sin(x[:, :1]) + 0.5 * x[:, 1:]
    return Rows(np.float32(x), np.float32(y), np.repeat(x[:, :1] > 1, flags, 1))


def spread(rows):
    return rows.y.var()


@pytest.mark.parametrize("name", [*by_hand(*list(OPTIONS)[:-1]), list(OPTIONS)[-1]])
@pytest.mark.long
def test_a_fit_learns_with_every_option(name):
    ensemble, rows = options(name), regression()
    how = Fit(learning_rate=1e-2, epochs=40, bootstrap=name in ("layer", "batch and dropout"))
    fitted = compiled_fit(jax.random.key(1), ensemble, how, *begin(ensemble), rows, np.int32(CAPACITY))
    assert fitted.metrics["skipped_steps"] == 0
    assert fitted.metrics["train_mse"] < (0.05 if "dropout" not in name else 0.2) * spread(rows)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("batch and dropout", "PE"),
        ("layer", "D"),
        pytest.param("layer", "P", marks=pytest.mark.slow),
        pytest.param("batch", "DE", marks=pytest.mark.slow),
    ],
)
@pytest.mark.long
def test_every_type_of_model_learns_numbers_and_flags(name, kind):
    ensemble, rows = options(name, **TYPES[kind]), regression(flags=1)
    how = Fit(learning_rate=1e-2, epochs=20)
    fitted = compiled_fit(jax.random.key(1), ensemble, how, *begin(ensemble, 1), rows, np.int32(CAPACITY))
    assert fitted.metrics["train_mse"] < 0.3 * spread(rows)
    raw = on_host(lambda s, x: ensemble.predictor(ensemble.ready(s))(x))
    prediction = raw(fitted.state, np.broadcast_to(rows.x, (ensemble.members, *rows.x.shape)))
    assert ((prediction.logits > 0) == rows.flags).mean() > 0.9
    assert (prediction.variance > 0).all() == ensemble.probabilistic


@pytest.mark.parametrize("name", [*by_hand(*list(OPTIONS)[:-1]), list(OPTIONS)[-1]])
@pytest.mark.long
def test_single_steps_learn_with_every_option(name):
    ensemble, rows, how = options(name), regression(), Fit(learning_rate=1e-2)

    @on_host
    def steps(state, carried, rows, count):
        def one(i, now):
            index = jax.random.randint(jax.random.fold_in(jax.random.key(0), i), (2, 32), 0, CAPACITY)
            batch = jax.tree.map(lambda a: a[index], rows)
            fitted = how.step(ensemble, now[0], now[1], batch, jax.random.key(i))
            return fitted.state, fitted.carried

        state = how.standardized(ensemble, state, carried, rows, jnp.ones(CAPACITY, bool))
        state, _ = jax.lax.fori_loop(0, count, one, (state, carried))
        return ensemble.error(state, rows, jnp.ones(CAPACITY))

    state, carried = begin(ensemble)
    errors = [float(steps(state, carried, rows, np.int32(count))) for count in (0, 300)]
    assert errors[1] < (0.1 if "dropout" not in name else 0.3) * errors[0]


@pytest.mark.long
def test_the_running_statistics_are_those_of_the_steps():
    ensemble, rows = options("batch"), regression()
    state, carried = begin(ensemble)
    batch = jax.tree.map(lambda a: np.stack([a[:8], a[8:16]]), rows)
    expected, weight, loss = no_moments(state.params.network), np.full(8, 0.125, np.float32), on_host(ensemble.loss)
    for _ in range(2):
        passed = loss(state.params, *batch, weight)[1]
        expected = averaged(expected, passed.moments)
        fitted = compiled_step(ensemble, Fit(), state, carried, batch)
        state, carried = fitted.state, fitted.carried
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.moments, expected)
    assert state.moments.rows == pytest.approx(8 * 1.9)


@pytest.mark.long
def test_a_skipped_step_leaves_the_running_statistics():
    ensemble, rows = options("batch"), regression()
    state, carried = begin(ensemble)
    batch = jax.tree.map(lambda a: np.stack([a[:8], a[8:16]]), rows)
    once = compiled_step(ensemble, Fit(), state, carried, batch)
    spoilt = batch._replace(y=batch.y + np.float32([np.nan, *[0] * 7])[:, None])
    twice = compiled_step(ensemble, Fit(), once.state, once.carried, spoilt)
    assert twice.metrics["model_skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, twice.state, once.state)


@pytest.mark.long
def test_prediction_has_no_dropout():
    ensemble, plain = options("dropout"), SMALL
    (state, _), x = begin(ensemble), jnp.ones((2, 3, 2))
    raw = lambda e: on_host(lambda s: e.predictor(e.ready(s))(x).mean)(state)  # noqa: E731
    np.testing.assert_array_equal(raw(ensemble), raw(plain))


@pytest.mark.parametrize("name", ["layer", "batch"])
@pytest.mark.long
def test_gains_shifts_and_biases_are_not_decayed(name):
    """Without rows, decay alone acts on the network."""
    ensemble, rows = options(name, weight_decay=0.3), regression()
    state, _ = begin(ensemble)
    moved = jax.tree.map(lambda a: a + np.float32(0.5), state.params)
    batch = jax.tree.map(lambda a: np.stack([a[:4], a[4:8]]), rows)
    grads = on_host(jax.grad(ensemble.loss, has_aux=True))(moved, *batch, jnp.zeros(4))[0].network
    assert not any(np.any(g) for g in (*grads.biases, *grads.gains, *grads.shifts))
    for g, w in zip(grads.weights, moved.network.weights, strict=True):
        np.testing.assert_allclose(g, 0.3 * w, rtol=1e-5)


@pytest.mark.long
def test_networks_without_standardisation_see_the_data_as_they_are():
    ensemble, rows = options("raw"), regression()
    fitted = compiled_fit(jax.random.key(1), ensemble, Fit(epochs=1), *begin(ensemble), rows, np.int32(CAPACITY))
    for normalizer in (fitted.state.inputs, fitted.state.targets):
        assert not normalizer.mean.any() and (normalizer.std == 1).all()
    x = jnp.stack([rows.x[:5]] * 2)
    raw = on_host(lambda s: ensemble.predictor(ensemble.ready(s))(x).mean)(fitted.state)
    np.testing.assert_allclose(raw, on_host(predict)(fitted.state.params, x).mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.long
def test_what_was_constant_once_is_only_shifted_for_ever_if_asked(stays):
    ensemble = SMALL.model_copy(update={"stays_constant": stays, "scale_targets": True, "min_std": 1e-4})
    later = regression()
    first = Rows(later.x * np.float32([0, 1]), 0 * later.y, later.flags)
    how, size, (state, carried) = Fit(epochs=1), np.int32(CAPACITY), begin(ensemble)
    once = compiled_fit(jax.random.key(1), ensemble, how, state, carried, first, size)
    assert once.state.inputs.std[0] == once.state.targets.std[0] == 1
    twice = compiled_fit(jax.random.key(1), ensemble, how, once.state, once.carried, later, size).state
    std = later.x.std(0)
    expected = Normalizer(later.x.mean(0), np.float32([1, std[1]]) if stays else std)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), twice.inputs, expected)
    np.testing.assert_allclose(twice.targets.std, 1 if stays else later.y.std(), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"hidden_norm": "group"}, "hidden_norm"),
        ({"hidden_norm": "layer", "hidden": (8, 1)}, "at least 2 units"),
        ({"standardize": False, "scale_targets": True}, "scale_targets=false"),
        ({"standardize": False, "center_targets": True}, "center_targets=false"),
    ],
)
@pytest.mark.long
def test_impossible_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(**{**SMALL.model_dump(), **change})
