"""The score of a run so far: the mean return of a round of evaluation or, without evaluation, of trials in a row."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from foretell.agents import Schedule
from foretell.training.clock import Counters

Row = Mapping[str, Any]
"""Of `episodes.csv`."""


def finished_scores(schedule: Schedule, counters: Counters, rows: Sequence[Row], trials: int) -> list[float]:
    """The scores of everything that a run has finished.

    Args:
        schedule: the run's.
        counters: how far it is.
        rows: all of `episodes.csv`.
        trials: how many trials in a row make a score without evaluation.

    Returns:
        A score for each round of evaluation or, without evaluation, for each trial from the `trials`th on.
    """
    if not schedule.eval_episodes:
        returns = _returns(rows, "train")
        return [fmean(returns[i : i + trials]) for i in range(len(returns) - trials + 1)]
    evaluations = [row for row in rows if row["kind"] == "eval"]
    # A round takes place between two steps of training, and no two rounds at the same place.
    rounds = [_returns(list(group), "eval") for _, group in groupby(evaluations, lambda row: row["env_steps"])]
    return [fmean(returns) for returns in (rounds[:-1] if counters.evaluated else rounds)]


class Scores:
    """Computes the same scores as the run goes on."""

    def __init__(self, schedule: Schedule, counters: Counters, rows: Sequence[Row], trials: int) -> None:
        """Take into account what the run did before it is resumed; the arguments are those of `finished_scores`."""
        self._episodes, self._kind = schedule.eval_episodes, "eval" if schedule.eval_episodes else "train"
        returns = _returns(rows, self._kind)
        under_way = counters.evaluated if self._episodes else trials
        self._returns = deque(returns[max(0, len(returns) - under_way) :], maxlen=None if self._episodes else trials)

    def add(self, counters: Counters, row: Row) -> float | None:
        """Take another episode into account; the new score if it completes one."""
        if row["kind"] != self._kind:
            return None
        if self._episodes and counters.evaluated == 1:
            self._returns.clear()
        self._returns.append(row["return"])
        complete = (
            counters.evaluated >= self._episodes if self._episodes else len(self._returns) == self._returns.maxlen
        )
        return fmean(self._returns) if complete else None


def _returns(rows: Sequence[Row], kind: str) -> list[float]:
    return [row["return"] for row in rows if row["kind"] == kind]
