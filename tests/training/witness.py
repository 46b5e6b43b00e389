"""An agent whose state is what it was given to learn from, for tests of what reaches an agent."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from foretell.agents import Agent, Schedule
from foretell.callbacks import CSVLog
from foretell.replay import Trajectories, init_replay
from foretell.runs.directory import RunDirectory
from foretell.tasks import TaskSettings, make_task
from foretell.training.events import Callback, RunInfo
from foretell.training.loop import Loop

CALLS = 8
"""Calls of `learn` of which it keeps the data."""


class WitnessState(NamedTuple):
    """The data of all calls so far, and their number."""

    seen: Any
    calls: Any


@dataclass(frozen=True)
class Witness(Agent):
    """Its actions are those of a counter that it carries, and beyond the bounds if it explores."""

    data: str  # type: ignore[misc]
    schedule: Schedule
    horizon: int
    pretraining: int = 0
    model = None

    def init(self, key):
        if self.data == "replay":
            none = init_replay(self.schedule.capacity, 2, 1)
        else:
            rows = self.schedule.room(self.horizon, self.data), self.schedule.environments
            floats = [jnp.zeros((*rows, *size)) for size in ((2,), (1,), (), (2,))]
            flags = [jnp.zeros(rows, bool)] * 2
            none = Trajectories(*floats, *flags, jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool))
        seen = [jnp.broadcast_to(a, (CALLS, *a.shape)) for a in none_leaves(none)]
        return WitnessState(rebuilt(none, seen), jnp.zeros((), jnp.int32))

    def policy(self, state):
        return state.calls

    def begin(self, params, obs, key):
        return jnp.zeros(len(obs), jnp.int32)

    def act(self, params, carry, obs, key, *, explore):
        unit = (carry + 1.0) / 10.0 + params
        return (unit if explore else jnp.clip(unit, -1.0, 1.0))[:, None], carry + 1, {"count": carry}

    def learn(self, state, data, key):
        seen = rebuilt(data, [a.at[state.calls].set(b) for a, b in zip(*map(none_leaves, (state.seen, data)))])
        return WitnessState(seen, state.calls + 1), {"seen": jnp.float32(state.calls)}
