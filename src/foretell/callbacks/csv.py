"""`episodes.csv`, `metrics.csv` and `data/`: the results that everything else is made from."""

from foretell.runs.directory import append_row
from foretell.training.events import Callback, EpisodeEnded, Learned, TrainingStarted


class CSVLog(Callback):
    """Writes every episode and every row of metrics. Callbacks after it find in the directory what just happened."""

    def on_training_start(self, event: TrainingStarted) -> None:
        """Remove what was written after the checkpoint from which the run continues; it will be written again."""
        counters, under_way = event.counters, set(event.episodes.number.tolist())
        event.run.directory.rewind(
            counters.episodes, counters.logged, lambda number: number < counters.begun and number not in under_way
        )

    def on_learn_end(self, event: Learned) -> None:
        append_row(event.run.directory.metrics, event.row)

    def on_episode_end(self, event: EpisodeEnded) -> None:
        number = event.counters.episodes - 1
        event.run.directory.write_episode(event.row, event.obs, event.actions, event.rewards, number=number)
