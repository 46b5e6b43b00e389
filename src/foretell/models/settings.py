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
    """Propagation method: how particles use the members of an ensemble and their predicted variance."""
    particles: PositiveInt | None = 20
    """Sampled trajectories of each candidate: a multiple of `model.members` with TS1 and TSinf, 1 with E. Null: the
    smallest such number from 20 on, or 1 with E."""
    shared_noise: bool = False
    """Use the same noise for all candidates, so that they are compared under equal conditions (common random
    numbers)."""
    optimism: FiniteFloat = 0.0
    """The value of a candidate is the mean of its particles' returns plus this many of their standard deviations. 0:
    PETS; positive values seek what the members disagree about, negative values avoid it."""
    ignore_variance: bool = False
    """Ignore the predicted variance: with TS1 and TSinf particles then differ only in the members that they follow, and
    DS and MM become E with many equal particles."""
    moment_matching: Literal["increments", "state"] = "increments"
    """What MM fits a Gaussian to: the model's outputs, which each particle adds to its own state (`increments`, the
    released code), or the states (`state`)."""


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
