"""Learned one-step dynamics with uncertainty: ensembles, their training, and imagination."""

from foretell.worldmodel.dynamics import Imagination, WorldModel
from foretell.worldmodel.ensemble import Ensemble, EnsembleState, bound_logvar
from foretell.worldmodel.fit import Fit, fit, mean_square_error
from foretell.worldmodel.prediction import Prediction, Rows

__all__ = [
    "Ensemble",
    "EnsembleState",
    "Fit",
    "Imagination",
    "Prediction",
    "Rows",
    "WorldModel",
    "bound_logvar",
    "fit",
    "mean_square_error",
]
