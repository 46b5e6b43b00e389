"""Networks with a leading ensemble axis, input normalisation, and optimiser steps."""

from foretell.nn.mlp import MLP, init_mlp, with_inputs, with_short_operands
from foretell.nn.normalizer import Normalizer, fit_normalizer, identity_normalizer
from foretell.nn.optimization import all_finite, step_if

__all__ = [
    "MLP",
    "Normalizer",
    "all_finite",
    "fit_normalizer",
    "identity_normalizer",
    "init_mlp",
    "step_if",
    "with_inputs",
    "with_short_operands",
]
