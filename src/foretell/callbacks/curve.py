"""`figures/learning_curve.png`, at the end of a run."""

from foretell.report.curve import draw_learning_curve, prepare_to_draw
from foretell.runs.directory import writing
from foretell.training.events import Callback, TrainingEnded, TrainingStarted


class LearningCurve(Callback):
    """Draws the return of every episode, however the run ends. Callbacks after it find the figure."""

    def on_training_start(self, event: TrainingStarted) -> None:
        prepare_to_draw()

    def on_training_end(self, event: TrainingEnded) -> None:
        """Draw what there is. Raises `UserError` if the disk refuses."""
        run = event.run
        if rows := run.directory.read_episodes():
            with writing(run.directory.curve):
                draw_learning_curve(rows, run.directory.curve, title=run.title)
