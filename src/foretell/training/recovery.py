"""Recovers missing data of finished episodes, by playing the episodes again with actions from the checkpoint."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float

from foretell.envs import reset
from foretell.envs.environments import random_actions
from foretell.errors import UserError
from foretell.training.events import RunInfo
from foretell.training.programs import whole
from foretell.training.state import RunState

Row = dict[str, Any]


def recover(run: RunInfo, state: RunState, rows: list[Row], missing: Iterable[int]) -> list[int]:
    """Play episodes again and write their data, if their returns are the same as before.

    The actions of random episodes are known, and in a run with one environment also those that the replay still holds.

    Args:
        run: the run.
        state: the state in its checkpoint.
        rows: the rows of `episodes.csv`.
        missing: the numbers of the episodes.

    Returns:
        The numbers of the recovered episodes.
    """
    found: list[int] = []
    known = dict(_actions(run, state, rows))
    wanted = [row for row in rows if row["episode"] in {*missing} & known.keys()]
    if not wanted:
        return found
    with closing(run.task.make()) as env:
        for row in wanted:
            played = _play(run, env, row, known[row["episode"]])
            if played is not None:
                run.directory.write_data(row, *played, number=rows.index(row))
                found.append(row["episode"])
    return found


def _actions(run: RunInfo, state: RunState, rows: list[Row]) -> Iterator[tuple[int, Float[np.ndarray, "steps action"]]]:
    """The numbers of the episodes whose actions are known, with these actions."""
    kept = _kept(state) if run.schedule.environments == 1 else np.zeros((0, 0), np.float32)
    at = len(kept) - state.counters.env_steps  # index of the first step of the run
    for row in rows:
        length = row["length"]
        if row["kind"] == "random":
            yield row["episode"], random_actions(run.task.spec, run.seed, row["episode"])[:length]
        elif row["kind"] != "eval" and at >= 0:
            yield row["episode"], kept[at : at + length]
        if row["kind"] != "eval":
            at += length


def _kept(state: RunState) -> Float[np.ndarray, "steps action"]:
    """The latest actions of a run with one environment, in order."""
    steps = state.collected.steps
    latest = [np.asarray(steps.action)[np.asarray(steps.valid)]]
    if (replay := whole(state.replay)) is not None:
        added, capacity = int(replay.added), replay.capacity
        stored = np.asarray(replay.data.action)
        latest.insert(0, np.roll(stored, -added, 0) if added > capacity else stored[:added])
    return np.concatenate(latest).astype(np.float32)


def _play(
    run: RunInfo, env: gymnasium.Env, row: Row, actions: Float[np.ndarray, "steps action"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Observations, actions and rewards of an episode that is played again; None if its return or length differs."""
    if len(actions) != row["length"]:
        return None
    try:
        obs = [reset(env, run.task, run.seed, row["episode"], random=row["kind"] == "random")]
        steps = [env.step(action) for action in actions]
    except UserError:
        return None
    rewards = np.array([float(step[1]) for step in steps])
    if float(rewards.sum()) != row["return"]:
        return None
    return np.array([*obs, *(step[0] for step in steps)], np.float64), actions.astype(np.float64), rewards
