"""Runs that end early because they are good enough."""

from foretell.callbacks.scores import Scores, finished_scores
from foretell.training.events import Callback, EpisodeEnded, StopTraining, TrainingStarted

TRIALS = 5
"""Trials in a row whose mean return counts without evaluation."""


class StopAtReturn(Callback):
    """Ends a run once a round of evaluation or, without evaluation, five trials in a row reach a mean return."""

    def __init__(self, threshold: float) -> None:
        """`threshold` is the least mean return to stop at."""
        self._threshold = threshold

    def on_training_start(self, event: TrainingStarted) -> None:
        """Look at what the run has done before, if it is resumed."""
        schedule, rows = event.run.schedule, event.run.directory.read_episodes()
        self._what = "a round of evaluation" if schedule.eval_episodes else "five trials in a row"
        self._scores = Scores(schedule, event.counters, rows, TRIALS)
        for score in finished_scores(schedule, event.counters, rows, TRIALS):
            self._check(score)

    def on_episode_end(self, event: EpisodeEnded) -> None:
        score = self._scores.add(event.counters, event.row)
        if score is not None:
            self._check(score)

    def _check(self, score: float) -> None:
        if score >= self._threshold:
            raise StopTraining(
                f"{self._what} had a mean return of {score:.6g}, at least the {self._threshold:.6g} asked for"
            )
