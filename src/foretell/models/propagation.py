"""Ways to carry particles through an uncertain model (Chua et al. 2018, section 4.2).

Particles lead, so that a member's particles are adjacent and become rows of one matrix multiply without a copy.

| name | a particle's output |
|---|---|
| `E` | the mean over members of their means; one particle |
| `DS` | a draw from the Gaussian with the mean and variance of the whole ensemble |
| `TS1` | a draw from one member's Gaussian; at every step each member serves equally many particles, in random order |
| `TS1-independent` | the same, but every particle draws its member by itself |
| `TSinf` | a draw from one member's Gaussian; particle `p` of `P` stays with member `floor(p / (P / members))` |
| `MM` | as `DS`, then drawn anew from the Gaussian that fits the particles of each candidate |

A further one is a function registered with `@register("propagation", "name")`.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell.models.noise import hashed_bits, hashed_normal
from foretell.registry import register
from foretell.regression.prediction import Prediction, Predictor
from foretell.settings import Name

PropagationName = Annotated[str, Name("propagation")]
Inputs = Float[Array, "particles batch in"]
Outputs = Float[Array, "particles batch out"]
Flags = Float[Array, "particles batch flags"]
MATCHING_STREAM = 8
"""The first stream of a step's noise that no propagation uses."""


class Noise(NamedTuple):
    """Where a propagation finds the noise of one step."""

    key: Key[Array, ""]
    shared: bool
    """Whether all rows of the batch have the same noise."""
    drawn: Array | None = None
    """The normals of stream 0 for all outputs, if they were drawn before."""

    def normals(self, shape: tuple[int, ...], stream: int = 0) -> Float[Array, "particles _rows out"]:
        """Standard normals for outputs of this shape."""
        if self.drawn is not None and not stream and self.drawn.shape == self._shape(shape):
            return self.drawn
        return hashed_normal(self.key, self._shape(shape), stream)

    def bits(self, shape: tuple[int, ...], stream: int) -> Array:
        """Uniform 32-bit words, one for each particle."""
        return hashed_bits(self.key, self._shape(shape), stream)

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], 1, *shape[2:]) if self.shared else shape


class Propagated(NamedTuple):
    """What a propagation makes of one step."""

    outputs: Outputs
    flags: Flags
    """Probabilities of the yes/no outputs."""


Propagation = Callable[[Predictor, int, Inputs, Noise], Propagated]
"""(predictor, members, inputs, noise of this step) -> outputs of every particle."""


@register("propagation", "E")
def expectation(predictor: Predictor, members: int, inputs: Inputs, noise: Noise) -> Propagated:
    """The mean over members of their means."""
    del noise
    mean, _, flags = _moments(predictor, members, inputs)
    return Propagated(mean, flags)


@register("propagation", "DS")
def distribution_sampling(predictor: Predictor, members: int, inputs: Inputs, noise: Noise) -> Propagated:
    """A draw from the whole ensemble taken as one Gaussian."""
    mean, std, flags = _moments(predictor, members, inputs)
    return Propagated(mean + std * noise.normals(mean.shape), flags)


@register("propagation", "MM")
def moment_matching(predictor: Predictor, members: int, inputs: Inputs, noise: Noise) -> Propagated:
    """As DS, then drawn anew from the Gaussian that fits the particles of each candidate."""
    outputs, flags = distribution_sampling(predictor, members, inputs, noise)
    return Propagated(rematch(outputs, noise.normals(outputs.shape, 1)), flags)


@register("propagation", "TSinf")
def trajectory_sampling(predictor: Predictor, members: int, inputs: Inputs, noise: Noise) -> Propagated:
    """Every particle stays with its member."""
    mean, std, flags = _served_in_order(predictor, members, inputs)
    return Propagated(mean + std * noise.normals(mean.shape), flags)


@register("propagation", "TS1")
def balanced_sampling(predictor: Predictor, members: int, inputs: Inputs, noise: Noise) -> Propagated:
    """At every step each member serves equally many particles, in random order."""
    order = jnp.argsort(noise.bits(inputs.shape[:2], 1), axis=0)
    pick = lambda a, places: jnp.take_along_axis(a, places[..., None], axis=0)  # noqa: E731
    served = _served_in_order(predictor, members, pick(inputs, order))
    mean, std, flags = (pick(a, jnp.argsort(order, axis=0)) for a in served)
    return Propagated(mean + std * noise.normals(mean.shape), flags)


@register("propagation", "TS1-independent")
def independent_sampling(predictor: Predictor, members: int, inputs: Inputs, noise: Noise) -> Propagated:
    """Every particle draws its member by itself, at every step."""
    # The remainder of 32 random bits favours small numbers by at most members / 2^32, which nobody can measure.
    member = (noise.bits(inputs.shape[:2], 1) % members).astype(jnp.int32)
    answers = everyone(predictor, members, inputs)
    pick = lambda a: jnp.take_along_axis(a, member[None, ..., None], axis=0)[0]  # noqa: E731
    mean = pick(answers.mean)
    outputs = mean + jnp.sqrt(pick(answers.variance)) * noise.normals(mean.shape)
    return Propagated(outputs, jax.nn.sigmoid(pick(answers.logits)))


def rematch(
    values: Float[Array, "particles batch n"], noise: Float[Array, "particles _rows n"]
) -> Float[Array, "particles batch n"]:
    """Draw anew from the diagonal Gaussian with the mean and (population) variance of each candidate's particles."""
    return values.mean(0) + values.std(0) * noise


def everyone(predictor: Predictor, members: int, inputs: Inputs) -> Prediction:
    """Predictions `[members, particles, batch, ...]` of every member for every particle."""
    rows = jnp.broadcast_to(inputs.reshape(-1, inputs.shape[-1]), (members, inputs[..., 0].size, inputs.shape[-1]))
    return Prediction(*(a.reshape(members, *inputs.shape[:2], -1) for a in predictor(rows)))


def _served_in_order(predictor: Predictor, members: int, inputs: Inputs) -> tuple[Outputs, Outputs, Flags]:
    """Mean and standard deviation of the member that serves each particle: the first few by the first, and so on."""
    prediction = predictor(inputs.reshape(members, -1, inputs.shape[-1]))
    mean, std, flags = prediction.mean, jnp.sqrt(prediction.variance), jax.nn.sigmoid(prediction.logits)
    return tuple(a.reshape(*inputs.shape[:2], -1) for a in (mean, std, flags))  # type: ignore[return-value]


def _moments(predictor: Predictor, members: int, inputs: Inputs) -> tuple[Outputs, Outputs, Flags]:
    """Mean and standard deviation of the ensemble taken as one Gaussian."""
    mean, variance, logits = everyone(predictor, members, inputs)
    return mean.mean(0), jnp.sqrt(variance.mean(0) + mean.var(0)), jax.nn.sigmoid(logits).mean(0)
