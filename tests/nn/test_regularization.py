"""Batch norm in training and prediction, and dropout, against NumPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.nn import Normalizer, init_mlp
from foretell.nn.mlp import fold_normalizer
from foretell.nn.regularization import Moments, averaged, drop, fold_moments, no_moments, training_pass
from tiny import quick_jit

MEMBERS, ROWS, SIZES = 2, 7, (3, 5, 4, 2)


def on_host(function, *static):
    run = quick_jit(function, *static)
    return lambda *args: jax.device_get(run(*args))


def network(*, batch_norm=True, layer_norm=False):
    """As after training: no bias, gain or shift is what it was at first."""
    fresh = init_mlp(
        jax.random.key(0), SIZES, members=MEMBERS, activation="tanh", batch_norm=batch_norm, layer_norm=layer_norm
    )
    rng = np.random.default_rng(1)
    moved = lambda a: jnp.float32(a + rng.normal(0, 0.5, a.shape))  # noqa: E731
    return jax.tree.map(moved, fresh)


def rows(seed=0):
    return jnp.float32(np.random.default_rng(seed).normal(1.0, 2.0, (MEMBERS, ROWS, 3)))


def by_hand(net, x, weight, given=None):
    """Outputs of all members, with statistics of these rows or `given` ones, and the statistics of these rows."""
    outputs, found = [], []
    for member in range(MEMBERS):
        h, moments = np.float64(x[member]), []
        for layer in range(3):
            h = h @ np.float64(net.weights[layer][member]) + net.biases[layer][member, 0]
            if layer < 2:
                mean = np.average(h, axis=0, weights=weight)
                moments.append((mean, np.average((h - mean) ** 2, axis=0, weights=weight)))
                mean, variance = moments[-1] if given is None else (given[k][layer][member, 0] for k in (0, 1))
                h = (h - mean) / np.sqrt(variance + 1e-3)
                h = np.tanh(net.gains[layer][member, 0] * h + net.shifts[layer][member, 0])
        outputs.append(h)
        found.append(moments)
    return np.array(outputs), found


trained = on_host(lambda net, x, weight: training_pass(net, x, weight))


@pytest.mark.parametrize("used", [ROWS, 4, 1])
@pytest.mark.long
def test_training_normalises_by_the_weighted_rows_of_the_batch(used):
    net, x = network(), rows()
    weight = np.float32(np.arange(ROWS) < used) / np.float32(used)
    out, moments = trained(net, x, weight)
    expected, found = by_hand(net, x, weight)
    np.testing.assert_allclose(out[:, :used], expected[:, :used], rtol=1e-4, atol=1e-4)
    for member in range(MEMBERS):
        for layer in range(2):
            mean, variance = found[member][layer]
            np.testing.assert_allclose(moments.mean[layer][member, 0], mean, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(moments.variance[layer][member, 0], variance, rtol=1e-4, atol=1e-5)
    assert moments.rows == pytest.approx(used, rel=1e-5)


@pytest.mark.long
def test_rows_of_no_weight_change_nothing():
    net, x, weight = network(), rows(), np.float32(np.arange(ROWS) < 4) / np.float32(4)
    other = x + 100 * (np.arange(ROWS) >= 4).astype(np.float32)[:, None]
    (out, moments), (out_of_other, moments_of_other) = trained(net, x, weight), trained(net, other, weight)
    np.testing.assert_array_equal(out[:, :4], out_of_other[:, :4])
    jax.tree.map(np.testing.assert_array_equal, moments, moments_of_other)


def running(seed=3):
    rng = np.random.default_rng(seed)
    shapes = [(MEMBERS, 1, width) for width in SIZES[1:-1]]
    draw = lambda low, high: tuple(jnp.float32(rng.uniform(low, high, shape)) for shape in shapes)  # noqa: E731
    return Moments(draw(-1, 1), draw(0.2, 3), jnp.float32(12))


@pytest.mark.long
def test_prediction_uses_running_statistics_as_part_of_plain_linear_layers():
    net, x, moments = network(), rows(), running()
    folded = jax.device_get(fold_moments(net, moments))
    assert folded.gains is None and folded.shifts is None and not folded.batch_norm
    expected, _ = by_hand(net, x, np.ones(ROWS), moments)
    np.testing.assert_allclose(on_host(lambda n, x: n(x))(folded, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_a_normalizer_of_inputs_is_folded_in_as_well():
    net, x, moments = network(), rows(), running()
    normalizer = Normalizer(jnp.float32([1.0, -2.0, 0.5]), jnp.float32([0.5, 2.0, 3.0]))
    folded = fold_normalizer(fold_moments(net, moments), normalizer)
    expected, _ = by_hand(net, (x - normalizer.mean) / normalizer.std, np.ones(ROWS), moments)
    np.testing.assert_allclose(on_host(lambda n, x: n(x))(folded, x), expected, rtol=1e-4, atol=1e-4)


def test_a_network_with_batch_norm_does_not_predict_before_its_statistics_are_folded_in():
    with pytest.raises(ValueError, match="fold_moments"):
        network()(rows())


def moments_of(value, count):
    leaf = (jnp.full((MEMBERS, 1, 3), value),)
    return Moments(leaf, leaf, jnp.float32(count))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 32)), min_size=1, max_size=8))
@pytest.mark.long
def test_running_statistics_are_the_mean_of_batches_by_their_rows_and_age(batches):
    now = moments_of(7.0, 0)
    for value, count in batches:
        now = averaged(now, moments_of(value, count))
    weights = [count * 0.9 ** (len(batches) - 1 - i) for i, (_, count) in enumerate(batches)]
    expected = np.dot(weights, [v for v, _ in batches]) / sum(weights) if sum(weights) else 7.0
    np.testing.assert_allclose(now.mean[0], np.full((MEMBERS, 1, 3), expected), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(now.mean[0], now.variance[0])


def test_statistics_that_are_not_finite_are_left_out():
    now = averaged(moments_of(1.0, 4), moments_of(np.nan, 4))
    np.testing.assert_array_equal(now.mean[0], np.ones((MEMBERS, 1, 3)))


def test_at_first_there_are_statistics_of_no_rows():
    fresh = no_moments(network())
    assert fresh.rows == 0
    assert [m.shape for m in fresh.mean] == [v.shape for v in fresh.variance] == [(2, 1, 5), (2, 1, 4)]
    assert all((v == 1).all() for v in fresh.variance) and not any(m.any() for m in fresh.mean)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.floats(0.05, 0.95), st.integers(0, 2**31 - 1))
def test_dropout_drops_its_share_and_keeps_the_mean(share, seed):
    x, count = jnp.full((50, 100), 3.0), 5000
    found = np.asarray(drop(jax.random.key(seed), x, share))
    kept = found != 0
    assert abs(kept.mean() - (1 - share)) < 5 * np.sqrt(share * (1 - share) / count)
    np.testing.assert_allclose(found[kept], 3.0 / (1 - share), rtol=1e-5)
    assert found.mean() == pytest.approx(3.0, abs=5 * 3.0 * np.sqrt(share / (1 - share) / count))


@pytest.mark.parametrize("kind", ["none", "layer", "batch"])
def test_dropout_is_between_the_norm_and_the_activation_of_every_hidden_layer(kind):
    """With an activation of zero at zero, what is dropped is zero, and the rest is scaled before the activation."""
    net = network(batch_norm=kind == "batch", layer_norm=kind == "layer")
    weight, key, units = jnp.full(ROWS, 1 / ROWS), jax.random.key(4), []

    def watch(layer, x):
        units.append(x)
        return x

    one = replace(net, weights=net.weights[-2:], biases=net.biases[-2:])
    if kind != "none":
        one = replace(one, gains=net.gains[-1:], shifts=net.shifts[-1:])
    x = jnp.float32(np.random.default_rng(0).normal(size=(MEMBERS, ROWS, 5)))
    plain = replace(one, gains=None, shifts=None, batch_norm=False)
    plain.forward(x, watch)
    normed = np.asarray(units[0])
    if kind != "none":
        axis, epsilon = (-1, 1e-12) if kind == "layer" else (1, 1e-3)
        spread = np.sqrt(normed.var(axis, keepdims=True) + epsilon)
        normed = one.gains[0] * (normed - normed.mean(axis, keepdims=True)) / spread + one.shifts[0]
    dropped = np.asarray(drop(jax.random.fold_in(key, 0), jnp.asarray(normed), 0.4))
    expected = np.tanh(dropped) @ one.weights[1] + one.biases[1]
    found, _ = training_pass(one, x, weight, dropout=0.4, key=key)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_members_rows_and_layers_drop_different_units():
    ones = jnp.ones((MEMBERS, 30, 40))
    first, second = (np.asarray(drop(jax.random.fold_in(jax.random.key(0), layer), ones, 0.5)) for layer in (0, 1))
    for a, b in ((first[0], first[1]), (first[0, 0], first[0, 1]), (first, second)):
        assert 0.3 < ((a > 0) == (b > 0)).mean() < 0.8


@pytest.mark.long
def test_without_options_training_is_the_plain_pass():
    net, x = network(batch_norm=False), rows()
    weight = jnp.full(ROWS, 1 / ROWS)
    programs = [jax.make_jaxpr(f)(net, x) for f in (lambda n, x: n(x), lambda n, x: training_pass(n, x, weight)[0])]
    assert str(programs[0]) == str(programs[1])


@pytest.mark.long
def test_dropout_without_a_key_is_refused():
    with pytest.raises(ValueError, match="needs a key"):
        training_pass(network(), rows(), jnp.ones(ROWS), dropout=0.5)
