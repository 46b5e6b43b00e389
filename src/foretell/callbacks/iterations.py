"""`log.txt`, as homework 4 of CS294-112 wrote it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from foretell.runs.directory import append_row, truncate_rows
from foretell.tasks import Task
from foretell.tasks.base import Follows
from foretell.training.events import Callback, EpisodeEnded, RunInfo, TrainingStarted


class Iterations(Callback):
    """Writes costs and returns of the trials of each iteration, which is what lies between two calls of `learn`.

    The cost of a trial is minus the planner's objective along its real observations, NaN where the reward is learned or
    a path is followed. Standard deviations are the population's.
    """

    def on_training_start(self, event: TrainingStarted) -> None:
        """Remove what was written after the checkpoint from which the run continues."""
        truncate_rows(event.run.directory.log, event.counters.trials // _trials_each(event.run))

    def on_episode_end(self, event: EpisodeEnded) -> None:
        trials, each = event.counters.trials, _trials_each(event.run)
        if event.row["kind"] != "train" or trials % each:
            return
        directory = event.run.directory
        rows = [row for row in directory.read_episodes() if row["kind"] == "train"][-each:]
        costs = [_cost(event.run.task, directory.read_episode(row["episode"])) for row in rows]
        columns = _columns("Cost", costs) | _columns("Return", [row["return"] for row in rows])
        append_row(directory.log, {"Iteration": trials // each - 1, **columns}, delimiter="\t")


def _trials_each(run: RunInfo) -> int:
    """Trials of an iteration."""
    return run.schedule.episodes_per_learning * run.schedule.environments


def _columns(name: str, values: Sequence[float]) -> dict[str, Any]:
    functions: dict[str, Callable[..., Any]] = {"Average": np.mean, "Std": np.std, "Minimum": np.min, "Maximum": np.max}
    return {f"{what}{name}": f"{function(values):.6g}" for what, function in functions.items()}


def _cost(task: Task, episode: dict[str, np.ndarray]) -> float:
    if task.reward is None or isinstance(task, Follows):
        return np.nan
    obs, actions = jnp.float32(episode["observations"]), jnp.float32(episode["actions"])
    return -float(task.reward(obs[:-1], actions, obs[1:]).sum())
