"""TensorBoard."""

from typing import Any

from tensorboardX import SummaryWriter

from foretell.training.events import Callback, EpisodeEnded, Learned, TrainingEnded, TrainingStarted


class TensorBoard(Callback):
    """Writes returns and metrics as TensorBoard events over environment steps."""

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None

    def on_training_start(self, event: TrainingStarted) -> None:
        steps = event.counters.env_steps
        purge = steps + 1 if steps else None  # what comes later will be written again
        self._writer = SummaryWriter(str(event.run.directory.tensorboard), purge_step=purge)

    def on_learn_end(self, event: Learned) -> None:
        for name, value in event.row.items():
            self._write(f"learn/{name}", value, event.row["env_steps"])

    def on_episode_end(self, event: EpisodeEnded) -> None:
        for name in ("return", "length"):
            self._write(f"{event.row['kind']}/{name}", event.row[name], event.row["env_steps"])

    def on_training_end(self, event: TrainingEnded) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, name: str, value: Any, step: Any) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, int(step))
