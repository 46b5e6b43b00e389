"""What policy optimisation has learned, and its schedule of refits and updates."""

from typing import NamedTuple

from jaxtyping import Array, Float, Int
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from foretell.agents.base import Metrics
from foretell.models import ModelState
from foretell.nn import MLP, Normalizer
from foretell.replay import Replay
from foretell.settings import Settings
from foretell.values.branches import Trust
from foretell.values.learners import LearnerState


class UpdateSchedule(Settings):
    """When the model is fitted, and how often policy and critics are updated. The defaults are those of DHMBPO."""

    per_step: PositiveFloat = 1.0
    """Updates of the policy per environment step."""
    first: NonNegativeInt | None = None
    """Updates before the agent first acts; null: `per_step` for every random step."""
    critic_first: NonNegativeInt = 250
    """Updates of the critics alone after each refit of the model; only with `gradient`."""
    refit_every: PositiveInt = 1000
    """Environment steps between two refits of the model."""
    first_fits: PositiveInt = 1
    """Calls of `fit` in the first refit."""
    optimizer_reset: bool = True
    """Begin with new moments of Adam for policy and critics after each refit (DHMBPO)."""
    standardize: bool = True
    """Standardise the inputs of policy and critics with the statistics of all real observations at each refit."""


class Acting(NamedTuple):
    """What acting needs."""

    network: MLP
    inputs: Normalizer


class PolicyOptimizationState(NamedTuple):
    """What was learned, and how often."""

    learner: LearnerState
    model: ModelState | None
    fitted: Metrics
    """Of the last refit of the model."""
    inputs: Normalizer
    """Standardises the features that policy and critics see."""
    branches: Replay | None
    calls: Int[Array, ""]
    """Calls of `learn`."""
    steps: Int[Array, ""]
    """Environment steps since the first call."""
    waiting: Int[Array, ""]
    """Environment steps since the last refit."""
    credit: Float[Array, ""]
    """Updates that are due."""
    trust: Trust | None = None
    """How far the members of the model usually disagree, where branches end by that."""
