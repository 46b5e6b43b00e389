"""Predictions of one-step models, and the rows they are trained on."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

CHUNK = 1024
"""Rows that are predicted together where the number of rows is traced."""


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


def mean_over(
    mean: Callable[[Int[Array, "chunk"], Float[Array, "chunk"]], Float[Array, "*values"]], count: Int[Array, ""]
) -> Float[Array, "*values"]:
    """A mean over places `0..count-1`, computed chunk by chunk: as much work as there are places.

    Args:
        mean: of places, weighted; those of weight 0 repeat the last place.
        count: the number of places, traced.

    Returns:
        The mean; NaN without places.
    """

    def add(i: Int[Array, ""], total: Float[Array, "*values"]) -> Float[Array, "*values"]:
        place = i * CHUNK + jnp.arange(CHUNK)
        weight = 1.0 * (place < count)
        return total + weight.sum() * mean(jnp.minimum(place, count - 1), weight)

    chunk = jnp.zeros(CHUNK, jnp.int32), jnp.ones(CHUNK)
    none = jnp.zeros(jax.eval_shape(mean, *chunk).shape)
    return jax.lax.fori_loop(0, -(-count // CHUNK), add, none) / count


def mean_square_error(predictor: Predictor, members: int, rows: Rows, weight: Float[Array, "rows"]) -> Float[Array, ""]:
    """One-step squared error of the members' mean predictions, in the targets' own units.

    It is averaged over members, outputs, and rows with their `weight`; rows of weight 0 may hold anything.
    """
    mean = predictor(jnp.broadcast_to(rows.x, (members, *rows.x.shape))).mean
    square = jnp.square(mean - rows.y).mean(0).sum(-1) / max(rows.y.shape[-1], 1)  # there may be no outputs
    return jnp.where(weight > 0, square * weight, 0.0).sum() / jnp.maximum(weight.sum(), 1)
