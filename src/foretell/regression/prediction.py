"""Predictions of one-step models, and the rows they are trained on."""

from collections.abc import Callable
from typing import NamedTuple

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
