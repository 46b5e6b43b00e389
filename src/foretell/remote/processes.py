"""`processes.csv`: work, load and staleness of each process of a run on Ray."""

import csv
from collections.abc import Callable
from typing import Any

from foretell.runs.directory import append_row, truncate_rows
from foretell.training.events import Callback, Learned, TrainingStarted


class Processes(Callback):
    """Writes a row for each process with every row of metrics."""

    def __init__(self, rows: Callable[[], list[dict[str, Any]]]) -> None:
        """`rows` returns the measurements of all processes since it was last called."""
        self._rows = rows

    def on_training_start(self, event: TrainingStarted) -> None:
        """Remove rows from after the checkpoint from which the run continues."""
        path = event.run.directory.processes
        if path.is_file():
            with path.open(newline="") as file:
                steps = [int(row["env_steps"]) for row in csv.DictReader(file)]
            truncate_rows(path, sum(at <= event.counters.env_steps for at in steps))

    def on_learn_end(self, event: Learned) -> None:
        when = {"env_steps": event.counters.env_steps, "seconds": round(event.seconds, 3)}
        for row in self._rows():
            append_row(event.run.directory.processes, {**when, **row})
