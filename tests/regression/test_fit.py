"""Training an ensemble on a growing data set."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.nn import Normalizer
from foretell.regression import ensemble as networks
from foretell.regression.batches import minibatch
from foretell.regression.ensemble import Ensemble, EnsembleState, predict
from foretell.regression.fit import Fit, fit
from foretell.regression.prediction import Rows, mean_square_error
from foretell.regression.updates import update
from tiny import on_host

PAIR = Ensemble(members=2, hidden=(8,), weight_decay=(1e-3, 2e-3))
SOLO = PAIR.model_copy(update={"members": 1})
CAPACITY = 40

# Every pair of an ensemble and one of these is compiled once, so the tests share a few.
FULL_BATCHES = Fit(batch_size=32, epochs=4, bootstrap=False)
BOOTSTRAPPED_BATCHES = Fit(batch_size=32, epochs=4)
SMALL_BATCHES = Fit(batch_size=8, epochs=3, bootstrap=False)
HOLDOUT = Fit(batch_size=1, epochs=2, bootstrap=False, holdout=0.35, log_rows=4)
BOOTSTRAPPED_HOLDOUT = HOLDOUT.model_copy(update={"bootstrap": True})

traces = []


def traced_fit(*args):
    traces.append(args)
    return fit(*args)


compiled_fit = on_host(traced_fit, 1, 2)
compiled_minibatch = on_host(minibatch, 3)
compiled_error = on_host(lambda s, *data: mean_square_error(PAIR.predictor(PAIR.ready(s)), PAIR.members, *data))
compiled_statistics = on_host(lambda ensemble, how, *args: how.standardized(ensemble, *args), 0, 1)
predicted = on_host(predict)
compiled_step = on_host(lambda ensemble, how, *args: how.step(ensemble, *args), 0, 1)


@cache
def fresh(ensemble, inputs):
    return on_host(
        lambda: (lambda state: (state, Fit().start(state), {}))(ensemble.init(jax.random.key(9), inputs, 1, 0))
    )()


def train(rows, size, how, *, ensemble=PAIR, after=None, key=0):
    """A first fit, or one that continues `after` another."""
    state, carried, _ = fresh(ensemble, rows.x.shape[1]) if after is None else after
    return compiled_fit(jax.random.key(key), ensemble, how, state, carried, rows, np.int32(size))


def padded(x, y, capacity=CAPACITY):
    """Rows beyond the data are garbage that must not matter."""
    full = [np.full((capacity, a.shape[1]), 777, np.float32) for a in (x, y)]
    for a, b in zip(full, (x, y), strict=True):
        a[: len(b)] = b
    return Rows(*full, np.zeros((capacity, 0), bool))


def regression(count, seed=0):
    """Two inputs far from standardised, one smooth target."""
    rng = np.random.default_rng(seed)
    x = rng.normal([3.0, -50.0], [2.0, 10.0], (count, 2))
    return padded(x, np.sin(0.5 * x[:, :1]) + 0.02 * x[:, 1:])


def coded(count, capacity=CAPACITY):
    """Inputs are powers of two, so that the mean of a subset tells which rows are in it."""
    x = np.stack([2.0 ** np.arange(count), np.ones(count)], -1)
    return padded(x, np.random.default_rng(0).normal(size=(count, 1)), capacity)


def rows_in(fitted, kept):
    """The rows of `coded` that a fit was standardised by."""
    code = round(float(fitted.state.inputs.mean[0]) * kept)
    return [i for i in range(20) if code >> i & 1]


def with_targets(rows, where, value):
    y = rows.y.copy()
    y[where] = value
    return rows._replace(y=y)


def assert_close(a, b, rtol=1e-4, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def adam_steps(fitted):
    return int(fitted.carried.opt_state[0].count)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.integers(1, 10_000), st.integers(1, 64), st.integers(1, 7), st.integers(0, 500), st.none() | st.integers(0, 900)
)
def test_the_number_of_gradient_steps(size, batch_size, epochs, least, extra):
    most = None if extra is None else max(least + extra, 1)
    how = Fit(batch_size=batch_size, epochs=epochs, min_steps=least, max_steps=most)
    expected = max(epochs * int(np.ceil(size / batch_size)), least)
    assert how.steps(jnp.array(size), jnp.array(size)) == (expected if most is None else min(expected, most))


def test_fewest_steps_above_most_are_refused():
    with pytest.raises(ValueError, match="below min_steps"):
        Fit(min_steps=10, max_steps=9)


def epoch_of(epoch, size, batch_size, seed=0):
    """What `minibatch` visits in an epoch: places in each member's sample, and the weights of every batch."""
    keys = jax.random.split(jax.random.key(seed), 3)
    batches = -(-size // batch_size)
    visited, weights = [], []
    for i in range(epoch * batches, (epoch + 1) * batches):
        index, weight = map(np.asarray, compiled_minibatch(np.int32(i), keys, np.int32(size), batch_size))
        visited.append(index[:, weight > 0])
        weights.append(weight)
    return np.concatenate(visited, 1), weights


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(1, 50), st.integers(0, 5), st.integers(0, 2**31), st.sampled_from([1, 8]))
def test_an_epoch_visits_each_position_of_a_members_sample_exactly_once(size, epoch, seed, batch_size):
    visited, weights = epoch_of(epoch, size, batch_size, seed)
    for row in visited:
        assert sorted(row) == list(range(size))
    counts = [batch_size] * (size // batch_size) + [size % batch_size] * (size % batch_size > 0)
    for weight, count in zip(weights, counts, strict=True):
        np.testing.assert_allclose(weight, np.where(np.arange(batch_size) < count, 1 / count, 0), rtol=1e-6)


def test_epochs_and_members_have_their_own_order():
    first, second = (epoch_of(epoch, 50, 8)[0] for epoch in (0, 1))
    for a, b in ((first[0], first[1]), (first[1], first[2]), (first[0], second[0])):
        assert (a == b).mean() < 0.3


@on_host
def adam_step(params, moments, batch, pace):
    grads, (likelihood, _) = jax.grad(PAIR.loss, has_aux=True)(params, *batch, jnp.full(20, 0.05))
    updates, moments = optax.adam(1e-3, b1=0.9, b2=0.999, eps=1e-8).update(grads, moments)
    return optax.apply_updates(params, optax.tree.scale(pace, updates)), moments, likelihood


def adam_by_hand(paces):
    """Adam on 20 rows, standardised in NumPy: parameters, moments and likelihood after each step of these lengths."""
    rows = regression(20)
    x = np.float64(rows.x[:20])
    x, y = np.float32((x - x.mean(0)) / x.std(0)), rows.y[:20]
    batch = [np.stack([a, a]) for a in (x, y, np.zeros((20, 0), bool))]
    state, carried, _ = fresh(PAIR, 2)
    params, moments, steps = state.params, carried.opt_state, []
    for pace in paces:
        params, moments, likelihood = adam_step(params, moments, batch, np.float32(pace))
        steps.append((params, moments, float(likelihood)))
    return steps


@pytest.fixture(scope="module")
def by_hand():
    return adam_by_hand(np.ones(8))


@pytest.mark.long
def test_full_batches_equal_plain_adam_on_standardised_data(by_hand):
    fitted = train(regression(20), 20, FULL_BATCHES)
    assert_close((fitted.state.params, fitted.carried.opt_state), by_hand[3][:2])


@pytest.mark.long
def test_a_second_fit_continues_the_parameters_and_the_moments(by_hand):
    first = train(regression(20), 20, FULL_BATCHES)
    second = train(regression(20), 20, FULL_BATCHES, after=first, key=1)
    assert_close((second.state.params, second.carried.opt_state), by_hand[7][:2])


@pytest.mark.long
def test_annealed_steps_shrink_along_a_cosine_within_each_call():
    how = FULL_BATCHES.model_copy(update={"anneal": True})
    paces = [1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]  # the cosine at 0, 45, 90 and 135 degrees
    expected = adam_by_hand(paces + paces)
    first = train(regression(20), 20, how)
    assert_close((first.state.params, first.carried.opt_state), expected[3][:2])
    second = train(regression(20), 20, how, after=first, key=1)
    assert_close((second.state.params, second.carried.opt_state), expected[7][:2])


def test_steps_are_not_annealed_unless_asked():
    assert not Fit().anneal


@pytest.mark.long
def test_the_training_loss_is_the_mean_likelihood_of_the_steps(by_hand):
    loss = train(regression(20), 20, FULL_BATCHES).metrics["train_loss"]
    assert float(loss) == pytest.approx(np.mean([step[2] for step in by_hand[:4]]), rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("size", [3, 17, 33])
def test_an_epoch_has_a_short_last_batch(size):
    fitted = train(regression(size), size, SMALL_BATCHES, ensemble=SOLO)
    assert adam_steps(fitted) == fitted.metrics["gradient_steps"] == 3 * np.ceil(size / 8)
    assert fitted.metrics["skipped_steps"] == 0


@pytest.mark.long
def test_growing_data_never_trace_again():
    first = train(regression(9), 9, SMALL_BATCHES, ensemble=SOLO)
    before = len(traces)
    for size in (10, 25, CAPACITY):
        first = train(regression(size), size, SMALL_BATCHES, ensemble=SOLO, after=first)
    assert len(traces) == before


@pytest.mark.long
def test_every_fit_standardises_inputs_by_all_rows_so_far():
    first = train(regression(33), 33, BOOTSTRAPPED_BATCHES)
    other = regression(20, seed=5)
    second = train(other, 20, BOOTSTRAPPED_BATCHES, after=first)
    for fitted, x in ((first, regression(33).x[:33]), (second, other.x[:20])):
        assert_close(fitted.state.inputs, Normalizer(x.mean(0, np.float64), x.std(0, np.float64)), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("scaled", [False, True])
def test_statistics_for_single_steps_are_those_of_a_fit(scaled):
    """Nothing else changes."""
    ensemble, rows = PAIR.model_copy(update={"scale_targets": scaled}), regression(33)
    state, carried, _ = fresh(ensemble, 2)
    found = compiled_statistics(ensemble, FULL_BATCHES, state, carried, rows, np.arange(len(rows.x)) < 20)
    assert_close(found.params, state.params, rtol=0, atol=0)
    x, y = (np.float64(a[:20]) for a in (rows.x, rows.y))
    assert_close(found.inputs, Normalizer(x.mean(0), x.std(0)), rtol=1e-6)
    assert_close(found.targets, Normalizer(np.zeros(1), y.std(0) if scaled else np.ones(1)), rtol=1e-6)


def stepped(rows, *, ensemble=PAIR, how=FULL_BATCHES, after=None):
    """One step on rows that each member shuffles in its own way."""
    state, carried, _ = fresh(ensemble, 2) if after is None else after
    index = np.stack([np.random.default_rng(m).permutation(20) for m in range(ensemble.members)])
    return compiled_step(ensemble, how, state, carried, jax.tree.map(lambda a: a[index], rows))


def standardised_by(rows, size, how=FULL_BATCHES, after=None):
    state, carried, _ = fresh(PAIR, 2) if after is None else after
    return compiled_statistics(PAIR, how, state, carried, rows, np.arange(len(rows.x)) < size), carried, {}


@pytest.mark.long
def test_a_single_step_is_one_of_adam_on_standardised_data(by_hand):
    rows = regression(20)
    found = stepped(rows, after=standardised_by(rows, 20))
    assert_close((found.state.params, found.carried.opt_state), by_hand[0][:2])
    assert float(found.metrics["model_loss"]) == pytest.approx(by_hand[0][2], rel=1e-5)
    assert found.metrics["model_skipped"] == 0


def test_single_steps_go_on_from_each_other_and_from_a_fit(by_hand):
    rows = regression(20)
    found = train(rows, 20, FULL_BATCHES)
    for _ in range(2):
        found = stepped(rows, after=found)
    assert_close((found.state.params, found.carried.opt_state), by_hand[5][:2])


@pytest.mark.parametrize("bad", [np.nan, 1e30])
def test_a_single_step_that_is_not_finite_is_skipped_and_counted(bad):
    rows = with_targets(regression(20), 5, bad)
    before = standardised_by(rows, 20)
    after = stepped(rows, after=before)
    assert after.metrics["model_skipped"] == 1 and after.metrics["model_loss"] == 0
    assert_close((after.state.params, after.carried.opt_state), (before[0].params, before[1].opt_state), rtol=0, atol=0)


def test_first_statistics_stay_once_something_was_learned():
    how, rows, other = FULL_BATCHES.model_copy(update={"statistics": "first"}), regression(20), regression(33, seed=5)
    once = standardised_by(rows, 20, how)
    again = standardised_by(other, 33, how, once)
    assert (again[0].inputs.mean != once[0].inputs.mean).all()  # nothing was learned yet
    learned = stepped(rows, how=how, after=once)
    assert_close(standardised_by(other, 33, how, learned)[0].inputs, once[0].inputs, rtol=1e-6)


def test_targets_are_not_standardised_by_default():
    assert_close(train(regression(20), 20, FULL_BATCHES).state.targets, Normalizer(np.zeros(1), np.ones(1)), rtol=0)


@pytest.fixture(scope="module")
def scaled():
    """Deterministic networks trained on small targets, which they divide by their standard deviation."""
    rows = regression(CAPACITY)
    rows = rows._replace(y=np.float32(1e-3 * rows.y + 5e-4))
    ensemble = PAIR.model_copy(update={"scale_targets": True, "probabilistic": False})
    how = Fit(learning_rate=1e-2, min_steps=400)
    return ensemble, rows, train(rows, CAPACITY, how, ensemble=ensemble)


@pytest.mark.long
def test_scaled_targets_are_learned_in_their_own_units(scaled):
    _, rows, fitted = scaled
    assert fitted.metrics["gradient_steps"] == adam_steps(fitted) == 400
    assert_close(fitted.state.targets, Normalizer(np.zeros(1), rows.y.std(0, np.float64)), atol=0)
    assert fitted.metrics["train_mse"] < 0.1 * np.var(rows.y)


def test_the_error_is_in_the_targets_units_and_averaged_by_weight():
    params = fresh(PAIR, 2)[0].params
    inputs, targets = Normalizer(np.float32([1, 2]), np.float32([3, 4])), Normalizer(np.float32([0.5]), np.float32([3]))
    state = EnsembleState(params, inputs, targets)
    rows, weight = jax.tree.map(lambda a: a[:6], regression(6)), np.float32([1, 0, 1, 1, 0, 0])
    x = (rows.x - inputs.mean) / inputs.std
    mean = 3 * predicted(params, np.stack([x, x])).mean + 0.5
    expected = np.mean([(mean[b, i] - rows.y[i]) ** 2 for b in (0, 1) for i in (0, 2, 3)])
    assert float(compiled_error(state, rows, weight)) == pytest.approx(expected, rel=1e-5)
    assert compiled_error(state, rows, 0 * weight) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, 1e22])
@pytest.mark.long
def test_steps_on_a_row_that_is_not_finite_are_skipped_and_counted(bad):
    rows = with_targets(regression(32), 5, bad)
    fitted = train(rows, 32, SMALL_BATCHES, ensemble=SOLO)
    assert (fitted.metrics["gradient_steps"], fitted.metrics["skipped_steps"]) == (12, 3)
    assert adam_steps(fitted) == 9
    assert finite(fitted.state) and finite(fitted.carried.opt_state)


def test_skipped_steps_do_not_count_in_the_training_loss():
    rows = padded(np.ones((32, 2)), np.full((32, 1), 3.0))  # every batch has the same loss
    clean = train(rows, 32, SMALL_BATCHES, ensemble=SOLO).metrics
    spoilt = train(with_targets(rows, 5, np.nan), 32, SMALL_BATCHES, ensemble=SOLO).metrics
    assert spoilt["skipped_steps"] == 3
    assert float(spoilt["train_loss"]) == pytest.approx(float(clean["train_loss"]), rel=0.02)


def test_skipped_steps_leave_parameters_and_moments_as_they_were():
    rows = regression(20)
    before = train(rows, 20, FULL_BATCHES)
    after = train(with_targets(rows, 5, np.nan), 20, FULL_BATCHES, after=before)
    assert after.metrics["skipped_steps"] == 4
    assert_close(
        (after.state.params, after.carried.opt_state), (before.state.params, before.carried.opt_state), rtol=0, atol=0
    )


def gap_between_members(how, key=0):
    """After a fit of members that start equal."""
    state, opt_state, _ = fresh(PAIR, 2)
    twins = jax.tree.map(lambda a: np.stack([a[0], a[0]]), state.params.network)
    start = (eqx.tree_at(lambda s: s.params.network, state, twins), opt_state, {})
    weight = train(regression(20), 20, how, after=start, key=key).state.params.network.weights[0]
    return np.asarray(weight[0] - weight[1])


@pytest.mark.long
def test_gradients_whose_squares_alone_are_not_finite_count_as_zero():
    """The loss is 5e35; squares of the gradients of weights, 1e18 times 1e3, overflow, those of biases do not."""
    network = Ensemble(members=1, hidden=(4,), weight_decay=0.0, probabilistic=False)
    state, optimizer = fresh(network, 2)[0], Fit().optimizer
    batch = Rows(
        *(np.full((1, 1, n), value, np.float32) for n, value in ((2, 1e3), (1, 1e18))), np.zeros((1, 1, 0), bool)
    )
    step = on_host(lambda s, *args: update(network, optimizer, s, optimizer.init(s.params), *args, 1.0, None))
    after, opt_state, *_ = step(state, batch, np.ones(1, np.float32))
    params, stepped = state.params, after.params
    assert finite((stepped, opt_state))
    np.testing.assert_array_equal(stepped.network.weights[1], params.network.weights[1])
    assert (stepped.network.biases[1] != params.network.biases[1]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.long
def test_gradients_that_alone_are_not_finite_count_as_zero_and_are_reported(bad, monkeypatch):
    network = Ensemble(members=1, hidden=(4,), weight_decay=0.0, probabilistic=False)
    state, optimizer = fresh(network, 2)[0], Fit().optimizer
    batch = Rows(np.ones((1, 3, 2), np.float32), np.ones((1, 3, 1), np.float32), np.zeros((1, 3, 0), bool))

    @jax.custom_vjp
    def spoilt(x):
        return x

    spoilt.defvjp(lambda x: (x, None), lambda _, g: (g.at[0, 0].set(bad),))
    honest = networks.read
    dishonest = lambda *args: honest(*args)._replace(mean=spoilt(honest(*args).mean))  # noqa: E731
    monkeypatch.setattr(networks, "read", dishonest)
    step = on_host(lambda s, *args: update(network, optimizer, s, optimizer.init(s.params), *args, 1.0, None))
    stepped, opt_state, loss, ok = step(state, batch, np.ones(3, np.float32))
    assert finite((stepped, opt_state)) and not ok and loss == 0


@pytest.mark.long
def test_each_member_has_its_own_bootstrap_with_replacement():
    """In full batches the order of rows does not matter."""
    assert np.abs(gap_between_members(FULL_BATCHES)).max() < 1e-5
    assert np.abs(gap_between_members(BOOTSTRAPPED_BATCHES)).max() > 1e-3


@pytest.mark.long
@pytest.mark.parametrize("probabilistic", [True, False], ids=["P", "D"])
def test_a_single_network_trains_on_a_bootstrap_too(probabilistic):
    """It misses about a third of 20 rows; a bad one of those does no harm."""
    ensemble = SOLO.model_copy(update={"probabilistic": probabilistic})

    def harmful(how):
        bad = (with_targets(regression(20), row, np.nan) for row in range(20))
        return sum(train(rows, 20, how, ensemble=ensemble).metrics["skipped_steps"] > 0 for rows in bad)

    if probabilistic:  # the programs are compiled anyway
        assert harmful(SMALL_BATCHES) == 20
    assert 8 <= harmful(BOOTSTRAPPED_BATCHES) <= 17


@pytest.mark.long
def test_deterministic_networks_learn_the_mean_and_no_variance(scaled):
    ensemble, rows, fitted = scaled
    start = fresh(ensemble, 2)[0].params
    for name in ("min_logvar", "max_logvar"):
        np.testing.assert_array_equal(getattr(fitted.state.params, name), getattr(start, name))
    predict_raw = on_host(lambda state, x: ensemble.predictor(ensemble.ready(state))(x))
    prediction = predict_raw(fitted.state, np.stack([rows.x, rows.x]))
    assert np.square(prediction.mean - rows.y).mean() < 0.1 * np.var(rows.y)
    np.testing.assert_array_equal(prediction.variance, np.zeros((2, CAPACITY, 1)))


@pytest.mark.long
def test_each_member_has_its_own_order():
    assert np.abs(gap_between_members(HOLDOUT)).max() > 1e-3


def test_every_call_has_another_order():
    first, again, other = (train(regression(32), 32, SMALL_BATCHES, ensemble=SOLO, key=k).state for k in (0, 0, 1))
    assert_close(first, again, rtol=0, atol=0)
    weights = [state.params.network.weights[0] for state in (first, other)]
    assert np.abs(weights[0] - weights[1]).max() > 1e-4


@pytest.mark.long
def test_every_call_draws_another_bootstrap():
    gaps = [gap_between_members(BOOTSTRAPPED_BATCHES, key) for key in (0, 0, 1)]
    np.testing.assert_array_equal(gaps[0], gaps[1])
    assert np.abs(gaps[0] - gaps[2]).max() > 1e-3


@pytest.mark.long
def test_the_capacity_does_not_matter():
    small, large = (train(coded(20, capacity), 20, BOOTSTRAPPED_HOLDOUT) for capacity in (CAPACITY, 77))
    assert_close(small.state, large.state, rtol=1e-5)
    assert_close(small.metrics, large.metrics, rtol=1e-4)


@pytest.mark.parametrize(("size", "held"), [(2, 0), (10, 3), (20, 4)])
@pytest.mark.long
def test_the_holdout_is_a_share_of_the_rows_up_to_log_rows(size, held):
    fitted = train(coded(size), size, HOLDOUT)
    assert len(rows_in(fitted, size - held)) == size - held
    assert fitted.metrics["gradient_steps"] == 2 * (size - held)


@pytest.mark.long
def test_holdout_rows_are_drawn_anew_at_each_call():
    assert len({tuple(rows_in(train(coded(10), 10, HOLDOUT, key=k), 7)) for k in range(6)}) > 3


@pytest.mark.parametrize("how", [HOLDOUT, BOOTSTRAPPED_HOLDOUT], ids=["all rows", "bootstrap"])
@pytest.mark.long
def test_holdout_rows_are_not_trained_on(how):
    rows = coded(10)
    clean = train(rows, 10, how)
    held = sorted(set(range(10)) - set(rows_in(clean, 7)))
    poisoned = train(with_targets(rows, held, np.nan), 10, how)
    assert poisoned.metrics["skipped_steps"] == 0
    assert_close(poisoned.state, clean.state, rtol=0, atol=0)


def test_all_other_rows_are_trained_on():
    rows = coded(10)
    for row in rows_in(train(rows, 10, HOLDOUT), 7):
        poisoned = train(with_targets(rows, row, np.nan), 10, HOLDOUT)
        assert 2 <= poisoned.metrics["skipped_steps"] <= 4  # two epochs; the two members may meet it in one step


def test_the_holdout_error_is_that_of_the_held_rows():
    rows = coded(10)
    fitted = train(rows, 10, HOLDOUT)
    held = np.array(sorted(set(range(10)) - set(rows_in(fitted, 7))))
    expected = compiled_error(fitted.state, jax.tree.map(lambda a: a[held], rows), np.ones(3, np.float32))
    assert float(fitted.metrics["holdout_mse"]) == pytest.approx(float(expected), rel=1e-5)


def test_the_training_error_is_that_of_trained_rows():
    rows = coded(10)
    for key in range(5):
        held = sorted(set(range(10)) - set(rows_in(train(rows, 10, HOLDOUT, key=key), 7)))
        fitted = train(with_targets(rows, held, 1e6), 10, HOLDOUT, key=key)
        assert 0 < fitted.metrics["train_mse"] < 1e3


@pytest.fixture(scope="module")
def noisy():
    """A fit of `y = x + noise`, whose standard deviation is 0.05 on the left and 0.5 on the right."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (600, 1))
    y = x + np.where(x < 0, 0.05, 0.5) * rng.normal(size=x.shape)
    ensemble = Ensemble(members=2, hidden=(16, 16), weight_decay=0.0)
    how = Fit(learning_rate=5e-3, epochs=1000, max_steps=900)
    return train(padded(x, y, 600), 600, how, ensemble=ensemble)


@pytest.mark.long
def test_a_fit_learns_the_mean_and_the_noise_of_each_region(noisy):
    x = np.float32([[-0.7], [-0.4], [0.4], [0.7]])
    x_standard = np.broadcast_to((x - noisy.state.inputs.mean) / noisy.state.inputs.std, (2, 4, 1))
    prediction = predicted(noisy.state.params, x_standard)
    np.testing.assert_allclose(prediction.mean[..., 0].mean(0), x[:, 0], atol=0.15)
    share = np.sqrt(prediction.variance[..., 0]).mean(0) / [0.05, 0.05, 0.5, 0.5]
    assert 0.6 < share.min() <= share.max() < 1.6
    assert float(noisy.metrics["train_mse"]) == pytest.approx(0.5 * (0.05**2 + 0.5**2), rel=0.15)


@pytest.mark.long
def test_most_steps_end_a_fit(noisy):
    assert adam_steps(noisy) == noisy.metrics["gradient_steps"] == 900
