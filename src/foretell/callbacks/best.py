"""`best/`: the agent at its best so far."""

import csv
import math
from pathlib import Path
from typing import NamedTuple

from foretell.agents.base import State
from foretell.callbacks.models import load_state, save_state
from foretell.callbacks.scores import Scores
from foretell.errors import UserError, brief
from foretell.runs.directory import RunDirectory, append_row, truncate_rows, writing
from foretell.training.clock import Counters
from foretell.training.events import Callback, EpisodeEnded, TrainingStarted


class KeepBest(Callback):
    """Keeps the agent of the best round of evaluation so far or, without evaluation, of the best trial.

    `best/best.csv` lists all improvements, the best last. An agent that has been surpassed stays on disk as long as
    there is a checkpoint from before that, from which the run may have to continue.
    """

    def __init__(self) -> None:
        self._best = -math.inf
        self._kept: list[_Kept] = []

    def on_training_start(self, event: TrainingStarted) -> None:
        """Remove improvements after the checkpoint from which the run continues."""
        directory, rows = event.run.directory, event.run.directory.read_episodes()
        self._scores = Scores(event.run.schedule, event.counters, rows, trials=1)
        numbers = {row["episode"] for row in rows}
        best = [(number, score) for number, score in _improvements(directory) if number in numbers]
        self._best = best[-1][1] if best else -math.inf
        truncate_rows(_table(directory), len(best))
        self._kept = [_Kept(_path(directory, number), event.counters.saved) for number, _ in best]
        self._kept = [kept for kept in self._kept if kept.path.exists()]
        _remove_others(directory, {kept.path for kept in self._kept})

    def on_episode_end(self, event: EpisodeEnded) -> None:
        score = self._scores.add(event.counters, event.row)
        if score is not None and score > self._best:
            self._keep(event, score)
        self._remove_surpassed(event.counters, event.run.schedule.checkpoints)

    def _keep(self, event: EpisodeEnded, score: float) -> None:
        directory, number = event.run.directory, event.row["episode"]
        path = _path(directory, number)
        save_state(path, event.state)
        append_row(_table(directory), {"episode": number, "env_steps": event.row["env_steps"], "return": score})
        self._best = score
        self._kept.append(_Kept(path, event.counters.saved))

    def _remove_surpassed(self, counters: Counters, checkpoints: int) -> None:
        """Remove agents whose successor is part of every checkpoint on disk, of which one more may be on its way."""
        while len(self._kept) > 1 and counters.saved - checkpoints > self._kept[1].saved:
            path = self._kept.pop(0).path
            with writing(path):
                path.unlink(missing_ok=True)


class _Kept(NamedTuple):
    """An agent on disk."""

    path: Path
    saved: int
    """Checkpoints written before it was kept, at most."""


def load_best(directory: RunDirectory, like: State) -> State:
    """The best agent of a run, in the structure of `like`.

    Raises:
        UserError: if none was kept, or if it cannot be read.
    """
    best = _improvements(directory)
    if not best:
        raise UserError(f"no best agent in '{directory.path}'; none was kept (train.keep_best)")
    return load_state(_path(directory, best[-1][0]), like)


def _table(directory: RunDirectory) -> Path:
    return directory.best / "best.csv"


def _path(directory: RunDirectory, episode: int) -> Path:
    return directory.best / f"episode_{episode:04d}.eqx"


def _improvements(directory: RunDirectory) -> list[tuple[int, float]]:
    """The episode and the score of every improvement. Raises `UserError` if the table is damaged."""
    path = _table(directory)
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            return [(int(row["episode"]), float(row["return"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"'{path}' is damaged ({brief(error)})") from error


def _remove_others(directory: RunDirectory, kept: set[Path]) -> None:
    """Remove agents that are not in the table."""
    for path in directory.best.glob("episode_*"):
        if path not in kept:
            with writing(path):
                path.unlink()
