"""Reporting in a run: it makes the records of what happens and hands them to the callbacks."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import numpy as np

from foretell.agents.base import Carry, Extras, PolicyParams
from foretell.envs import Episodes
from foretell.envs.episodes import UNSAID
from foretell.errors import UserError
from foretell.training.clock import Counters, Kind
from foretell.training.events import (
    Callback,
    Callbacks,
    EpisodeEnded,
    Event,
    InterruptRequested,
    Learned,
    LearningStarted,
    RunInfo,
    StepTaken,
    TrainingEnded,
    TrainingStarted,
    Warned,
)
from foretell.training.notices import Notices
from foretell.training.state import RunState
from foretell.training.stopwatch import Stopwatch


class Reporter:
    """Calls the callbacks of a run with a record of what happens."""

    def __init__(self, run: RunInfo, callbacks: Sequence[Callback], watch: Stopwatch) -> None:
        self._run, self._callbacks, self._watch = run, Callbacks(callbacks), watch
        self._notices = Notices(run, self.warned)
        self.stopping: str | None = None
        """Why a callback asked the run to end early, if one did."""

    def training_started(self, state: RunState) -> None:
        self._call("on_training_start", TrainingStarted, state.counters, episodes=state.episodes)
        self._notices.started(state.counters, self._run.schedule)

    def learning_started(self, counters: Counters) -> None:
        self._call("on_learn_start", LearningStarted, counters)

    def learned(self, state: RunState, metrics: dict[str, float]) -> None:
        """A row of metrics, means over the calls of `learn` since the last row. Raises `UserError` if they diverge."""
        counters = state.counters
        self._notices.learned(counters, metrics, state.agent)
        count = {"learn": counters.learned, "episode": counters.episodes, "env_steps": counters.env_steps}
        self._call("on_learn_end", Learned, counters, row={**count, **metrics, **self._watch.columns()})
        self._watch.lap()

    def warned(self, counters: Counters, text: str) -> None:
        self._call("on_warning", Warned, counters, text=text)

    def interrupt_requested(self, counters: Counters) -> None:
        self._call("on_interrupt", InterruptRequested, counters)

    def training_ended(self, counters: Counters, *, failed: bool) -> None:
        """If the run fails, or is interrupted, what fails in callbacks now does not hide why."""
        with suppress(UserError) if failed else nullcontext():
            self._notices.ended(counters)
            self._call("on_training_end", TrainingEnded, counters, reason=self.stopping)

    def step_taken(
        self, state: RunState, kind: Kind, episodes: Episodes, policy: PolicyParams, carry: Carry, extras: Extras
    ) -> None:
        if kind != "eval":
            self._notices.acted(extras)
        acted = {"policy": policy, "carry": carry, "extras": extras, "state": state.agent}
        self._call("on_step", StepTaken, state.counters, kind=kind, episodes=episodes, **acted)

    def episode_ended(self, state: RunState, kind: Kind, episodes: Episodes, row: int, extras: Extras) -> None:
        """The episode in one environment is over, and counted."""
        length = int(episodes.length[row])
        rewards = episodes.rewards[row, :length]
        line = {
            "episode": int(episodes.number[row]),
            "env_steps": state.counters.env_steps,
            "kind": kind,
            "return": float(rewards.sum()),
            "length": length,
            **_ending(episodes, row, self._run.task.spec.horizon),
            "wall_seconds": round(self._watch.seconds, 3),
        }
        self._call(
            "on_episode_end",
            EpisodeEnded,
            state.counters,
            row=line,
            obs=episodes.obs[row, : length + 1],
            actions=episodes.actions[row, :length],
            rewards=rewards,
            state=state.agent,
            policy_version=int(np.asarray(extras["policy_version"])[row]) if "policy_version" in extras else 0,
        )
        if kind != "eval":
            rows = episodes.obs[row, : length + 1], episodes.actions[row, :length]
            self._notices.episode_ended(state.counters, line["episode"], *rows)

    def _call(self, hook: str, record: Callable[..., Event], counters: Counters, **fields: Any) -> None:
        """Call a hook of all callbacks; one of them may ask the run to stop."""
        times = {"seconds": self._watch.seconds, "step_seconds": self._watch.step_seconds}
        make = partial(record, run=self._run, counters=counters, **times, **fields)
        self.stopping = self._callbacks.call(hook, make) or self.stopping


def _ending(episodes: Episodes, row: int, horizon: int) -> dict[str, Any]:
    """How an episode ended: `terminated`, at its `limit`, or `truncated` before by the environment or the schedule."""
    success = int(episodes.success[row])
    over = "truncated" if episodes.length[row] < horizon else "limit"
    return {
        "end": "terminated" if episodes.terminated[row] else over,
        "success": "" if success == UNSAID else success,
    }
