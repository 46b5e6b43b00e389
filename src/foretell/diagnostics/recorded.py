"""Episodes of a run that are on disk, as data for diagnostics."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from foretell.agents import Schedule
from foretell.diagnostics.prediction import Track
from foretell.diagnostics.snapshots import held_out_trials, steps_by
from foretell.envs.environments import first_difference
from foretell.envs.simulators import Past
from foretell.errors import UserError
from foretell.replay import Transitions
from foretell.runs.directory import RunDirectory
from foretell.tasks import Task

_COMPARED = 10
"""Steps of a recorded episode that are played again."""


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
    return [read_track(directory, task, learned[i]) for i in sorted(chosen)]


def learned_tracks(directory: RunDirectory, task: Task, schedule: Schedule, trial: int | None) -> list[Track]:
    """The finished episodes that the agent learned from, by the end of a trial or all.

    Args:
        directory: of the run.
        task: the run's.
        schedule: the run's.
        trial: its number, from 1; None for all episodes.

    Raises:
        UserError: if the run has no such trial, or there are no such episodes.
    """
    rows = directory.read_episodes()
    last = steps_by(rows, trial)
    held_out = {row["episode"] for row in held_out_trials(rows, schedule)}
    learned = [row for row in rows if row["kind"] != "eval" and row["episode"] not in held_out]
    found = [read_track(directory, task, row) for row in learned if row["env_steps"] <= last]
    if not found:
        raise UserError(f"'{directory.path}' has no finished episode to inspect")
    return found


def newest_tracks(directory: RunDirectory, episodes: Sequence[Mapping[str, Any]], most: int) -> list[tuple[int, Track]]:
    """The newest finished episodes of trials and random actions with their numbers, in their order.

    Files that cannot be read are left out.

    Args:
        directory: of the run.
        episodes: the rows of its `episodes.csv`.
        most: how many to read.
    """
    learned = [row for row in episodes if row["kind"] != "eval"][-most:]
    found = []
    for row in learned:
        with suppress(UserError, KeyError):
            data = directory.read_episode(int(row["episode"]))
            parts = (np.asarray(data[name], np.float32) for name in ("observations", "actions", "rewards"))
            obs, actions, rewards = parts
            found.append((int(row["episode"]), Track(obs, actions, rewards, row.get("end") == "terminated")))
    return found


def unrepeated(directory: RunDirectory, task: Task, seed: int) -> Mapping[str, Any] | None:
    """The latest recorded training episode, if a new environment does not repeat its first steps; None if it does.

    None also if there is no such episode, or it cannot be read.

    Args:
        directory: of the run.
        task: the run's.
        seed: the run's.
    """
    with suppress(UserError):
        trained = [row for row in directory.read_episodes() if row["kind"] in ("random", "train")]
        if not trained:
            return None
        row = trained[-1]
        data = directory.read_episode(int(row["episode"]))
        rewards = data["rewards"][:_COMPARED]
        actions = data["actions"][: len(rewards)].astype(np.float32)
        past = Past(data["observations"][: len(rewards) + 1], actions, rewards)
        differs = first_difference(task, seed, int(row["episode"]), past, random=row["kind"] == "random")
        return None if differs is None else row
    return None


def read_track(directory: RunDirectory, task: Task, row: Mapping[str, Any]) -> Track:
    """The episode of a row of `episodes.csv`. Raises `UserError` if it cannot be read."""
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
