"""Fully connected networks with a leading ensemble axis: one batched matrix multiply serves all members."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from foretell.nn.normalizer import Normalizer, identity_normalizer

Activation = Literal["silu", "relu", "tanh", "gelu"]
Initializer = Literal["truncated", "glorot", "glorot-joint"]


@jax.custom_jvp
def _silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x * sigmoid(x) by way of tanh, which compiles to fewer and faster instructions than the exponential."""
    return 0.5 * x * (1.0 + jnp.tanh(0.5 * x))


@_silu.defjvp
def _silu_slope(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """With a slope that is one array; the slope that JAX derives needs several in the backward pass."""
    (x,), (dx,) = primals, tangents
    tanh = jnp.tanh(0.5 * x)
    y, sigmoid = 0.5 * x * (1.0 + tanh), 0.5 + 0.5 * tanh
    return y, (sigmoid + y * (1.0 - sigmoid)) * dx


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": _silu,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
}


_NORM_EPSILON = 1e-12
_INPUT_EPSILON = 1.0
"""Added to the variance of the inputs of the second layer by DHMBPO's layer norm; a tenth of that in each further."""

Before = Callable[[int, Float[Array, "members rows width"]], Float[Array, "members rows width"]]


class MLP(eqx.Module):
    """An ensemble of multilayer perceptrons of one shape; hidden layers share an activation, the output is linear."""

    weights: tuple[Float[Array, "members _in _out"], ...]
    biases: tuple[Float[Array, "members 1 _out"], ...]
    activation: str = eqx.field(static=True)
    gains: tuple[Float[Array, "members 1 _out"], ...] | None = None
    """Of the layer norm or batch norm of each hidden layer; None where there is none."""
    shifts: tuple[Float[Array, "members 1 _out"], ...] | None = None
    """Likewise, what is added after the gain."""
    batch_norm: bool = eqx.field(static=True, default=False)
    """Whether gains and shifts belong to a batch norm; see `foretell.nn.regularization`."""
    input_mean: Float[Array, "members 1 _in"] | None = None
    """What inputs are standardised with, which is not trained; None where they are not."""
    input_std: Float[Array, "members 1 _in"] | None = None
    norms_inputs: bool = eqx.field(static=True, default=False)
    """Whether the inputs of all layers but the first are normalised row by row, without gain and shift."""

    def __call__(self, x: Float[Array, "members rows in"]) -> Float[Array, "members rows out"]:
        """Member `b` maps its own rows `x[b]`."""
        return self.forward(x, self.normalize)

    def forward(self, x: Float[Array, "members rows in"], before: Before) -> Float[Array, "members rows out"]:
        """The same, with `before(layer, x)` between the linear map and the activation of each hidden layer."""
        activate = _ACTIVATIONS[self.activation]
        if self.input_mean is not None and self.input_std is not None:
            x = (x - jax.lax.stop_gradient(self.input_mean)) / jax.lax.stop_gradient(self.input_std)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.norms_inputs and layer:
                x = standardize(x, _INPUT_EPSILON * 0.1 ** (layer - 1))
            x = jnp.matmul(x.astype(weight.dtype), weight, preferred_element_type=x.dtype) + bias
            if layer < len(self.weights) - 1:
                x = activate(before(layer, x))
        return x

    def normalize(self, layer: int, x: Float[Array, "members rows width"]) -> Float[Array, "members rows width"]:
        """Layer norm, if there is one."""
        if self.batch_norm:
            raise ValueError("a network with batch norm predicts once its statistics are folded into it: fold_moments")
        return x if self.gains is None else self.scale(layer, standardize(x))

    def scale(self, layer: int, x: Float[Array, "members rows width"]) -> Float[Array, "members rows width"]:
        """What is normalised, times the layer's gain and plus its shift."""
        return x if self.gains is None or self.shifts is None else self.gains[layer] * x + self.shifts[layer]


def init_mlp(
    key: Key[Array, ""],
    sizes: tuple[int, ...],
    *,
    members: int,
    activation: Activation,
    initializer: Initializer = "truncated",
    layer_norm: bool = False,
    batch_norm: bool = False,
    standardize_inputs: bool = False,
    norms_inputs: bool = False,
) -> MLP:
    """Random weights, and biases of zero.

    Args:
        key: for the weights.
        sizes: widths of the layers from input to output, at least two.
        members: networks in the ensemble.
        activation: of the hidden layers.
        initializer: how weights are drawn. `truncated`: from a normal distribution with standard deviation
            `1 / (2 sqrt(fan_in))`, truncated at two standard deviations (PETS). `glorot`: uniform within
            `sqrt(6 / (fan_in + fan_out))` on either side of 0. `glorot-joint`: the same with both fans counted over all
            members, so that an ensemble of 4 starts at half the scale (the released STEVE).
        layer_norm: normalise the inputs of every hidden activation over the units of its layer, row by row, then
            multiply by a trained gain, at first 1, and add a trained shift, at first 0 (Ba et al. 2016).
        batch_norm: likewise, but unit by unit over the rows of a batch (Ioffe and Szegedy 2015); not both.
        norms_inputs: normalise the inputs of every layer but the first row by row, without gain and shift, and with 1,
            0.1, 0.01, ... added to their variance (DHMBPO).
        standardize_inputs: standardise inputs, at first with mean 0 and standard deviation 1, see `with_inputs`.
    """
    shapes = list(pairwise(sizes))
    counts = [members * fan_in * fan_out for fan_in, fan_out in shapes]
    # One draw for all layers: several would be compiled one by one.
    if initializer == "truncated":
        drawn = jax.random.truncated_normal(key, -2.0, 2.0, (sum(counts),))
        divisors = [2.0 * fan_in**0.5 for fan_in, _ in shapes]
    else:
        drawn = jax.random.uniform(key, (sum(counts),), minval=-1.0, maxval=1.0)
        joint = members if initializer == "glorot-joint" else 1
        divisors = [(joint * (fan_in + fan_out) / 6.0) ** 0.5 for fan_in, fan_out in shapes]
    draws = jnp.split(drawn, np.cumsum(counts)[:-1])
    weights = tuple(
        draw.reshape(members, fan_in, fan_out) / divisor
        for divisor, draw, (fan_in, fan_out) in zip(divisors, draws, shapes, strict=True)
    )
    biases = tuple(jnp.zeros((members, 1, fan_out)) for _, fan_out in shapes)
    network = MLP(weights, biases, activation, norms_inputs=norms_inputs)
    if layer_norm or batch_norm:
        gains = tuple(map(jnp.ones_like, biases[:-1]))
        network = MLP(weights, biases, activation, gains, biases[:-1], batch_norm)
    return with_inputs(network, identity_normalizer(sizes[0])) if standardize_inputs else network


def with_inputs(network: MLP, inputs: Normalizer) -> MLP:
    """The network that standardises its inputs in this way; further inputs, beyond those, stay as they are."""
    extra = network.weights[0].shape[-2] - len(inputs.mean)
    shape = len(network.weights[0]), 1, len(inputs.mean) + extra
    mean, std = jnp.pad(inputs.mean, (0, extra)), jnp.pad(inputs.std, (0, extra), constant_values=1.0)
    return replace(network, input_mean=jnp.broadcast_to(mean, shape), input_std=jnp.broadcast_to(std, shape))


def standardize(x: Float[Array, "*rows width"], epsilon: float = _NORM_EPSILON) -> Float[Array, "*rows width"]:
    """Every row with mean 0 and variance 1, or nearly so: `epsilon` is added to the variance before."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)


def with_short_operands(network: MLP) -> MLP:
    """The network whose layers beyond the first multiply numbers of 16 bits (bfloat16) and sum them in 32.

    The first layer stays as it is: inputs may differ by little from each other.
    """
    first, *others = network.weights
    return replace(network, weights=(first, *(weight.astype(jnp.bfloat16) for weight in others)))


def fold_normalizer(network: MLP, normalizer: Normalizer) -> MLP:
    """The network that takes raw inputs: the normaliser becomes part of the first layer, so it costs nothing."""
    scaled = network.weights[0] / normalizer.std[:, None]
    shift = jnp.einsum("i,bio->bo", normalizer.mean, scaled)[:, None]
    biases = (network.biases[0] - shift, *network.biases[1:])
    return replace(network, weights=(scaled, *network.weights[1:]), biases=biases)
