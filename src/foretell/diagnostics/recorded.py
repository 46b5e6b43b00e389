"""Episodes of a run that are on disk, as data for diagnostics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foretell.diagnostics.prediction import Track
from foretell.replay import Transitions
from foretell.runs.directory import RunDirectory
from foretell.tasks import Task


def recorded_tracks(directory: RunDirectory, task: Task, most: int, rng: np.random.Generator) -> list[Track]:
    """Some of the finished episodes that the agent learned from, drawn without replacement.

    An episode of a trial that is shorter than the task's horizon has terminated.

    Args:
        directory: of the run.
        task: the run's.
        most: how many to read.
        rng: draws them.
    """
    learned = [row for row in directory.read_episodes() if row["kind"] != "eval"]
    chosen = rng.permutation(len(learned))[:most]
    return [_track(directory, task, learned[i]) for i in sorted(chosen)]


def _track(directory: RunDirectory, task: Task, row: Mapping[str, Any]) -> Track:
    data = directory.read_episode(int(row["episode"]))
    obs, actions, rewards = (np.asarray(data[name], np.float32) for name in ("observations", "actions", "rewards"))
    return Track(obs, actions, rewards, row["kind"] == "train" and len(rewards) < task.spec.horizon)


def transitions(tracks: Sequence[Track]) -> Transitions:
    """All their steps."""
    ends = [np.arange(len(track.actions)) == len(track.actions) * track.terminated - 1 for track in tracks]
    columns = (
        [track.obs[:-1] for track in tracks],
        [track.actions for track in tracks],
        [track.rewards for track in tracks],
        [track.obs[1:] for track in tracks],
        ends,
    )
    found: Any = [np.concatenate(column) for column in columns]
    return Transitions(*found)
