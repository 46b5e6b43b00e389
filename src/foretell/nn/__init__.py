"""Networks with a leading ensemble axis, and input normalisation."""

from foretell.nn.mlp import MLP, init_mlp
from foretell.nn.normalizer import Normalizer, fit_normalizer, identity_normalizer

__all__ = ["MLP", "Normalizer", "fit_normalizer", "identity_normalizer", "init_mlp"]
