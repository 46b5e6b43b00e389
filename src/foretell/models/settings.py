"""What every kind of world model has in its settings, and how imagination is set."""

from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import FiniteFloat, PositiveInt

from foretell.models.base import TrainedModel
from foretell.models.propagation import PropagationName
from foretell.settings import Settings
from foretell.tasks.base import Task


class Unknown(NamedTuple):
    """What a model has to learn beside the dynamics."""

    reward: bool
    termination: bool


class Imagination(Settings):
    """How trajectories are imagined. The defaults are those of the PETS paper."""

    propagation: PropagationName = "TSinf"
    """How particles use the members of an ensemble; see `foretell.models.propagation`."""
    particles: PositiveInt | None = 20
    """Sampled trajectories per candidate: a multiple of the number of members with TS1 and TSinf, 1 with E. Null: the
    smallest such number from 20 on, or 1 with E."""
    shared_noise: bool = False
    """Give all candidates the same noise, so that they are compared under equal conditions (common random numbers)."""
    optimism: FiniteFloat = 0.0
    """Judge candidates by the mean of their particles' returns plus this many of their standard deviations: 0 is PETS;
    more seeks what the members disagree about, less avoids it."""
    ignore_variance: bool = False
    """Take every predicted mean for certain: TS1 and TSinf then differ between members alone, and DS and MM are E with
    many equal particles."""
    moment_matching: Literal["increments", "state"] = "increments"
    """What MM matches: the model's outputs, which each particle adds to its own state (`increments`, the released
    code), or the states themselves (`state`)."""


class ModelSettings(Settings):
    """A kind of world model: the section `model` of a preset. Subclasses register themselves and define `build`."""

    needs_data: ClassVar[bool] = True
    """Whether it knows nothing before it has been trained."""
    trains_stepwise: ClassVar[bool] = False
    """Whether `TrainedModel.prepare` and `update` train it, which agents with values call, and not `fit` alone."""

    predicts_termination: ClassVar[bool] = True
    """Whether it can learn, beside the dynamics, whether a step ends the episode."""

    kind: str

    def check(self, fit: Any, imagination: Imagination) -> None:
        """Raises `ValueError` where the other sections do not go with this kind."""

    def build(self, task: Task, *, fit: Any, imagination: Imagination, unknown: Unknown) -> TrainedModel:
        """The model of a task.

        Args:
            task: what may be known of the environment.
            fit: how it is trained, the section `fit`.
            imagination: how trajectories are imagined, the section `imagination`.
            unknown: what it has to learn beside the dynamics.

        Raises:
            UserError: if it does not fit the task.
        """
        raise NotImplementedError
