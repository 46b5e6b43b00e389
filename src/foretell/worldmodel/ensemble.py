"""The probabilistic ensemble (PE): networks that predict a mean and a variance, and disagree where data are few.

Chua et al. 2018, section 4; the bounded log-variance is their appendix A.1.
"""

from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from foretell.nn import MLP, Normalizer, identity_normalizer, init_mlp
from foretell.nn.mlp import Activation
from foretell.settings import Settings


class EnsembleParams(eqx.Module):
    """What the optimiser trains. The log-variance bounds are shared by all members."""

    network: MLP
    max_logvar: Float[Array, "out"]
    min_logvar: Float[Array, "out"]


class EnsembleState(eqx.Module):
    """A trained ensemble: parameters, and the statistics its inputs and targets are standardised with."""

    params: EnsembleParams
    inputs: Normalizer
    targets: Normalizer


class Prediction(NamedTuple):
    """A diagonal Gaussian per member and row, in standardised target units, and the logits of yes/no outputs."""

    mean: Float[Array, "members rows out"]
    logvar: Float[Array, "members rows out"]
    logits: Float[Array, "members rows flags"]


class Ensemble(Settings):
    """A probabilistic ensemble of multilayer perceptrons (PE). The defaults are the paper's, for the cartpole."""

    members: PositiveInt = 5
    """Networks in the ensemble; each trains on its own bootstrap sample."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (500, 500, 500)
    """Widths of the hidden layers."""
    activation: Activation = "silu"
    """Hidden activation; the paper's swish is `silu`."""
    weight_decay: tuple[NonNegativeFloat, ...] = (1e-4, 2.5e-4, 2.5e-4, 5e-4)
    """Decay per layer, input to output: adds `decay / 2 * sum(W^2)` to the loss. Biases are never decayed."""
    logvar_init: tuple[float, float] = (-10.0, 0.5)
    """Initial lower and upper bound of the predicted log-variance; both are trained."""
    logvar_penalty: NonNegativeFloat = 0.01
    """Weight that pulls the two bounds together."""
    nll_beta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Weight each likelihood term by `variance^beta`, held constant. 0 is the plain likelihood (PETS), which may give
    up on hard regions by predicting a large variance there; more keeps their mean learning (Seitzer et al. 2022)."""
    scale_targets: bool = False
    """Divide targets by their standard deviation (True), or use them as they are, as the paper does (False)."""
    min_std: Annotated[float, Field(gt=0)] = 1e-12
    """An input or target whose standard deviation is below this counts as constant: its deviation is taken as 1."""

    @model_validator(mode="after")
    def _check(self) -> "Ensemble":
        layers = len(self.hidden) + 1
        if len(self.weight_decay) != layers:
            raise ValueError(
                f"weight_decay has {len(self.weight_decay)} values, but {len(self.hidden)} hidden layers need {layers}"
            )
        if self.logvar_init[0] >= self.logvar_init[1]:
            raise ValueError(f"logvar_init must be (low, high) with low < high, not {self.logvar_init}")
        return self

    def init(self, key: Key[Array, ""], in_size: int, out_size: int, flags: int) -> EnsembleState:
        """A fresh ensemble of `in_size` inputs, `out_size` Gaussian outputs and `flags` yes/no outputs."""
        low, high = self.logvar_init
        sizes = (in_size, *self.hidden, 2 * out_size + flags)
        network = init_mlp(key, sizes, members=self.members, activation=self.activation)
        params = EnsembleParams(network, high * jnp.ones(out_size), low * jnp.ones(out_size))
        return EnsembleState(params, identity_normalizer(in_size), identity_normalizer(out_size))

    def loss(
        self,
        params: EnsembleParams,
        x: Float[Array, "members rows in"],
        y: Float[Array, "members rows out"],
        flags: Bool[Array, "members rows flags"],
        weight: Float[Array, "rows"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Summed over members: negative log-likelihood (no factor 1/2, no constant), decay, bound penalty.

        `x` and `y` are standardised. `weight` sums to 1 and masks rows. Returns the loss and its likelihood part
        averaged over members.
        """
        prediction = predict(params, x)
        square = jnp.square(prediction.mean - y)
        nll = square * jnp.exp(-prediction.logvar) + prediction.logvar
        if self.nll_beta:
            nll *= jax.lax.stop_gradient(jnp.exp(self.nll_beta * prediction.logvar))
        likelihood = jnp.einsum("br,r->", nll.mean(-1), weight)
        if flags.shape[-1]:
            cross_entropy = jax.nn.softplus(prediction.logits) - flags * prediction.logits
            likelihood += jnp.einsum("brf,r->", cross_entropy, weight)
        decay = sum(
            0.5 * decay * jnp.square(w).sum()
            for decay, w in zip(self.weight_decay, params.network.weights, strict=True)
        )
        bounds = self.logvar_penalty * (params.max_logvar.sum() - params.min_logvar.sum())
        return likelihood + decay + bounds, likelihood / self.members


def predict(params: EnsembleParams, x: Float[Array, "members rows in"]) -> Prediction:
    """Every member on its own rows."""
    out_size = params.max_logvar.shape[0]
    out = params.network(x)
    logvar = bound_logvar(out[..., out_size : 2 * out_size], params.min_logvar, params.max_logvar)
    return Prediction(out[..., :out_size], logvar, out[..., 2 * out_size :])


def bound_logvar(
    raw: Float[Array, "*rows out"], low: Float[Array, "out"], high: Float[Array, "out"]
) -> Float[Array, "*rows out"]:
    """Squash `raw` smoothly between the bounds: far from data an unbounded variance would explode."""
    below = high - jax.nn.softplus(high - raw)
    return low + jax.nn.softplus(below - low)
