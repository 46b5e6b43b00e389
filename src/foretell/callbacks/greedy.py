"""`greedy.csv`, as the released STEVE wrote it."""

from foretell.runs.directory import writing
from foretell.training.events import Callback, EpisodeEnded, TrainingStarted


class Greedy(Callback):
    """Writes a line for each evaluation episode, without header, for tools that read the released STEVE's results.

    Columns are hours, the version of the acting policy (STEVE calls it epoch), environment steps and return.
    """

    def on_training_start(self, event: TrainingStarted) -> None:
        """Remove what was written after the checkpoint from which the run continues."""
        path = event.run.directory.greedy
        count = sum(row["kind"] == "eval" for row in event.run.directory.read_episodes())
        with writing(path):
            if path.exists():
                path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))

    def on_episode_end(self, event: EpisodeEnded) -> None:
        row, path = event.row, event.run.directory.greedy
        if row["kind"] == "eval":
            line = f"{event.seconds / 3600:.6f},{event.policy_version},{row['env_steps']},{row['return']:.6f}\n"
            with writing(path), path.open("a") as file:
                file.write(line)
