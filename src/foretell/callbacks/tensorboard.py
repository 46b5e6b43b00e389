"""TensorBoard."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event as Record
from tensorboardX.proto.event_pb2 import SessionLog
from tensorboardX.summary import scalar

from foretell.callbacks.console import warn
from foretell.training.events import Callback, EpisodeEnded, Learned, TrainingEnded, TrainingStarted

_FLUSH_SECONDS = 30.0


class Scalars:
    """Writes numbers as TensorBoard events. If it cannot, it says so once and does nothing any more.

    A `SummaryWriter` writes in a thread, after whose failure it waits for ever.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        """Begin a new file.

        Args:
            folder: where to.
            steps: environment steps so far; events after them, from before a resume, are void.
        """
        self._folder = folder
        self._writer: EventsWriter | None = None
        self._flushed = time.monotonic()
        self._attempt(lambda: self._open(steps))

    def add(self, name: str, value: Any, step: Any) -> None:
        """Write a number."""
        if self._writer is not None:
            record = Record(wall_time=time.time(), step=int(step), summary=scalar(name, float(value)))
            self._attempt(lambda: self._write(record))

    def close(self) -> None:
        """Return when everything is on disk."""
        if self._writer is not None:
            self._attempt(self._writer.close)
        self._writer = None

    def _open(self, steps: int) -> None:
        folder = self._folder.absolute()  # of others the beginning may be taken for a protocol
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        if steps:
            start = SessionLog(status=SessionLog.START)
            self._write(Record(wall_time=time.time(), step=steps + 1, session_log=start))

    def _write(self, record: Record) -> None:
        assert self._writer is not None
        self._writer.write_event(record)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (OSError, ValueError) as error:
            self._writer = None
            reason = getattr(error, "strerror", None) or error
            warn(f"cannot write TensorBoard's events in '{self._folder}' ({reason}); training goes on without them")


class TensorBoard(Callback):
    """Writes returns and metrics as TensorBoard events over environment steps."""

    def __init__(self) -> None:
        self._scalars: Scalars | None = None

    def on_training_start(self, event: TrainingStarted) -> None:
        self._scalars = Scalars(event.run.directory.tensorboard, event.counters.env_steps)

    def on_learn_end(self, event: Learned) -> None:
        for name, value in event.row.items():
            self._write(f"learn/{name}", value, event.row["env_steps"])

    def on_episode_end(self, event: EpisodeEnded) -> None:
        for name in ("return", "length"):
            self._write(f"{event.row['kind']}/{name}", event.row[name], event.row["env_steps"])

    def on_training_end(self, event: TrainingEnded) -> None:
        if self._scalars is not None:
            self._scalars.close()

    def _write(self, name: str, value: Any, step: Any) -> None:
        if self._scalars is not None:
            self._scalars.add(name, value, step)
