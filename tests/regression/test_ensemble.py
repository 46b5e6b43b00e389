"""The probabilistic ensemble: what it predicts, and its loss, against a plain loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.nn import MLP, Normalizer
from foretell.regression.ensemble import Ensemble, EnsembleParams, EnsembleState, bounded_variance, predict
from foretell.regression.fit import Fit
from foretell.regression.prediction import Prediction, Rows
from foretell.settings import SMALLEST_FLOAT
from tiny import on_host

ENSEMBLE = Ensemble(members=3, hidden=(5, 4), weight_decay=(0.1, 0.2, 0.3), logvar_penalty=0.07)
IN, OUT, ROWS = 3, 2, 4


def losses(ensemble):
    """The loss, and its likelihood part per member."""

    def pair(*args):
        total, passed = ensemble.loss(*args)
        return total, passed.error

    return on_host(pair)


loss = losses(ENSEMBLE)
gradient = on_host(jax.grad(ENSEMBLE.loss, has_aux=True))
squash = on_host(lambda *args: jnp.log(bounded_variance(*args)))
predicted = on_host(predict)
EQUAL = np.full(ROWS, 1 / ROWS, np.float32)


def trained_params(flags, seed=0, *, probabilistic=True):
    """As after training: no bias is zero, and the bounds differ between outputs."""
    rng, sizes = np.random.default_rng(seed), (IN, 5, 4, (1 + probabilistic) * OUT + flags)
    shapes = list(itertools.pairwise(sizes))
    array = lambda *shape: jnp.asarray(np.float32(rng.normal(0, 0.5, shape)))  # noqa: E731
    weights = tuple(array(3, *shape) for shape in shapes)
    biases = tuple(array(3, 1, out) for _, out in shapes)
    high, low = (jnp.asarray(np.float32(bound)) for bound in ([0.5, 1.0], [-3.0, -2.0]))
    return jax.device_get(EnsembleParams(MLP(weights, biases, "silu"), high, low, probabilistic))


def batch(flags, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(3, ROWS, IN)), rng.normal(size=(3, ROWS, OUT))
    return np.float32(x), np.float32(y), rng.random((3, ROWS, flags)) < 0.5


def softplus(x):
    return np.log1p(np.exp(x))


def by_hand(params, member, row):
    """Mean, log-variance and logits of one member for one row."""
    params, h = jax.tree.map(np.float64, (params, row))
    for i, (weight, bias) in enumerate(zip(params.network.weights, params.network.biases, strict=True)):
        h = h @ weight[member] + bias[member, 0]
        h = h / (1 + np.exp(-h)) if i < 2 else h
    low, high = params.min_logvar, params.max_logvar
    logvar = high - softplus(high - h[OUT : 2 * OUT])
    return h[:OUT], low + softplus(logvar - low), h[2 * OUT :]


def loss_by_hand(params, x, y, flags, rows):
    """The loss on the first `rows` rows, and its likelihood part per member."""
    (x, y, flags), likelihood = jax.tree.map(np.asarray, (x, y, flags)), 0.0
    for member in range(3):
        for row in range(rows):
            mean, logvar, logits = by_hand(params, member, x[member, row])
            for j in range(OUT):
                error = mean[j] - y[member, row, j]
                likelihood += (error**2 * np.exp(-logvar[j]) + logvar[j]) / (rows * OUT)
            for j, logit in enumerate(logits):
                probability = 1 / (1 + np.exp(-logit))
                likelihood -= np.log(probability if flags[member, row, j] else 1 - probability) / rows
    decay = sum(0.5 * d * np.square(w).sum() for d, w in zip((0.1, 0.2, 0.3), params.network.weights, strict=True))
    bounds = 0.07 * (np.sum(params.max_logvar) - np.sum(params.min_logvar))
    return likelihood + decay + bounds, likelihood / 3


@pytest.mark.parametrize(
    ("raw", "expected"), [(-20, -9.999955), (-5, -4.997336), (0, -0.474004), (0.5, -0.193092), (5, 0.488980)]
)
def test_bounded_logvar(raw, expected):
    found = squash(np.float32([raw]), np.float32([-10.0]), np.float32([0.5]))
    assert float(found[0]) == pytest.approx(expected, abs=2e-6)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.floats(-1e6, 1e6, width=32), st.floats(-20, 0, width=32), st.floats(0.5, 20, width=32))
def test_bounded_logvar_stays_near_its_bounds(raw, low, gap):
    found = float(squash(np.float32([raw]), np.float32([low]), np.float32([low + gap]))[0])
    # Two softplus in a row: the upper bound is exceeded by what the lower one pushes up.
    assert low - 1e-4 <= found <= low + np.log1p(np.exp(gap)) + 1e-4


def test_the_default_is_the_papers():
    ensemble = Ensemble()
    assert (ensemble.members, ensemble.hidden) == (5, (500, 500, 500))
    assert ensemble.weight_decay == (1e-4, 2.5e-4, 2.5e-4, 5e-4)
    assert (ensemble.logvar_init, ensemble.logvar_penalty) == ((-10.0, 0.5), 0.01)
    assert not ensemble.scale_targets


def test_a_fresh_ensemble():
    state = on_host(lambda: ENSEMBLE.init(jax.random.key(0), IN, OUT, flags=1))()
    assert [w.shape for w in state.params.network.weights] == [(3, 3, 5), (3, 5, 4), (3, 4, 2 * OUT + 1)]
    np.testing.assert_array_equal(state.params.max_logvar, [0.5, 0.5])
    np.testing.assert_array_equal(state.params.min_logvar, [-10, -10])
    for normalizer, size in ((state.inputs, IN), (state.targets, OUT)):
        np.testing.assert_array_equal(normalizer.mean, np.zeros(size))
        np.testing.assert_array_equal(normalizer.std, np.ones(size))


@pytest.mark.parametrize("flags", [0, 1])
def test_predict_equals_a_loop_over_members_and_rows(flags):
    params, (x, _, _) = trained_params(flags), batch(flags)
    found = predicted(params, x)
    for member in range(3):
        for row in range(ROWS):
            logs = found._replace(variance=np.log(found.variance))
            for a, b in zip(logs, by_hand(params, member, x[member, row]), strict=True):
                np.testing.assert_allclose(a[member, row], b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flags", [0, 2])
def test_loss_equals_a_plain_loop(flags):
    params, (x, y, f) = trained_params(flags), batch(flags)
    found = loss(params, x, y, f, EQUAL)
    np.testing.assert_allclose(found, loss_by_hand(params, x, y, f, ROWS), rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_beta_weights_each_terms_gradient_by_its_variance_to_that_power(beta):
    params, (x, y, flags) = trained_params(0), batch(0)
    ensemble = ENSEMBLE.model_copy(update={"nll_beta": beta})
    gradient = on_host(jax.grad(ensemble.loss, has_aux=True))(params, x, y, flags, EQUAL)[0]
    mean, variance, _ = predicted(params, x)
    by_hand = (variance ** (beta - 1) * 2 * (mean - y)).sum(1) / (ROWS * OUT)
    np.testing.assert_allclose(gradient.network.biases[-1][:, 0, :OUT], by_hand, rtol=2e-4, atol=1e-6)


def test_masked_rows_count_for_nothing():
    params, (x, y, f) = trained_params(1), batch(1)
    weight = np.float32([0.5, 0.5, 0.0, 0.0])
    found = loss(params, x, y, f, weight)
    np.testing.assert_allclose(found, loss_by_hand(params, x, y, f, rows=2), rtol=1e-5)
    masked = (np.arange(ROWS) >= 2)[:, None]
    other = loss(params, x + np.float32(3 * masked), y + np.float32(3 * masked), f ^ masked, weight)
    np.testing.assert_array_equal(other, found)


def test_biases_are_not_decayed():
    params, (x, y, f) = trained_params(0), batch(0)
    grads = gradient(params, x, y, f, 0 * EQUAL)[0]  # without rows, decay alone acts on the network
    assert not any(g.any() for g in grads.network.biases)
    for g, decay, w in zip(grads.network.weights, (0.1, 0.2, 0.3), params.network.weights, strict=True):
        np.testing.assert_allclose(g, decay * w, rtol=1e-5)


number = st.just(0.0) | st.floats(SMALLEST_FLOAT, 1.0)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(number, st.integers(1, 6))
def test_one_number_is_the_decay_of_all_layers(decay, hidden):
    assert Ensemble(hidden=(4,) * hidden, weight_decay=decay).layer_decay == (decay,) * (hidden + 1)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(number, min_size=2, max_size=7))
def test_as_many_decays_as_there_are_layers_stay_what_they_are(decays):
    """To the bit: presets and older runs train as they did."""
    assert Ensemble(hidden=(4,) * (len(decays) - 1), weight_decay=decays).layer_decay == tuple(decays)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.lists(number, min_size=1, max_size=7), st.integers(1, 6))
def test_a_list_of_another_length_is_stretched_linearly_with_its_ends_kept(decays, hidden):
    found = Ensemble(hidden=(4,) * hidden, weight_decay=decays).layer_decay
    assert len(found) == hidden + 1
    assert found[0] == decays[0]
    if len(decays) > 1:
        assert found[-1] == decays[-1]
    for layer, decay in enumerate(found):
        place = layer / hidden * (len(decays) - 1)
        before, share = int(place), place % 1
        after = min(before + 1, len(decays) - 1)
        assert decay == pytest.approx((1 - share) * decays[before] + share * decays[after], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("decays", "hidden", "expected"),
    [
        ((1.0, 4.0), 3, (1.0, 2.0, 3.0, 4.0)),
        ((1.0, 2.0, 3.0, 8.0, 5.0), 2, (1.0, 3.0, 5.0)),
        ((1e-4, 2.5e-4, 2.5e-4, 5e-4), 1, (1e-4, 5e-4)),
        ((0.5,), 2, (0.5, 0.5, 0.5)),
    ],
)
def test_known_stretched_decays(decays, hidden, expected):
    assert Ensemble(hidden=(4,) * hidden, weight_decay=decays).layer_decay == pytest.approx(expected, rel=1e-12)


def test_a_stretched_decay_is_that_of_the_loss():
    params, (x, y, f) = trained_params(0), batch(0)
    stretched = ENSEMBLE.model_copy(update={"weight_decay": (0.1, 0.3)})
    weight = EQUAL
    np.testing.assert_allclose(losses(stretched)(params, x, y, f, weight), loss(params, x, y, f, weight))


def test_members_learn_independently():
    params, (x, y, f) = trained_params(0), batch(0)
    weight = EQUAL
    before = gradient(params, x, y, f, weight)[0].network.weights
    other = y + np.float32(np.arange(3) == 1)[:, None, None]
    after = gradient(params, x, other, f, weight)[0].network.weights
    for a, b in zip(before, after, strict=True):
        assert not np.allclose(a[1], b[1])
        np.testing.assert_allclose(a[[0, 2],], b[[0, 2],], rtol=1e-5, atol=1e-6)


DETERMINISTIC = ENSEMBLE.model_copy(update={"probabilistic": False})


def deterministic_by_hand(params, member, row):
    """Mean and logits of one member for one row."""
    params, h = jax.tree.map(np.float64, (params, row))
    for i, (weight, bias) in enumerate(zip(params.network.weights, params.network.biases, strict=True)):
        h = h @ weight[member] + bias[member, 0]
        h = h / (1 + np.exp(-h)) if i < 2 else h
    return h[:OUT], h[OUT:]


@pytest.mark.parametrize("flags", [0, 1])
def test_deterministic_networks_predict_means_and_logits_without_variance(flags):
    params, (x, _, _) = trained_params(flags, probabilistic=False), batch(flags)
    found = predicted(params, x)
    np.testing.assert_array_equal(found.variance, np.zeros((3, ROWS, OUT)))
    for member in range(3):
        for row in range(ROWS):
            mean, logits = deterministic_by_hand(params, member, x[member, row])
            np.testing.assert_allclose(found.mean[member, row], mean, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found.logits[member, row], logits, rtol=1e-5, atol=1e-5)


raw_of = on_host(
    lambda ensemble, *state: ensemble.predictor(ensemble.ready(EnsembleState(*state[:3])))(state[3]),
    0,
)


def test_a_predictor_takes_and_gives_what_the_data_are_in():
    """Inputs are standardised within the first layer; means and variances are in the targets' own units."""
    rng, params, x = np.random.default_rng(4), trained_params(1), batch(1)[0]
    inputs = Normalizer(np.float32(rng.normal(size=IN)), np.float32(rng.uniform(0.5, 2, IN)))
    targets = Normalizer(np.float32([0.5, -1.0]), np.float32([2.0, 3.0]))
    found = raw_of(ENSEMBLE, params, inputs, targets, x)
    mean, variance, logits = predicted(params, (x - inputs.mean) / inputs.std)
    np.testing.assert_allclose(found.mean, mean * targets.std + targets.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.variance, variance * targets.std**2, rtol=1e-4)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-5)


def test_scaled_targets_give_deterministic_networks_no_variance():
    params = trained_params(0, probabilistic=False)
    targets = Normalizer(np.zeros(OUT, np.float32), np.float32([2.0, 3.0]))
    inputs, x = Normalizer(np.zeros(IN, np.float32), np.ones(IN, np.float32)), batch(0)[0]
    found = raw_of(DETERMINISTIC, params, inputs, targets, x)
    np.testing.assert_allclose(found.mean, predicted(params, x).mean * targets.std, rtol=1e-5)
    assert (found.variance == 0).all()


@pytest.mark.parametrize("flags", [0, 1])
def test_deterministic_networks_minimise_half_the_squared_error_and_decay_alone(flags):
    params, (x, y, f) = trained_params(flags, probabilistic=False), batch(flags)
    error = 0.0
    for member in range(3):
        for row in range(ROWS):
            mean, logits = deterministic_by_hand(params, member, x[member, row])
            error += 0.5 * np.square(mean - y[member, row]).sum() / (ROWS * OUT)
            for logit, flag in zip(logits, f[member, row], strict=True):
                error += np.log1p(np.exp(-logit if flag else logit)) / ROWS
    decay = sum(0.5 * d * np.square(w).sum() for d, w in zip((0.1, 0.2, 0.3), params.network.weights, strict=True))
    found = losses(DETERMINISTIC)(params, x, y, f, EQUAL)
    np.testing.assert_allclose(found, (error + decay, error / 3), rtol=1e-5)


@pytest.mark.parametrize("flags", [0, 2])
@pytest.mark.parametrize(("ensemble", "columns"), [(ENSEMBLE, 2 * OUT), (DETERMINISTIC, OUT)], ids=["PE", "DE"])
def test_only_probabilistic_networks_have_outputs_for_a_variance(ensemble, columns, flags):
    state = jax.eval_shape(lambda: ensemble.init(jax.random.key(0), IN, OUT, flags))
    assert state.params.network.weights[-1].shape == (3, 4, columns + flags)
    assert state.params.probabilistic == ensemble.probabilistic


@pytest.mark.parametrize(
    ("members", "probabilistic", "name"), [(1, False, "D"), (1, True, "P"), (2, False, "DE"), (5, True, "PE")]
)
def test_the_types_of_model_have_the_papers_names(members, probabilistic, name):
    assert Ensemble(members=members, probabilistic=probabilistic).name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_decay": ()}, "weight_decay"),
        ({"weight_decay": (0.1, -0.2)}, "weight_decay"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"hidden": ()}, "hidden"),
        ({"logvar_init": (0.5, -10)}, "low < high"),
        ({"members": 0}, "members"),
    ],
)
@pytest.mark.long
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(**{**ENSEMBLE.model_dump(), **change})


def test_a_constant_variance_is_a_number_for_each_member_and_output():
    """Numbers of the specification of DHMBPO, section 7.2; the loss here is twice that, and rows weigh the same."""
    ensemble = Ensemble(members=2, hidden=(4,), variance="constant", weight_decay=0.0)
    fresh = ensemble.init(jax.random.key(0), 3, 2, 1).params
    assert fresh.network.biases[-1].shape[-1] == 3 and fresh.logvar.shape == (2, 1, 2)
    mean = jnp.array([[[0.1, 0.2], [0.0, -0.3]], [[0.3, -0.1], [0.4, 0.0]]])
    y = jnp.array([[[0.0, 0.2001], [0.2, -0.3002]], [[0.0, 0.5], [0.2, -0.3]]])
    log_std = jnp.array([[[-0.5, -8.0]], [[0.2, -1.0]]])
    variance = jnp.broadcast_to(jnp.exp(2.0 * log_std), mean.shape)
    found = ensemble._error(Prediction(mean, variance, jnp.zeros((2, 2, 0))), y).sum(-1)
    np.testing.assert_allclose(0.5 * found, [[-7.349733, -7.175667], [0.560194, -0.454086]], rtol=1e-4)


def test_the_loss_of_mbpo():
    """Section 7.1: summed over members, with the distance of the bounds, without a factor 1/2."""
    ensemble = Ensemble(members=2, hidden=(4,), weight_decay=0.0)
    raw = jnp.array([[[0.0, 3.0], [-12.0, -1.0]], [[0.5, -10.0], [2.0, 0.0]]])
    mean = jnp.array([[[0.1, 0.2], [0.0, -0.3]], [[0.3, -0.1], [0.4, 0.0]]])
    y = jnp.broadcast_to(jnp.array([[0.0, 0.5], [0.2, -0.3]]), (2, 2, 2))
    variance = bounded_variance(raw, jnp.full(2, -10.0), jnp.full(2, 0.5))
    none = jnp.zeros((2, 2, 0))
    likelihood = ensemble._likelihood(Prediction(mean, variance, none), y, none > 0, jnp.full(2, 0.5))
    np.testing.assert_allclose(likelihood + 0.01 * 21.0, 1180.312163, rtol=1e-5)


def test_a_constant_variance_moves_faster_than_the_weights():
    """Adam's first steps have the size of its step size: so many of them lower the log-variance by so much in all."""
    rows = Rows(jnp.ones((4, 2)), jnp.zeros((4, 2)), jnp.zeros((4, 0), bool))

    def found(rate):
        ensemble = Ensemble(members=2, variance="constant", variance_rate=rate, hidden=(4,), weight_decay=0.0)
        settings = Fit(learning_rate=1e-3, batch_size=4, epochs=5, bootstrap=False)
        state = ensemble.init(jax.random.key(0), 2, 2, 0)
        state = settings.fit(jax.random.key(1), ensemble, state, settings.start(state), rows, jnp.int32(4)).state
        return ensemble.predictor(ensemble.ready(state))(jnp.ones((2, 1, 2))).variance

    for rate in (1.0, 20.0):
        variance = on_host(found, 0)(rate)
        np.testing.assert_allclose(np.log(variance), -5 * 1e-3 * rate, rtol=0.1)
