"""Messages to the user during a run: skipped updates, plans without a finite value, columns that never change."""

from collections.abc import Callable

import numpy as np

from foretell.agents.base import Extras, State
from foretell.models.unchanging import kept_columns
from foretell.training.clock import Counters
from foretell.training.events import RunInfo
from foretell.training.learner import check_finite
from foretell.training.programs import whole

_NAMED = 6
"""Columns that are named in one sentence."""


class Notices:
    """Says each thing once, or once an episode. Nothing here is part of the results of a run."""

    def __init__(self, run: RunInfo, warn: Callable[[Counters, str], None]) -> None:
        self._names, self._warn = run.task.spec.obs_names, warn
        self._skipped: str | None = None
        self._finite: list[bool] = []
        """Whether each plan since the end of the last episode has a finite imagined return."""

    def acted(self, extras: Extras) -> None:
        self._finite += np.isfinite(np.asarray(extras.get("value", ()))).tolist()

    def learned(self, counters: Counters, metrics: dict[str, float], agent: State) -> None:
        """Of a new row of metrics. Raises `UserError` if learning diverges."""
        skipped = check_finite(metrics)
        if skipped is not None and skipped != self._skipped:
            self._warn(counters, skipped)
        self._skipped = skipped
        if counters.logged == 1 and (kept := kept_columns(whole(agent), self._names)):
            names = f"{', '.join(kept[:_NAMED])}{f' and {len(kept) - _NAMED} more' if len(kept) > _NAMED else ''}"
            text = f"{names} never changed within a step of the data; imagination keeps each as it is until it does"
            self._warn(counters, text)

    def episode_ended(self, counters: Counters, number: int) -> None:
        if lost := self._finite.count(False):
            text = (
                f"{lost} of {len(self._finite)} plans up to the end of episode {number} had no finite imagined return, "
                "so their actions are arbitrary: the reward or the termination was NaN, or the model diverged"
            )
            self._warn(counters, text)
        self._finite.clear()
