"""`diagnostics.csv`: how good the model and the values are as a run goes on."""

import csv
from typing import Any

from foretell.callbacks import names
from foretell.callbacks.tensorboard import EventFile
from foretell.diagnostics.critics import WithCritics
from foretell.diagnostics.examination import Examiner, Sizes
from foretell.diagnostics.recorded import recorded_tracks
from foretell.diagnostics.tables import one_row
from foretell.keys import Stream, numpy_generator
from foretell.runs.directory import RunDirectory, append_row, truncate_rows
from foretell.training.events import Callback, RunInfo, StepTaken, TrainingEnded, TrainingStarted

SIZES = Sizes(episodes=4, horizon=10, starts=64, oracle=(5,))
_EPISODES = 16
"""Recorded episodes from which starts and the learner's batch are drawn."""


class Diagnostics(Callback):
    """Measures the agent every so many environment steps, in environments and with random keys of its own.

    Values are measured along fresh episodes. Agents without critics play none: their episodes cost as much as those of
    training. Predictions begin in recorded episodes. TensorBoard's events are in `tensorboard/diagnostics`.
    """

    def __init__(self, run: RunInfo, every: int) -> None:
        """Prepare; nothing is compiled before it is needed.

        Args:
            run: the run.
            every: environment steps from one measurement to the next.
        """
        self._run, self._every, self._done = run, every, 0
        self._examiner: Examiner | None = None
        self._file: EventFile | None = None

    def on_training_start(self, event: TrainingStarted) -> None:
        """Remove what was written after the checkpoint from which the run continues."""
        directory, steps = event.run.directory, event.counters.env_steps
        truncate_rows(directory.diagnostics, sum(at <= steps for at in _steps_in(directory)))
        self._done = steps // self._every
        self._file = EventFile(directory.tensorboard / "diagnostics", steps)

    def on_step(self, event: StepTaken) -> None:
        """Measure if that is due, but not an agent that has not learned yet."""
        due = event.counters.env_steps // self._every
        if event.kind == "eval" or due == self._done:
            return
        self._done = due
        directory, steps = event.run.directory, event.counters.env_steps
        if event.kind == "random":
            return
        rng = numpy_generator(self._run.seed, Stream.DIAGNOSE, steps)
        tracks = recorded_tracks(directory, self._run.task, _EPISODES, rng)
        if tracks:
            found = self._examiner_of_run().examine(event.state, tracks, steps, fresh=False)
            self._write(directory, {"env_steps": steps, **one_row(found, SIZES.horizon)})

    def on_training_end(self, event: TrainingEnded) -> None:
        if self._examiner is not None:
            self._examiner.close()
        if self._file is not None:
            self._file.close()

    def _examiner_of_run(self) -> Examiner:
        if self._examiner is None:
            run = self._run
            sizes = SIZES if isinstance(run.agent, WithCritics) else SIZES._replace(episodes=0)
            self._examiner = Examiner(run.agent, run.task, sizes, run.seed, run.schedule.workers)
        return self._examiner

    def _write(self, directory: RunDirectory, row: dict[str, Any]) -> None:
        append_row(directory.diagnostics, row)
        if self._file is not None:
            self._file.add(names.of_diagnostics(row), row["env_steps"])


def _steps_in(directory: RunDirectory) -> list[int]:
    """Environment steps of the rows that are there."""
    if not directory.diagnostics.is_file():
        return []
    with directory.diagnostics.open(newline="") as file:
        return [int(row["env_steps"]) for row in csv.DictReader(file)]
