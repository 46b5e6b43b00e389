"""Predictions of one-step models, and the rows they are trained on."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Prediction(NamedTuple):
    """A diagonal Gaussian per member and row, and the logits of yes/no outputs."""

    mean: Float[Array, "members rows out"]
    variance: Float[Array, "members rows out"]
    """Zero where a model predicts none."""
    logits: Float[Array, "members rows flags"]


Predictor = Callable[[Float[Array, "members rows in"]], Prediction]
"""Inputs of every member's own rows -> its predictions, in the units of the data."""


class Rows(NamedTuple):
    """A regression data set of fixed capacity; the number of valid rows is passed separately."""

    x: Float[Array, "*rows in"]
    y: Float[Array, "*rows out"]
    flags: Bool[Array, "*rows flags"]


def mean_square_error(predictor: Predictor, members: int, rows: Rows, weight: Float[Array, "rows"]) -> Float[Array, ""]:
    """One-step squared error of the members' mean predictions, in the targets' own units.

    It is averaged over members, outputs, and rows with their `weight`; rows of weight 0 may hold anything.
    """
    mean = predictor(jnp.broadcast_to(rows.x, (members, *rows.x.shape))).mean
    square = jnp.square(mean - rows.y).mean(0).sum(-1) / max(rows.y.shape[-1], 1)  # there may be no outputs
    return jnp.where(weight > 0, square * weight, 0.0).sum() / jnp.maximum(weight.sum(), 1)
