"""Ensembles of networks. They disagree where data are few, and may predict a variance beside the mean.

Chua et al. 2018, section 4: PE and DE are ensembles of probabilistic and deterministic networks, P and D single ones.
The bounded log-variance is their appendix A.1.
"""

import math
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from foretell.nn import MLP, Normalizer, identity_normalizer, init_mlp, with_short_operands
from foretell.nn.mlp import Activation, Initializer, fold_normalizer
from foretell.nn.regularization import Moments, fold_moments, no_moments, training_pass
from foretell.regression.prediction import Prediction, Predictor, Rows
from foretell.settings import Settings

_LEAST_LOGVAR = 2.0 * math.log(1e-3)
"""The likelihood rewards no constant log-variance below this."""


class EnsembleParams(eqx.Module):
    """What the optimiser trains. The log-variance bounds are shared by all members."""

    network: MLP
    max_logvar: Float[Array, "out"]
    min_logvar: Float[Array, "out"]
    probabilistic: bool = eqx.field(static=True)
    logvar: Float[Array, "members 1 out"] | None = None
    """The log-variance, divided by `logvar_rate`, where it does not depend on the input."""
    logvar_rate: float = eqx.field(static=True, default=1.0)


class EnsembleState(eqx.Module):
    """A trained ensemble: parameters, and the statistics its inputs and targets are standardised with."""

    params: EnsembleParams
    inputs: Normalizer
    targets: Normalizer
    moments: Moments | None = None
    """Running statistics of the hidden layers, where there is batch norm."""
    elites: Int[Array, "elites"] | None = None
    """The members that predict, where only some do."""


class Passed(NamedTuple):
    """What a pass over a batch finds beside the loss."""

    error: Float[Array, ""]
    """The error part of the loss, averaged over members."""
    moments: Moments | None
    """Statistics of the hidden layers on this batch, where there is batch norm."""


class ReadyEnsemble(NamedTuple):
    """An ensemble ready for prediction, on raw inputs."""

    params: EnsembleParams
    targets: Normalizer


class Ensemble(Settings):
    """An ensemble of multilayer perceptrons. The defaults are those of the PETS paper's PE, for the cartpole."""

    members: PositiveInt = 5
    """Networks in the ensemble: several (PE, DE), or 1 (P, D)."""
    elites: PositiveInt | None = None
    """Predict with this many of the networks alone, those with the least error on held-out rows after each call of
    training; `fit.snapshots` must be `member` (MBPO: 5 of 7). Null: with all."""
    probabilistic: bool = True
    """Predict mean and variance of each output, trained by likelihood (true: PE, P), or only the mean, trained by
    squared error (false: DE, D)."""
    variance: Literal["input", "constant"] = "input"
    """What the predicted variance depends on: the input (`input`: PETS), or nothing but the member and the output
    (`constant`: DHMBPO). A constant variance is trained too; the likelihood gains nothing where it is below 1e-6."""
    variance_rate: PositiveFloat = 1.0
    """Factor on Adam's step size for the logarithm of a constant variance, which starts at 0. With a step size of 1e-3,
    annealed over 500 steps, a call can reduce the standard deviation by 12 % at most with a factor of 1. With 2 the
    logarithm of the standard deviation is trained (DHMBPO, with thousands of steps)."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (500, 500, 500)
    """Widths of the hidden layers."""
    activation: Activation = "silu"
    """Activation function of the hidden layers; the paper's swish is `silu`."""
    initializer: Initializer = "truncated"
    """Distribution of the initial weights: that of PETS (`truncated`) or of MB-MPC (`glorot`). `glorot-joint` is
    `glorot` with the fans counted over all members."""
    hidden_norm: Literal["none", "batch", "layer", "inputs"] = "none"
    """Layer norm or batch norm before the activation of each hidden layer, with a trained gain and shift. With `batch`,
    prediction uses running statistics (with each batch, older ones keep 0.9 of their weight). They are merged into the
    linear layers and cost no time. `inputs`: layer norm of the inputs of each layer but the first instead, without gain
    and shift, and with 1, 0.1 and 0.01 added to the variances (DHMBPO)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the hidden units that training sets to 0 before their activation. In the released MVE `dyn_dropout` is
    the share that is kept."""
    weight_decay: NonNegativeFloat | Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (
        1e-4,
        2.5e-4,
        2.5e-4,
        5e-4,
    )
    """Weight decay of each layer, from input to output: adds `decay / 2 * sum(W^2)` to the loss, without biases, gains
    and shifts. One number is for all layers. A list whose length is not the number of layers is interpolated linearly
    between its ends."""
    logvar_init: tuple[float, float] = (-10.0, 0.5)
    """Initial lower and upper bounds of the predicted log-variance, which are trained."""
    logvar_penalty: NonNegativeFloat = 0.01
    """Weight of the distance between the two bounds in the loss."""
    nll_beta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Exponent of the variance by which each likelihood term is weighted, without gradient (Seitzer et al. 2022). With
    0, the plain likelihood (PETS), a network may neglect the mean in difficult regions and predict a large variance
    there. Larger values prevent this."""
    standardize: bool = True
    """Standardise inputs by their mean and standard deviation, and targets according to `scale_targets` and
    `center_targets`. False: use raw inputs and targets (MVE's `disable_normalization`)."""
    scale_targets: bool = False
    """Divide targets by their standard deviation. PETS does not."""
    center_targets: bool = False
    """Subtract the mean from targets (MB-MPC)."""
    min_std: Annotated[float, Field(gt=0)] = 1e-12
    """An input or target whose standard deviation is below this counts as constant: it is divided by 1 instead."""
    stays_constant: bool = False
    """An input or target that has counted as constant once continues to do so (MVE, with a `min_std` of 1e-4)."""
    operands: Literal["float32", "bfloat16"] = "float32"
    """Numbers that predictions multiply beyond the first layer; sums and training are in float32. `bfloat16` has 8 bits
    of precision, and layers of 200 units or more take less time on processors that multiply it (AVX-512 BF16)."""

    @model_validator(mode="after")
    def _check(self) -> "Ensemble":
        if not self.standardize and (self.scale_targets or self.center_targets):
            raise ValueError("standardize=false needs scale_targets=false and center_targets=false")
        if self.hidden_norm in ("layer", "inputs") and min(self.hidden) < 2:
            raise ValueError(
                f"hidden_norm={self.hidden_norm} needs hidden layers of at least 2 units, not 1: one alone would be 0"
            )
        if self.elites is not None and self.elites > self.members:
            raise ValueError(f"elites ({self.elites}) must be at most {self.members}, the number of members")
        if self.elites is not None and self.hidden_norm == "batch":
            raise ValueError("elites must be null with hidden_norm=batch")
        if self.logvar_init[0] >= self.logvar_init[1]:
            raise ValueError(f"logvar_init must be (low, high) with low < high, not {self.logvar_init}")
        return self

    @property
    def layer_decay(self) -> tuple[float, ...]:
        """The decay of each layer."""
        given = np.atleast_1d(self.weight_decay)
        places = np.linspace(0, len(given) - 1, len(self.hidden) + 1)
        return tuple(np.interp(places, np.arange(len(given)), given).tolist())

    @property
    def serving(self) -> int:
        """Number of networks that predict."""
        return self.elites or self.members

    @property
    def _has_constant_variance(self) -> bool:
        return self.probabilistic and self.variance == "constant"

    @property
    def _predicts_variance(self) -> bool:
        return self.probabilistic and self.variance == "input"

    @property
    def name(self) -> str:
        """The paper's name of this type of model."""
        return ("P" if self.probabilistic else "D") + ("E" if self.members > 1 else "")

    def init(self, key: Key[Array, ""], in_size: int, out_size: int, flags: int) -> EnsembleState:
        """An untrained ensemble.

        Args:
            key: for the weights.
            in_size: number of inputs.
            out_size: number of real outputs.
            flags: number of yes/no outputs.
        """
        low, high = self.logvar_init
        sizes = (in_size, *self.hidden, (1 + self._predicts_variance) * out_size + flags)
        network = init_mlp(
            key,
            sizes,
            members=self.members,
            activation=self.activation,
            initializer=self.initializer,
            layer_norm=self.hidden_norm == "layer",
            batch_norm=self.hidden_norm == "batch",
            norms_inputs=self.hidden_norm == "inputs",
        )
        logvar = jnp.zeros((self.members, 1, out_size)) if self._has_constant_variance else None
        bounds = high * jnp.ones(out_size), low * jnp.ones(out_size)
        params = EnsembleParams(network, *bounds, self.probabilistic, logvar, self.variance_rate)
        moments = no_moments(network) if network.batch_norm else None
        elites = None if self.elites is None else jnp.arange(self.elites)
        return EnsembleState(params, identity_normalizer(in_size), identity_normalizer(out_size), moments, elites)

    def loss(
        self,
        params: EnsembleParams,
        x: Float[Array, "members rows in"],
        y: Float[Array, "members rows out"],
        flags: Bool[Array, "members rows flags"],
        weight: Float[Array, "rows"],
        key: Key[Array, ""] | None = None,
    ) -> tuple[Float[Array, ""], Passed]:
        """The training loss, summed over members: error, weight decay, and the penalty on log-variance bounds.

        The error is the negative log-likelihood without its factor 1/2 and its constant (Chua et al. 2018, section 4),
        or half the squared error, a mean over outputs; plus the cross-entropy of yes/no outputs.

        Args:
            params: the networks.
            x: standardised inputs, of each member's own rows.
            y: standardised targets.
            flags: yes/no targets.
            weight: of the rows; it sums to 1, and is 0 for rows that do not count.
            key: for dropout, if there is any.

        Returns:
            The loss, and what else was found.
        """
        out, moments = training_pass(params.network, x, weight, dropout=self.dropout, key=key if self.dropout else None)
        likelihood = self._likelihood(read(params, out), y, flags, weight)
        decay = sum(
            0.5 * decay * jnp.square(w).sum() for decay, w in zip(self.layer_decay, params.network.weights, strict=True)
        )
        total = likelihood + decay
        if self._predicts_variance:
            total += self.logvar_penalty * (params.max_logvar.sum() - params.min_logvar.sum())
        return total, Passed(likelihood / self.members, moments)

    def error(self, state: EnsembleState, rows: Rows, weight: Float[Array, "rows"]) -> Float[Array, ""]:
        """The error part of the loss when predicting, without dropout and with running statistics.

        Args:
            state: the trained ensemble.
            rows: in their own units; every member predicts all of them.
            weight: of the rows; those of weight 0 may hold anything.

        Returns:
            Its mean over rows, weighted, and over members; NaN if no row counts.
        """
        x, y = (jnp.where(weight[:, None] > 0, a, 0.0) for a in (rows.x, state.targets.normalize(rows.y)))
        everyone = self.ready(replace(state, elites=None)).params
        prediction = predict(everyone, jnp.broadcast_to(x, (self.members, *x.shape)))
        return self._likelihood(prediction, y, rows.flags, weight / weight.sum()) / self.members

    def check_batches(self, section: str, batch_size: int) -> None:
        """Raises `ValueError` where batches are too small for batch norm."""
        if self.hidden_norm == "batch" and batch_size < 2:
            raise ValueError(f"{section}.batch_size must be at least 2 with hidden_norm=batch, not {batch_size}")

    def ready(self, state: EnsembleState) -> "ReadyEnsemble":
        """What prediction needs: the network with the input normaliser as part of its first layer."""
        network = state.params.network if state.moments is None else fold_moments(state.params.network, state.moments)
        params = replace(state.params, network=fold_normalizer(network, state.inputs))
        if state.elites is not None:
            chosen = jax.tree.map(lambda a: a[state.elites], (params.network, params.logvar))
            params = replace(params, network=chosen[0], logvar=chosen[1])
        network = with_short_operands(params.network) if self.operands == "bfloat16" else params.network
        return ReadyEnsemble(replace(params, network=network), state.targets)

    def with_elites(self, state: EnsembleState, error: Float[Array, "..."]) -> EnsembleState:
        """The ensemble that predicts with the members of the least errors, one for each member, if not with all."""
        return state if self.elites is None else replace(state, elites=jnp.argsort(error)[: self.elites])

    def predictor(self, ready: "ReadyEnsemble") -> Predictor:
        """The function from raw inputs to predictions of raw targets."""

        def raw(x: Float[Array, "members rows in"]) -> Prediction:
            mean, variance, logits = predict(ready.params, x)
            return Prediction(ready.targets.denormalize(mean), variance * jnp.square(ready.targets.std), logits)

        return raw

    def _likelihood(
        self,
        prediction: Prediction,
        y: Float[Array, "*members rows out"],
        flags: Bool[Array, "*members rows flags"],
        weight: Float[Array, "rows"],
    ) -> Float[Array, ""]:
        """The error, summed over members, averaged over rows as they weigh."""
        error, outputs = self._error(prediction, y), max(y.shape[-1], 1)
        likelihood = jnp.einsum("br,r->", error.sum(-1) / outputs, weight)
        if flags.shape[-1]:
            cross_entropy = jax.nn.softplus(prediction.logits) - flags * prediction.logits
            likelihood += jnp.einsum("brf,r->", cross_entropy, weight)
        return likelihood

    def _error(self, prediction: Prediction, y: Float[Array, "*members rows out"]) -> Float[Array, "members rows out"]:
        square = jnp.square(prediction.mean - y)
        if not self.probabilistic:
            return 0.5 * square
        logvar = jnp.log(prediction.variance)
        if self._has_constant_variance:
            logvar = jnp.maximum(logvar, _LEAST_LOGVAR)
        nll = square / prediction.variance + logvar
        return nll * jax.lax.stop_gradient(prediction.variance**self.nll_beta) if self.nll_beta else nll


def better_members(lower: Bool[Array, "members"], now: EnsembleState, best: EnsembleState) -> EnsembleState:
    """The ensemble `now`, but for the members that are not better now: these are as in `best`."""

    def choose(new: Float[Array, "members _in _out"], old: Float[Array, "members _in _out"]) -> Array:
        return jnp.where(lower[:, None, None], new, old)

    own = lambda state: (state.params.network, state.params.logvar)  # noqa: E731
    return eqx.tree_at(own, now, jax.tree.map(choose, own(now), own(best)), is_leaf=lambda a: a is None)


def predict(params: EnsembleParams, x: Float[Array, "members rows in"]) -> Prediction:
    """Predictions of every member on its own rows; inputs and outputs are standardised."""
    return read(params, params.network(x))


def read(params: EnsembleParams, out: Float[Array, "members rows columns"]) -> Prediction:
    """The predictions that outputs of the networks stand for."""
    out_size = params.max_logvar.shape[0]
    if not params.probabilistic:
        mean = out[..., :out_size]
        return Prediction(mean, jnp.zeros_like(mean), out[..., out_size:])
    if params.logvar is not None:
        mean = out[..., :out_size]
        return Prediction(
            mean, jnp.broadcast_to(jnp.exp(params.logvar_rate * params.logvar), mean.shape), out[..., out_size:]
        )
    variance = bounded_variance(out[..., out_size : 2 * out_size], params.min_logvar, params.max_logvar)
    return Prediction(out[..., :out_size], variance, out[..., 2 * out_size :])


def bounded_variance(
    raw: Float[Array, "*rows out"], low: Float[Array, "out"], high: Float[Array, "out"]
) -> Float[Array, "*rows out"]:
    """The variance whose logarithm is `raw`, squashed smoothly between bounds; without them it explodes far from data.

    With `below = high - softplus(high - raw)` the log-variance is `low + softplus(below - low)` (Chua et al. 2018,
    A.1). Its exponential is the sum below, without any logarithm, which saves planners a good part of their time.

    Args:
        raw: outputs of the network.
        low: lower bound of the log-variance.
        high: upper bound of the log-variance.
    """
    return jnp.exp(low) + jnp.exp(high) * jax.nn.sigmoid(raw - high)
