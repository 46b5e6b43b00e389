"""World models: the protocol, imagination, and its implementations."""

from foretell.models.base import (
    Act,
    Disagrees,
    Metrics,
    ModelDefaults,
    ModelState,
    Params,
    Start,
    Step,
    TrainedModel,
    Trajectory,
    WorldModel,
    open_loop,
    return_fold,
    returns,
    rollout,
    start,
    survival,
)
from foretell.models.build import ModelSections, build_model
from foretell.models.learned import EnsembleModel, GPModel, LearnedModel, inputs_of, known_step
from foretell.models.path import PathModel
from foretell.models.reward import WithRewardModel
from foretell.models.settings import Imagination, ModelSettings, Unknown
from foretell.models.stale import Validated, train_until_stale
from foretell.models.steve import SteveModel, SteveNetworks
from foretell.models.true import TrueDynamics, TrueModel

__all__ = [
    "Act",
    "Disagrees",
    "EnsembleModel",
    "GPModel",
    "Imagination",
    "LearnedModel",
    "Metrics",
    "ModelDefaults",
    "ModelSections",
    "ModelSettings",
    "ModelState",
    "Params",
    "PathModel",
    "Start",
    "Step",
    "SteveModel",
    "SteveNetworks",
    "TrainedModel",
    "Trajectory",
    "TrueDynamics",
    "TrueModel",
    "Unknown",
    "Validated",
    "WithRewardModel",
    "WorldModel",
    "build_model",
    "inputs_of",
    "known_step",
    "open_loop",
    "return_fold",
    "returns",
    "rollout",
    "start",
    "survival",
    "train_until_stale",
]
