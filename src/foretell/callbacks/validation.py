"""`validation.csv`: how far predictions are off on episodes that the agent has not learned from."""

import csv

import numpy as np
from jaxtyping import Float

from foretell.diagnostics.prediction import STEPS, Predictor, Track, errors_along, spread
from foretell.diagnostics.recorded import read_track
from foretell.diagnostics.snapshots import held_out_trials
from foretell.errors import UserError
from foretell.runs.directory import RunDirectory, append_row, truncate_rows
from foretell.training.events import Callback, EpisodeEnded, RunInfo, TrainingStarted


class Validation(Callback):
    """Measures the error of open-loop predictions on held-out episodes, as the released MB-MF does.

    The units are the standard deviations of the observations in random episodes, so that all rows are comparable.
    Without random episodes, they are those of the episodes on which the error is measured. See
    `train.validation_errors` for which episodes these are.
    """

    def __init__(self, run: RunInfo) -> None:
        """Raises `UserError` if the agent has no learned model."""
        model = getattr(run.agent, "model", None)
        if model is None or not model.needs_data:
            raise UserError("train.validation_errors needs an agent with a learned model; set it to false")
        self._predict = Predictor(model)
        self._std: Float[np.ndarray, obs] | None = None

    def on_training_start(self, event: TrainingStarted) -> None:
        """Remove what was written after the checkpoint from which the run continues."""
        path = event.run.directory.validation
        truncate_rows(path, sum(count <= event.counters.episodes for count in _counts(event.run.directory)))

    def on_episode_end(self, event: EpisodeEnded) -> None:
        tracks = _held_out(event)
        if not tracks:
            return
        errors = errors_along(self._predict, event.run.agent.model_params(event.state), tracks, self._units(event.run))
        count = {"episode": event.counters.episodes, "env_steps": event.counters.env_steps, "held_out": len(tracks)}
        append_row(event.run.directory.validation, {**count, **{f"error_{n}": errors.get(n, "") for n in STEPS}})

    def _units(self, run: RunInfo) -> Float[np.ndarray, "obs"] | None:
        """Standard deviations of the observations in random episodes; None without random episodes."""
        if self._std is None:
            rows = [row for row in run.directory.read_episodes() if row["kind"] == "random"]
            self._std = spread([read_track(run.directory, run.task, row) for row in rows]) if rows else None
        return self._std


def _held_out(event: EpisodeEnded) -> list[Track]:
    """The episodes on which the error is measured at the end of this one; none if it is not measured now."""
    run, schedule, kind = event.run, event.run.schedule, event.row["kind"]
    if schedule.validation_episodes == 0:
        measured = kind == ("train" if schedule.steps_per_learning is None else "eval")
        return [read_track(run.directory, run.task, event.row)] if measured else []
    each = schedule.environments * schedule.episodes_per_learning
    if kind != "train" or event.counters.trials % each != 1:
        return []
    rows = held_out_trials(run.directory.read_episodes()[:-1], schedule)
    return [read_track(run.directory, run.task, row) for row in rows]


def _counts(directory: RunDirectory) -> list[int]:
    """Finished episodes at each row that is there."""
    if not directory.validation.is_file():
        return []
    with directory.validation.open(newline="") as file:
        return [int(row["episode"]) for row in csv.DictReader(file)]
