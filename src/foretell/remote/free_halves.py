"""Proxies in the main process for the learners of a free-running run."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from foretell.agents.base import State
from foretell.remote.free_processes import FreeLearnerProcess, Result
from foretell.remote.worker import Member
from foretell.replay import Trajectories
from foretell.training.learner import check_finite

_SECONDS = 0.3
"""Target duration of a call of `learn`: short, so that results are published often, but longer than its overhead."""
_MOST = 4096
"""Maximum number of steps for which one call makes updates."""


class FreeHalf:
    """The proxy of one learner, with the steps that it has not received yet and its progress."""

    def __init__(self, name: str, start: Callable[..., Member], pretraining: int) -> None:
        """Start its process.

        Args:
            name: `values` or `model`.
            start: starts a process, given its class, its name and its arguments.
            pretraining: see `Agent.pretraining`.
        """
        self.name, self._pretraining = name, pretraining
        self.member = start(FreeLearnerProcess, f"{name} learner", name)
        self.inbox: list[Trajectories] = []
        """Blocks of steps that it has not received yet."""
        self.steps = 0
        """Number of steps for which it has made its updates."""
        self.calls = 0
        self.news: Any = None
        """What it has published last, the policy or the model, in Ray's object store."""
        self.renewals = 0
        """How often it has published."""
        self.metrics: list[dict[str, float]] = []
        self._new = self._asked = 1
        self._given: Any = None

    def begin(self, state: State, replay: Any, example: Trajectories) -> None:
        """Begin with a state of the whole agent; `replay` is in Ray's object store."""
        self.inbox.clear()
        self._given = None
        if state.model is not None and self.name == "values":
            state = state._replace(model=state.model._replace(online=state.model.target))
        self.calls = int(state.calls)
        self.member.handle.begin.remote(state, replay, self.calls, example)

    def learn(self, model: Any) -> tuple[Any, Any]:
        """Request a call of `learn` with all steps that it has not received yet.

        Args:
            model: for the values learner, the newest parameters of the model in Ray's object store, if there are any.

        Returns:
            References to what the call publishes and to its result.
        """
        blocks, self.inbox = self.inbox, []
        given, self._given = None if model is self._given else model, model
        self._asked = self._new if self.calls >= self._pretraining else 0
        return self.member.handle.learn_freely.options(num_returns=2).remote(blocks, given, self._asked)

    def learned(self, news: Any, result: Result) -> None:
        """Record the result of a call that has ended."""
        self.calls += 1
        self.steps += self._asked
        self.metrics.append({name: float(value) for name, value in result.metrics.items()})
        if result.renewed:
            self.news, self.renewals = news, self.renewals + 1
        if self._asked:
            share = float(np.clip(_SECONDS / max(result.seconds, 1e-6), 0.5, 2.0))
            self._new = int(np.clip(round(self._new * share), 1, _MOST))

    def means(self) -> dict[str, float]:
        """The means of metrics since the last call of this. Raises `UserError` if learning diverges."""
        rows, self.metrics = self.metrics, []
        found = {name: sum(row[name] for row in rows) / len(rows) for name in (rows[0] if rows else {})}
        check_finite(found)
        return found


def joined(states: dict[str, State]) -> State:
    """The state of the whole agent, from those of both learners."""
    values = states["values"]
    if "model" not in states:
        return values
    return values._replace(model=values.model._replace(online=states["model"].model.online))


def on_host(tree: Any) -> Any:
    """A copy of the arrays."""
    return jax.tree.map(np.array, tree)
