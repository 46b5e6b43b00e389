"""Messages to the user during a run: that nothing is learned, or not all of it, and which columns never change."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from foretell.agents.base import Extras, Schedule, State
from foretell.models.unchanging import kept_columns
from foretell.tasks.functions import where_not_finite
from foretell.training.clock import Counters
from foretell.training.events import RunInfo
from foretell.training.learner import check_finite
from foretell.training.programs import whole

_NAMED = 6
"""Columns that are named in one sentence."""


class Notices:
    """Says each thing once, and how often it has happened at the end. Nothing here is part of the results of a run."""

    def __init__(self, run: RunInfo, warn: Callable[[Counters, str], None]) -> None:
        self._task, self._names, self._warn = run.task, run.task.spec.obs_names, warn
        self._skipped = self._lost = self._plans = self._said = 0
        """Rows of metrics with skipped updates; plans without a finite imagined return, all, and of the first said."""

    def started(self, counters: Counters, schedule: Schedule) -> None:
        """Of a run that ends before it begins to learn."""
        if schedule.steps is not None and schedule.steps <= schedule.random_steps:
            text = f"all {schedule.steps} steps of the run are random (train.random_steps={schedule.random_steps})"
            self._warn(counters, f"{text}, so nothing is learned; raise train.steps")

    def acted(self, extras: Extras) -> None:
        """Count plans."""
        finite = np.isfinite(np.asarray(extras.get("value", ())))
        self._plans += finite.size
        self._lost += int(np.sum(~finite))

    def learned(self, counters: Counters, metrics: dict[str, float], agent: State) -> None:
        """Of a new row of metrics. Raises `UserError` if learning diverges."""
        skipped = check_finite(metrics)
        if skipped is not None and not self._skipped:
            self._warn(counters, skipped)
        self._skipped += skipped is not None
        if counters.logged == 1 and (kept := kept_columns(whole(agent), self._names)):
            names = f"{', '.join(kept[:_NAMED])}{f' and {len(kept) - _NAMED} more' if len(kept) > _NAMED else ''}"
            text = f"{names} never changed within an episode; imagined episodes keep their values"
            self._warn(counters, text)

    def episode_ended(
        self,
        counters: Counters,
        number: int,
        obs: Float[np.ndarray, "times obs"],
        actions: Float[np.ndarray, "steps action"],
    ) -> None:
        """Of plans without a finite imagined return, and which function of the task is the reason, if one is."""
        if not self._lost or self._said:
            return
        self._said = self._lost
        rows = obs.astype(np.float32)
        found = where_not_finite(self._task, (rows[:-1], actions.astype(np.float32), rows[1:]))
        reason = found or "the reward or the termination was NaN, or the model diverged"
        text = (
            f"{self._lost} of {self._plans} plans up to the end of episode {number} had no finite imagined return, "
            f"so their actions are arbitrary: {reason}"
        )
        self._warn(counters, text)

    def ended(self, counters: Counters) -> None:
        """Of all that has happened again since it was said."""
        if self._lost > self._said:
            self._warn(counters, f"{self._lost} of all {self._plans} plans had no finite imagined return")
        if self._skipped > 1:
            self._warn(counters, f"gradient steps were skipped in {self._skipped} rows of metrics.csv")
