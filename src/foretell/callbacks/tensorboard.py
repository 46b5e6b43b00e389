"""TensorBoard."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event as Record
from tensorboardX.proto.event_pb2 import SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams, scalar

from foretell.callbacks import names
from foretell.callbacks.console import warn
from foretell.runs.trees import leaf_paths, value_at
from foretell.training.events import Callback, EpisodeEnded, Learned, RunInfo, TrainingEnded, TrainingStarted

_FLUSH_SECONDS = 30.0


class EventFile:
    """Writes TensorBoard events. If it cannot, it says so once and does nothing any more.

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

    def add(self, values: Mapping[str, Any], step: Any) -> None:
        """Write numbers by their names, but for those that are not finite: TensorBoard shows none, and warns."""
        for name, value in values.items():
            if math.isfinite(value):
                self.write(scalar(name, float(value)), step)

    def write(self, summary: Summary, step: Any) -> None:
        """Write anything that TensorBoard shows."""
        if self._writer is not None:
            record = Record(wall_time=time.time(), step=int(step), summary=summary)
            self._attempt(lambda: self._write(record))

    def show(self, name: str, path: Path, step: Any) -> None:
        """Write a PNG, if it is there."""
        if path.is_file():
            self._attempt(lambda: self.write(picture(name, path), step))

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
    """Writes returns and metrics as TensorBoard events over environment steps, the settings, and the learning curve."""

    def __init__(self) -> None:
        self._file: EventFile | None = None

    def on_training_start(self, event: TrainingStarted) -> None:
        steps = event.counters.env_steps
        self._file = EventFile(event.run.directory.tensorboard, steps)
        self._file.write(hparams(hyperparameters(event.run), {})[1], steps)

    def on_learn_end(self, event: Learned) -> None:
        self._add(names.of_metrics(event.row), event.row["env_steps"])

    def on_episode_end(self, event: EpisodeEnded) -> None:
        self._add(names.of_episode(event.row), event.row["env_steps"])

    def on_training_end(self, event: TrainingEnded) -> None:
        if self._file is not None:
            self._file.show(names.CURVE, event.run.directory.curve, event.counters.env_steps)
            self._file.close()

    def _add(self, values: Mapping[str, Any], step: Any) -> None:
        if self._file is not None:
            self._file.add(values, step)


def hyperparameters(run: RunInfo) -> dict[str, str | bool | int | float]:
    """Preset, seed and settings of a run, as TensorBoard compares them: `section.key`, lists as texts."""
    settings = run.notes.get("settings", {})
    values = {path: value_at(settings, path) for path in leaf_paths(settings)}
    found = {"preset": run.preset, "seed": run.seed, **values}
    return {
        name: value if isinstance(value, str | bool | int | float) else str(value)
        for name, value in found.items()
        if value is not None
    }


def picture(name: str, path: Path) -> Summary:
    """A PNG as TensorBoard shows it."""
    with Image.open(path) as image:
        width, height = image.size
    content = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=path.read_bytes())
    return Summary(value=[Summary.Value(tag=name, image=content)])
