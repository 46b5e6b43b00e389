"""A cheap agent that keeps what it was given to learn from, and runs of it without presets and settings."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from foretell.agents import Agent, Schedule
from foretell.callbacks import default_callbacks
from foretell.replay import Trajectories, init_replay
from foretell.runs.directory import RunDirectory
from foretell.tasks import TaskSettings, make_task
from foretell.training.events import RunInfo
from foretell.training.loop import Loop

CALLS = 12
"""Calls of `learn` of which it keeps the data."""
RAGGED = "environments:tiny/Ragged-v0"
TIMED = ("wall_seconds", "plan_seconds", "step_seconds", "fit_seconds", "compile_seconds", "compile_count")


class WitnessState(NamedTuple):
    """The data of all calls so far, and how many those were."""

    seen: Any
    calls: Any


@dataclass(frozen=True, kw_only=True)
class Witness(Agent):
    """Its actions follow from the observation, a counter that it carries, a random key and what it has learned."""

    data: str  # type: ignore[misc]
    schedule: Schedule
    horizon: int
    pretraining: int = 0  # type: ignore[misc]
    model: None = None  # type: ignore[misc]

    def init(self, key):
        if self.data == "replay":
            none = init_replay(self.schedule.capacity, 2, 1)
        else:
            rows = self.schedule.room(self.horizon, "trajectories"), self.schedule.environments
            floats = [jnp.zeros((*rows, *size)) for size in ((2,), (1,), (), (2,))]
            flags = [jnp.zeros(rows, bool) for _ in range(3)]
            none = Trajectories(*floats, *flags[:2], jnp.zeros(rows, jnp.int32), flags[2])
        seen = jax.tree.map(lambda a: jnp.zeros((CALLS, *a.shape), a.dtype), none)
        return WitnessState(seen, jnp.zeros((), jnp.int32))

    def policy(self, state):
        return state.calls

    def begin(self, params, obs, key):
        return jnp.zeros(len(obs), jnp.int32)

    def act(self, params, carry, obs, key, *, explore):
        unit = 0.3 * carry - 0.1 * params + 0.1 * obs[:, 0] + 0.5 * jax.random.normal(key, (len(obs),))
        extras = {"count": carry, "policy_version": jnp.broadcast_to(params, len(obs))}
        return (unit if explore else jnp.clip(unit, -1.0, 1.0))[:, None], carry + 1, extras

    def learn(self, state, data, key):
        seen = jax.tree.map(lambda all, new: all.at[state.calls].set(new), state.seen, data)
        return WitnessState(seen, state.calls + 1), {"seen": 1.0 * state.calls, "noise": jax.random.normal(key)}


class Lined(NamedTuple):
    """A run of it, in a directory."""

    loop: Loop
    directory: RunDirectory

    @property
    def episodes(self):
        return self.directory.read_episodes()

    @property
    def results(self):
        """Everything it has produced except its wall times."""
        tables = []
        for path in (self.directory.episodes, self.directory.metrics):
            lines = [line.split(",") for line in path.read_text().splitlines()] if path.exists() else [[]]
            kept = [i for i, name in enumerate(lines[0]) if name not in TIMED]
            tables.append([[line[i] for i in kept] for line in lines])
        files = [(path.name, path.read_bytes()) for path in sorted(self.directory.data.iterdir())]
        return tables, files, jax.tree.map(lambda a: np.asarray(a).tolist(), self.loop.state.agent)

    def data_of(self, episode):
        return self.directory.read_episode(episode)


def lined(path, data="replay", *, env=RAGGED, callbacks=(), watched=True, seed=2, pretraining=1, **schedule):
    """A run that is about to begin, or to continue if it has a checkpoint.

    Args:
        path: of its directory.
        data: what the agent learns from.
        env: the environment.
        callbacks: those after the usual ones.
        watched: whether there are the usual ones.
        seed: the run's.
        pretraining: calls of `learn` before a stepwise agent acts.
        schedule: section `train`.
    """
    schedule = Schedule(**{"capacity": 60, **schedule})
    task = make_task(TaskSettings(env=env))
    agent = Witness(data=data, schedule=schedule, horizon=task.spec.horizon, pretraining=pretraining)
    directory = RunDirectory(path)
    directory.data.mkdir(parents=True, exist_ok=True)
    run = RunInfo(directory=directory, preset="witness", seed=seed, task=task, agent=agent, schedule=schedule)
    usual = default_callbacks(run, quiet=True) if watched else []
    loop = Loop(run, [*usual, *callbacks])
    loop.restore()
    return Lined(loop, directory)


def finished(path, data="replay", **options):
    """The same, run to its end."""
    run = lined(path, data, **options)
    run.loop.run()
    return run
