"""From the sections of the settings to a world model; the same for every agent that has one."""

from typing import Annotated, Any

from pydantic import model_validator

from foretell.errors import UserError
from foretell.models.base import TrainedModel
from foretell.models.reward import WithRewardModel
from foretell.models.settings import Imagination, ModelSettings, Unknown
from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Fit
from foretell.settings import Section, Settings
from foretell.tasks.base import Follows, Task


class ModelSections(Settings):
    """The sections of a preset that make a world model."""

    model: Annotated[ModelSettings, Section("model", "ensemble")]
    """The model of the dynamics."""
    fit: Annotated[Any, Section("fit", "adam")] = Fit()
    """Training of the model."""
    imagination: Imagination = Imagination()
    """How trajectories are imagined."""
    reward_model: Ensemble | None = Ensemble(members=2, hidden=(64, 64), weight_decay=0.0, probabilistic=False)
    """Separate networks for a reward and a termination that the task does not know. Null: these are learned with the
    dynamics. Not used if the task knows both."""
    reward_fit: Fit = Fit(learning_rate=2e-3, anneal=True, min_steps=1000)
    """Training of the reward model."""

    @model_validator(mode="after")
    def _check_model(self) -> "ModelSections":
        self.model.check(self.fit, self.imagination)
        if self.reward_model is not None:
            self.reward_model.check_batches("reward_fit", self.reward_fit.batch_size)
        return self


def build_model(task: Task, sections: ModelSections) -> TrainedModel:
    """The world model of a task. Raises `UserError` if it does not fit the task."""
    unknown = Unknown(
        task.reward is None and not isinstance(task, Follows), task.terminated is None and task.learns_termination
    )
    if not sections.model.needs_data or sections.reward_model is None or not any(unknown):
        _check_flags(sections, unknown)
        return _dynamics(task, sections, unknown)
    dynamics = _dynamics(task, sections, Unknown(False, False))
    return WithRewardModel(task, dynamics, sections.reward_model, sections.reward_fit, unknown)


def _dynamics(task: Task, sections: ModelSections, unknown: Unknown) -> TrainedModel:
    return sections.model.build(task, fit=sections.fit, imagination=sections.imagination, unknown=unknown)


def _check_flags(sections: ModelSections, unknown: Unknown) -> None:
    """Raises `UserError` if the model would have to learn a termination that it cannot learn."""
    if unknown.termination and not sections.model.predicts_termination:
        raise UserError(
            f"reward_model must not be null with model.kind={sections.model.kind} where the termination is learned: "
            "such a model cannot learn yes/no outputs"
        )
