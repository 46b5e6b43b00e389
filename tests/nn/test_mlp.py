"""The ensemble network: initial weights, forward pass, and the folding of a normaliser into it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.nn import MLP, Normalizer, init_mlp, with_short_operands
from foretell.nn.mlp import fold_normalizer, standardize
from tiny import quick_jit

REFERENCE = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


def random_mlp(seed, sizes, members, activation="silu", *, layer_norm=False):
    """As after training: no bias is zero."""
    rng, shapes = np.random.default_rng(seed), list(itertools.pairwise(sizes))
    weights = tuple(jnp.asarray(np.float32(rng.normal(0, 0.5, (members, *shape)))) for shape in shapes)
    biases = tuple(jnp.asarray(np.float32(rng.normal(size=(members, 1, out)))) for _, out in shapes)
    if not layer_norm:
        return MLP(weights, biases, activation)
    gains, shifts = (tuple(jnp.asarray(np.float32(rng.normal(at, 0.5, b.shape))) for b in biases[:-1]) for at in (1, 0))
    return MLP(weights, biases, activation, gains, shifts)


outputs = quick_jit(lambda network, x: network(x))
standardized = quick_jit(standardize)


def forward(network, x):
    """The outputs of every member, in NumPy, one row at a time."""
    network, out = jax.device_get(network), []
    for member, rows in enumerate(np.asarray(x, np.float64)):
        out.append([])
        for h in rows:
            for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
                h = h @ np.asarray(weight[member], np.float64) + np.asarray(bias[member, 0], np.float64)
                if layer < len(network.weights) - 1:
                    if network.gains is not None:
                        h = (h - h.mean()) / np.sqrt(h.var() + 1e-12)
                        h = network.gains[layer][member, 0] * h + network.shifts[layer][member, 0]
                    h = REFERENCE[network.activation](h)
            out[-1].append(h)
    return np.array(out)


@pytest.fixture(scope="module")
def fresh():
    made = quick_jit(lambda: init_mlp(jax.random.key(0), (64, 200, 200), members=4, activation="silu"))()
    return jax.device_get(made)


def test_weights_are_cut_at_two_standard_deviations_of_half_the_inverse_root_of_fan_in(fresh):
    for weight, fan_in in zip(fresh.weights, (64, 200), strict=True):
        scale = 1 / (2 * np.sqrt(fan_in))
        largest = np.abs(weight).max()
        assert 1.97 * scale < largest <= 2 * scale * 1.000001
        assert np.std(weight) == pytest.approx(0.879626 * scale, rel=0.02)
        assert np.mean(weight) == pytest.approx(0, abs=0.02 * scale)


def test_biases_start_at_zero(fresh):
    assert [b.shape for b in fresh.biases] == [(4, 1, 200), (4, 1, 200)]
    assert not any(b.any() for b in fresh.biases)


def test_members_and_layers_start_different(fresh):
    blocks = [np.asarray(member)[:64] for weight in fresh.weights for member in weight]
    for first, second in itertools.combinations(blocks, 2):
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.1


@pytest.mark.parametrize("activation", REFERENCE)
def test_forward_equals_a_loop_over_members_and_rows(activation):
    network = random_mlp(1, (3, 5, 4, 2), 2, activation)
    x = np.float32(np.random.default_rng(0).normal(size=(2, 6, 3)))
    np.testing.assert_allclose(outputs(network, x), forward(network, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", REFERENCE)
def test_layer_norm_is_over_the_units_of_each_row_before_the_activation(activation):
    network = random_mlp(1, (3, 5, 4, 2), 2, activation, layer_norm=True)
    x = np.float32(np.random.default_rng(0).normal(size=(2, 6, 3)))
    np.testing.assert_allclose(outputs(network, x), forward(network, x), rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_layer_norm_starts_with_gain_one_and_shift_zero_on_hidden_layers_alone():
    how = {"members": 2, "activation": "relu"}
    plain, normed = (init_mlp(jax.random.key(0), (3, 5, 4, 2), **how, layer_norm=on) for on in (False, True))
    assert plain.gains is None
    assert plain.shifts is None
    assert [g.shape for g in normed.gains] == [s.shape for s in normed.shifts] == [(2, 1, 5), (2, 1, 4)]
    assert all((g == 1).all() for g in normed.gains)
    assert not any(s.any() for s in normed.shifts)
    assert len(jax.tree.leaves(plain)) == 6
    for a, b in zip(plain.weights + plain.biases, normed.weights + normed.biases, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.floats(-100, 100), st.floats(0.01, 100))
def test_a_layer_norm_does_not_see_an_offset_or_a_positive_factor(offset, factor):
    x = np.float32(np.random.default_rng(0).normal(size=(4, 8)))
    np.testing.assert_allclose(standardized(np.float32(factor * x + offset * factor)), standardized(x), atol=2e-3)


def test_units_that_are_all_equal_become_zero():
    np.testing.assert_array_equal(standardized(np.full((2, 3), 7.0, np.float32)), np.zeros((2, 3)))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_member_sees_its_own_rows_only(layer_norm):
    network = random_mlp(2, (3, 5, 2), 3, layer_norm=layer_norm)
    x, more = np.ones((3, 4, 3), np.float32), np.float32([[[0]], [[1]], [[0]]])
    changed = np.asarray(outputs(network, x + more)) != np.asarray(outputs(network, x))
    assert changed[1].all()
    assert not changed[[0, 2]].any()


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_folded_normalizer_equals_explicit_normalising(layer_norm):
    network = random_mlp(3, (3, 5, 2), 2, layer_norm=layer_norm)
    normalizer = Normalizer(np.float32([2.0, -30.0, 0.5]), np.float32([0.1, 20.0, 3.0]))
    x = np.float32(np.random.default_rng(1).normal([2, -30, 0.5], [0.1, 20, 3], (2, 7, 3)))
    folded = quick_jit(lambda network, normalizer, x: fold_normalizer(network, normalizer)(x))(network, normalizer, x)
    np.testing.assert_allclose(folded, forward(network, (x - normalizer.mean) / normalizer.std), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_operands_of_16_bits_change_outputs_by_a_percent_and_have_gradients(layer_norm):
    network = random_mlp(1, (3, 32, 32, 2), 2, "silu", layer_norm=layer_norm)
    short = with_short_operands(network)
    assert [weight.dtype for weight in short.weights] == [jnp.float32, jnp.bfloat16, jnp.bfloat16]
    x = np.float32(np.random.default_rng(0).normal(size=(2, 50, 3)))

    def with_slope(network):
        return quick_jit(jax.value_and_grad(lambda x: jnp.square(network(x)).sum()))(x)

    exact, near = outputs(network, x), outputs(short, x)
    assert near.dtype == jnp.float32 and 1e-6 < np.abs(near - exact).max() < 0.02 * np.abs(exact).max()
    (value, slope), (near_value, near_slope) = with_slope(network), with_slope(short)
    assert float(near_value) == pytest.approx(float(value), rel=0.01) and near_slope.dtype == jnp.float32
    assert np.abs(near_slope - slope).max() < 0.03 * np.abs(slope).max()


@pytest.mark.parametrize(("initializer", "scale"), [("glorot", 1.0), ("glorot-joint", 0.5)])
@pytest.mark.long
def test_glorot_weights_are_uniform_up_to_their_limit(initializer, scale):
    """Counted over four members jointly, the limit is half as large, as STEVE was released."""
    how = {"members": 4, "activation": "relu", "initializer": initializer}
    network = jax.device_get(quick_jit(lambda: init_mlp(jax.random.key(0), (20, 40, 40), **how))())
    for weight, fans in zip(network.weights, (60, 80), strict=True):
        limit = scale * np.sqrt(6 / fans)
        assert 0.99 * limit < np.abs(weight).max() <= limit
        assert np.std(weight) == pytest.approx(limit / np.sqrt(3), rel=0.03)
    assert not any(np.any(bias) for bias in network.biases)


def test_the_inputs_of_layers_may_be_normalised():
    """Section 7.3 of the specification of DHMBPO: 1, 0.1 and 0.01 are added to the variances of (1, 2, 3, 6)."""
    expected = {
        1.0: (-0.942809, -0.471405, 0.0, 1.414214),
        0.1: (-1.054093, -0.527046, 0.0, 1.581139),
        0.01: (-1.067521, -0.533761, 0.0, 1.601282),
        1e-5: (-1.069043, -0.534522, 0.0, 1.603565),
    }
    row = jnp.array([1.0, 2.0, 3.0, 6.0])
    for epsilon, values in expected.items():
        np.testing.assert_allclose(standardize(row, epsilon), values, atol=2e-6)
    identity = (jnp.eye(4)[None],) * 4
    network = MLP(identity, (jnp.zeros((1, 1, 4)),) * 4, "relu", norms_inputs=True)
    rows = [row]
    for epsilon in (1.0, 0.1, 0.01):
        rows.append(standardize(jnp.maximum(rows[-1], 0.0), epsilon))
    np.testing.assert_allclose(outputs(network, row[None, None])[0, 0], rows[-1], rtol=1e-5)
