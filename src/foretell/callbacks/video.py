"""Videos of the run itself."""

from foretell.callbacks.console import warn
from foretell.report.video import check_drawable, film
from foretell.tasks import Task
from foretell.training.events import Callback, EpisodeEnded


class Films(Callback):
    """Films trials and evaluation episodes of a run, the first `train.record` after each call of `learn`.

    An episode is repeated from its seed and its actions when it is over, so that training itself draws nothing.
    """

    def __init__(self, task: Task) -> None:
        """Raises `UserError` if the task cannot be filmed here."""
        check_drawable(task)
        self._task = task

    def on_episode_end(self, event: EpisodeEnded) -> None:
        """Save `videos/run-episode-<n>.mp4`, with the numbers of `episodes.csv`."""
        if event.row["kind"] in ("train", "eval") and _since_learning(event) < event.run.schedule.record:
            film(self._task, event.run.directory, event.run.seed, event.row["episode"], warn)


def _since_learning(event: EpisodeEnded) -> int:
    """Trials and evaluation episodes since the last call of `learn`; of a stepwise run evaluation episodes alone."""
    counters, schedule = event.counters, event.run.schedule
    if schedule.steps_per_learning is not None:
        return counters.evaluated - 1 if event.row["kind"] == "eval" else schedule.record
    each = schedule.episodes_per_learning * schedule.environments
    return (counters.trials - 1) % each * (1 + schedule.eval_episodes) + counters.evaluated
