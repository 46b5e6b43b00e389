"""What networks do in training alone: batch norm by the statistics of the batch, and dropout."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell.nn.mlp import MLP

_MOMENTUM = 0.9
_BATCH_EPSILON = 1e-3


class Moments(NamedTuple):
    """Statistics of the inputs of every hidden activation, of each member."""

    mean: tuple[Float[Array, "members 1 _width"], ...]
    variance: tuple[Float[Array, "members 1 _width"], ...]
    rows: Float[Array, ""]
    """Number of rows they are from."""


def no_moments(network: MLP) -> Moments:
    """Statistics of no rows."""
    zeros = tuple(map(jnp.zeros_like, network.biases[:-1]))
    return Moments(zeros, tuple(map(jnp.ones_like, zeros)), jnp.zeros(()))


def training_pass(
    network: MLP,
    x: Float[Array, "members rows in"],
    weight: Float[Array, "rows"],
    *,
    dropout: float = 0.0,
    key: Key[Array, ""] | None = None,
) -> tuple[Float[Array, "members rows out"], Moments | None]:
    """The outputs in training, and the statistics of the batch where there is batch norm.

    Args:
        network: the networks.
        x: each member's own rows.
        weight: of the rows in the statistics; it sums to 1.
        dropout: share of the inputs of hidden activations that become 0; the others are divided by the share that is
            left, so that the mean stays what it was (Srivastava et al. 2014).
        key: for the units that are dropped; None without dropout.

    Raises:
        ValueError: if there is dropout and no key.
    """
    if dropout and key is None:
        raise ValueError("dropout needs a key")
    if not network.batch_norm and not dropout:
        return network(x), None
    means: list[Array] = []
    variances: list[Array] = []

    def before(layer: int, x: Float[Array, "members rows width"]) -> Float[Array, "members rows width"]:
        if network.batch_norm:
            mean, variance = _batch_moments(x, weight)
            x = network.scale(layer, (x - mean) * jax.lax.rsqrt(variance + _BATCH_EPSILON))
            means.append(mean)
            variances.append(variance)
        else:
            x = network.normalize(layer, x)
        return x if key is None else drop(jax.random.fold_in(key, layer), x, dropout)

    out = network.forward(x, before)
    rows = jnp.square(weight.sum()) / jnp.maximum(jnp.square(weight).sum(), 1e-12)
    return out, Moments(tuple(means), tuple(variances), rows) if network.batch_norm else None


def drop(key: Key[Array, ""], x: Float[Array, "*rows width"], share: float) -> Float[Array, "*rows width"]:
    """Zeros at random in that share of the places; what is left is scaled up to keep the mean."""
    return jnp.where(jax.random.bernoulli(key, 1.0 - share, x.shape), x / (1.0 - share), 0.0)


def averaged(old: Moments, new: Moments) -> Moments:
    """The running statistics after one more batch: what older batches weigh shrinks by a factor of 0.9 each time.

    Batches weigh as many rows as they have, so a short one at the end of an epoch counts little; and the first batch
    counts alone, whatever the start was. What is not finite is left out.
    """
    rows = _MOMENTUM * old.rows + new.rows
    rate = new.rows / jnp.maximum(rows, 1e-12)
    mean, variance = jax.tree.map(
        lambda a, b: jnp.where(jnp.isfinite(b), a + rate * (b - a), a), tuple(old[:2]), tuple(new[:2])
    )
    return Moments(mean, variance, rows)


def fold_moments(network: MLP, moments: Moments) -> MLP:
    """The network for prediction: its batch norm, by these statistics, becomes part of the linear layers."""
    if network.gains is None or network.shifts is None:
        return network
    scales = [
        gain * jax.lax.rsqrt(variance + _BATCH_EPSILON)
        for gain, variance in zip(network.gains, moments.variance, strict=True)
    ]
    weights = [weight * scale for weight, scale in zip(network.weights, scales, strict=False)]
    biases = [
        (bias - mean) * scale + shift
        for bias, mean, scale, shift in zip(network.biases, moments.mean, scales, network.shifts, strict=False)
    ]
    return MLP((*weights, network.weights[-1]), (*biases, network.biases[-1]), network.activation)


def _batch_moments(
    x: Float[Array, "members rows width"], weight: Float[Array, "rows"]
) -> tuple[Float[Array, "members 1 width"], Float[Array, "members 1 width"]]:
    mean = jnp.einsum("brw,r->bw", x, weight)[:, None]
    return mean, jnp.einsum("brw,r->bw", jnp.square(x - mean), weight)[:, None]
