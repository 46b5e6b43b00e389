"""Callbacks: what watches a run. One concern per file; `docs/how-to/your-own-callback.md` shows how to write one."""

from collections.abc import Iterator

from foretell.callbacks.best import KeepBest, load_best
from foretell.callbacks.console import Console, plain_console, sparkline, warn
from foretell.callbacks.csv import CSVLog
from foretell.callbacks.curve import LearningCurve
from foretell.callbacks.diagnostics import Diagnostics
from foretell.callbacks.early_stopping import StopAtReturn
from foretell.callbacks.greedy import Greedy
from foretell.callbacks.iterations import Iterations
from foretell.callbacks.models import Models, load_model, model_path
from foretell.callbacks.predictions import Predictions
from foretell.callbacks.tensorboard import TensorBoard
from foretell.callbacks.validation import Validation
from foretell.callbacks.video import Films
from foretell.callbacks.wandb import WandB
from foretell.training.events import (
    Callback,
    EpisodeEnded,
    Event,
    InterruptRequested,
    Learned,
    LearningStarted,
    RunInfo,
    StepTaken,
    StopTraining,
    TrainingEnded,
    TrainingStarted,
    Warned,
)

__all__ = [
    "CSVLog",
    "Callback",
    "Console",
    "Diagnostics",
    "EpisodeEnded",
    "Event",
    "Films",
    "Greedy",
    "InterruptRequested",
    "Iterations",
    "KeepBest",
    "Learned",
    "LearningCurve",
    "LearningStarted",
    "Models",
    "Predictions",
    "RunInfo",
    "StepTaken",
    "StopAtReturn",
    "StopTraining",
    "TensorBoard",
    "TrainingEnded",
    "TrainingStarted",
    "Validation",
    "WandB",
    "Warned",
    "default_callbacks",
    "load_best",
    "load_model",
    "model_path",
    "plain_console",
    "sparkline",
    "warn",
]


def default_callbacks(run: RunInfo, *, quiet: bool) -> list[Callback]:
    """The callbacks that every run has, and those that its schedule asks for.

    Args:
        run: the run.
        quiet: print nothing.

    Raises:
        UserError: if the run cannot do what its schedule asks for.
    """
    schedule = run.schedule
    callbacks: list[Callback] = [CSVLog(), LearningCurve(), TensorBoard()]  # others read what the first two write
    if not quiet:
        callbacks.append(Console())
    if schedule.steps_per_learning is not None:
        callbacks.append(Greedy())
    elif schedule.environments * schedule.episodes_per_learning > 1:
        callbacks.append(Iterations())
    if schedule.save_all_models:
        callbacks.append(Models())
    if schedule.keep_best:
        callbacks.append(KeepBest())
    if schedule.stop_at_return is not None:
        callbacks.append(StopAtReturn(schedule.stop_at_return))
    callbacks += _measuring(run)
    if schedule.record:
        callbacks.append(Films(run.task))
    return callbacks


def _measuring(run: RunInfo) -> Iterator[Callback]:
    """Those that measure the agent's model or its values. Raises `UserError`."""
    schedule = run.schedule
    if schedule.diagnose_every is not None:
        yield Diagnostics(run, schedule.diagnose_every)
    if schedule.validation_errors:
        yield Validation(run)
    if schedule.log_predictions != "none":
        yield Predictions(run.agent, run.task.spec, schedule.log_predictions)
