"""The replay of a run as it was at the end of an earlier trial.

A replay is only appended to until it is full. Its newest state and the number of transitions that had been added by a
trial are therefore an exact snapshot, unless transitions of that time have been overwritten since.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from foretell.agents import Schedule
from foretell.errors import UserError
from foretell.replay import Replay, Transitions


def transitions_at(replay: Replay, added: int | None = None) -> Transitions:
    """The transitions that a replay held when so many had been added, oldest first.

    Args:
        replay: in its newest state.
        added: transitions added by then; None for all.

    Raises:
        UserError: if some of them have been overwritten since.
    """
    newest = int(replay.added)
    added = newest if added is None else added
    first = max(0, added - replay.capacity)
    if (lost := newest - replay.capacity - first) > 0:
        raise UserError(
            f"{min(lost, added - first)} of the {added - first} transitions that the replay held then have been "
            f"overwritten; train with a larger train.capacity than {replay.capacity}"
        )
    slots = np.arange(first, added) % replay.capacity
    return jax.tree.map(lambda store: np.asarray(store)[slots], replay.data)


def steps_by(rows: Sequence[Mapping[str, Any]], trial: int | None) -> int:
    """Environment steps by the end of a trial, numbered from 1, or of all. Raises `UserError` if there is none."""
    trials = [row for row in rows if row["kind"] == "train"]
    if trial is None:
        return max((row["env_steps"] for row in rows), default=0)
    if trial > len(trials):
        raise UserError(f"the run has no trial {trial}, only {len(trials)}")
    return int(trials[trial - 1]["env_steps"])


def added_by(rows: Sequence[Mapping[str, Any]], schedule: Schedule, trial: int) -> int:
    """How many transitions had been added to the replay by the end of a trial, without those kept for validation.

    Args:
        rows: of `episodes.csv`.
        schedule: the run's.
        trial: its number, from 1.

    Raises:
        UserError: if the run has no such trial.
    """
    steps = steps_by(rows, trial)
    return steps - sum(row["length"] for row in held_out_trials(rows, schedule) if row["env_steps"] <= steps)


def held_out_trials(rows: Sequence[Mapping[str, Any]], schedule: Schedule) -> list[Mapping[str, Any]]:
    """The trials that the agent never learns from, see `train.validation_episodes`."""
    each = schedule.environments * schedule.episodes_per_learning
    trials = [row for row in rows if row["kind"] == "train"]
    return [row for i, row in enumerate(trials) if i % each >= each - schedule.validation_episodes]
