"""Ways to carry particles through an uncertain model (Chua et al. 2018, section 4.2).

A propagation draws the chance of a whole rollout at once, and samples every particle's outputs at each step from it.
Particles lead, so that a member's particles are adjacent and become rows of one matrix multiply without a copy.

| name | a particle's output |
|---|---|
| `E` | the mean over members of their means; one particle |
| `DS` | a draw from the Gaussian with the mean and variance of the whole ensemble |
| `TS1` | a draw from one member's Gaussian; at every step each member serves equally many particles, in random order |
| `TS1-independent` | the same, but every particle draws its member by itself |
| `TSinf` | a draw from one member's Gaussian; particle `p` of `P` stays with member `floor(p / (P / members))` |
| `MM` | as `DS`, then drawn anew from the Gaussian that fits the particles of each candidate |
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from foretell.worldmodel.noise import hashed_normal
from foretell.worldmodel.prediction import Prediction, Predictor

PropagationName = Literal["E", "DS", "TS1", "TS1-independent", "TSinf", "MM"]
Noise = Any
"""The chance of one step, or with a leading axis that of every step of a rollout: a pytree."""
Outputs = Float[Array, "particles candidates out"]


class Shape(NamedTuple):
    """What chance is drawn for. `draws` is the number of candidates, or 1 where they share their luck."""

    steps: int
    particles: int
    draws: int
    out: int


class Propagation(NamedTuple):
    """One way to use the members."""

    draw: Callable[[Key[Array, ""], Shape, int], Noise]
    """(key, shape, members) -> the chance of a rollout."""
    sample: Callable[[Predictor, int, Float[Array, "particles candidates in"], Noise], Outputs]
    """(predictor, members, inputs, chance of this step) -> outputs of every particle."""


def normals(key: Key[Array, ""], shape: Shape, members: int = 1) -> Float[Array, "steps particles draws out"]:
    """A standard normal for every output of every particle at every step."""
    return jax.random.normal(key, shape) if shape.draws == 1 else hashed_normal(key, shape)


def rematch(
    values: Float[Array, "particles candidates n"], noise: Float[Array, "particles _draws n"]
) -> Float[Array, "particles candidates n"]:
    """Draw anew from the diagonal Gaussian with the mean and (population) variance of each candidate's particles."""
    return values.mean(0) + values.std(0) * noise


def _expectation(predictor: Predictor, members: int, inputs: Array, noise: Noise) -> Outputs:
    del noise
    return _moments(predictor, members, inputs)[0]


def _distribution_sampling(predictor: Predictor, members: int, inputs: Array, noise: Noise) -> Outputs:
    mean, std = _moments(predictor, members, inputs)
    return mean + std * noise


def _moment_matching(predictor: Predictor, members: int, inputs: Array, noise: Noise) -> Outputs:
    first, again = noise
    return rematch(_distribution_sampling(predictor, members, inputs, first), again)


def _trajectory_sampling(predictor: Predictor, members: int, inputs: Array, noise: Noise) -> Outputs:
    mean, std = _served_in_order(predictor, members, inputs)
    return mean + std * noise


def _balanced_sampling(predictor: Predictor, members: int, inputs: Array, noise: Noise) -> Outputs:
    normal, order = noise
    pick = lambda a, places: jnp.take_along_axis(a, places[..., None], axis=0)  # noqa: E731
    served = _served_in_order(predictor, members, pick(inputs, order))
    mean, std = (pick(a, jnp.argsort(order, axis=0)) for a in served)
    return mean + std * normal


def _independent_sampling(predictor: Predictor, members: int, inputs: Array, noise: Noise) -> Outputs:
    normal, member = noise
    answers = everyone(predictor, members, inputs)
    pick = lambda a: jnp.take_along_axis(a, member[None, ..., None], axis=0)[0]  # noqa: E731
    return pick(answers.mean) + jnp.sqrt(pick(answers.variance)) * normal


def _served_in_order(predictor: Predictor, members: int, inputs: Array) -> tuple[Outputs, Outputs]:
    """Mean and deviation of the member that serves each particle: the first few by the first, and so on."""
    prediction = predictor(inputs.reshape(members, -1, inputs.shape[-1]))
    shape = (*inputs.shape[:2], -1)
    return prediction.mean.reshape(shape), jnp.sqrt(prediction.variance).reshape(shape)


def everyone(predictor: Predictor, members: int, inputs: Array) -> Prediction:
    """Predictions `[members, particles, candidates, ...]` of every member for every particle."""
    rows = jnp.broadcast_to(inputs.reshape(-1, inputs.shape[-1]), (members, inputs[..., 0].size, inputs.shape[-1]))
    return Prediction(*(a.reshape(members, *inputs.shape[:2], -1) for a in predictor(rows)))


def _moments(predictor: Predictor, members: int, inputs: Array) -> tuple[Outputs, Outputs]:
    """Mean and deviation of the ensemble taken as one Gaussian."""
    mean, variance, _ = everyone(predictor, members, inputs)
    return mean.mean(0), jnp.sqrt(variance.mean(0) + mean.var(0))


def _twice(key: Key[Array, ""], shape: Shape, members: int) -> Noise:
    first, again = jax.random.split(key)
    return normals(first, shape), normals(again, shape)


def _with_order(key: Key[Array, ""], shape: Shape, members: int) -> Noise:
    normal_key, order_key = jax.random.split(key)
    order: Int[Array, "steps particles draws"] = jnp.argsort(jax.random.uniform(order_key, shape[:3]), axis=1)
    return normals(normal_key, shape), order


def _with_member(key: Key[Array, ""], shape: Shape, members: int) -> Noise:
    normal_key, member_key = jax.random.split(key)
    return normals(normal_key, shape), jax.random.randint(member_key, shape[:3], 0, members)


PROPAGATIONS: dict[str, Propagation] = {
    "E": Propagation(lambda key, shape, members: None, _expectation),
    "DS": Propagation(normals, _distribution_sampling),
    "TS1": Propagation(_with_order, _balanced_sampling),
    "TS1-independent": Propagation(_with_member, _independent_sampling),
    "TSinf": Propagation(normals, _trajectory_sampling),
    "MM": Propagation(_twice, _moment_matching),
}
