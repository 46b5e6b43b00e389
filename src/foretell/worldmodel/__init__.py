"""Learned one-step dynamics with uncertainty: ensembles and Gaussian processes, their training, and imagination."""

from typing import Annotated

from pydantic import Discriminator, Tag

from foretell.settings import kind_of
from foretell.worldmodel.dynamics import Imagination, WorldModel, WorldState
from foretell.worldmodel.ensemble import Ensemble, EnsembleState, bounded_variance
from foretell.worldmodel.fit import Fit, fit, mean_square_error
from foretell.worldmodel.gp import GP, GPFit, GPState
from foretell.worldmodel.prediction import Prediction, Rows
from foretell.worldmodel.simulator import NeuralSimulator, SimulatorSettings, SimulatorState

AnyModel = Annotated[
    Annotated[Ensemble, Tag("ensemble")] | Annotated[GP, Tag("gp")],
    Discriminator(kind_of("ensemble")),
]
"""The section `model` of a preset; its `kind` selects."""
AnyFit = Annotated[
    Annotated[Fit, Tag("adam")] | Annotated[GPFit, Tag("lbfgs")],
    Discriminator(kind_of("adam")),
]
"""The section `fit` of a preset; its `kind` selects, and must go with the model's."""

__all__ = [
    "GP",
    "AnyFit",
    "AnyModel",
    "Ensemble",
    "EnsembleState",
    "Fit",
    "GPFit",
    "GPState",
    "Imagination",
    "NeuralSimulator",
    "Prediction",
    "Rows",
    "SimulatorSettings",
    "SimulatorState",
    "WorldModel",
    "WorldState",
    "bounded_variance",
    "fit",
    "mean_square_error",
]
