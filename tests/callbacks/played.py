"""A run played by hand: callbacks get the events of a run without a loop, an agent or an environment."""

from types import MappingProxyType

import jax.numpy as jnp
import numpy as np

from foretell.agents import Agent, Schedule
from foretell.callbacks import CSVLog
from foretell.envs import empty_episodes
from foretell.runs.directory import RunDirectory
from foretell.tasks import Task, TaskSpec
from foretell.training.clock import Counters
from foretell.training.events import (
    Callbacks,
    EpisodeEnded,
    InterruptRequested,
    Learned,
    LearningStarted,
    RunInfo,
    TrainingEnded,
    TrainingStarted,
    Warned,
)

STEPS = 5


class Line(Task):
    spec = TaskSpec("tiny/Line-v0", ("position", "speed"), (-1.0,), (1.0,), STEPS)


class Idle(Agent):
    """Does nothing."""


class Played:
    """Its schedule is not followed; what happens is up to the caller. `reason` is why callbacks asked it to stop."""

    def __init__(self, path, make, **schedule):
        """`make` makes the callbacks, now and after every resume; `CSVLog` comes before them."""
        (path / "data").mkdir(parents=True)
        (path / "config.yaml").write_text("preset: toy\nseed: 3\n")
        self.directory, self._make = RunDirectory(path), make
        self.info(**schedule)
        self.resume(Counters())

    def info(self, notes=MappingProxyType({}), **schedule):
        """Change the schedule."""
        self.run = RunInfo(
            directory=self.directory,
            preset="toy",
            seed=3,
            task=Line(),
            agent=Idle(),
            schedule=Schedule(**{"trials": 100, **schedule}),
            notes=notes,
        )

    def resume(self, counters):
        """Continue from a checkpoint."""
        self.counters, self.reason = counters, None
        self._callbacks = Callbacks([CSVLog(), *self._make()])
        self.call("on_training_start", TrainingStarted, episodes=empty_episodes(Line.spec, 1))

    def save(self):
        """A checkpoint."""
        self.counters = self.counters.plus(saved=1)
        return self.counters

    def episode(self, kind, value, state=0.0, version=0):
        """A whole episode with this return, of an agent that has learned `state`."""
        number, learned_from = self.counters.begun, kind != "eval"
        self.count(begun=1, episodes=1, env_steps=STEPS * learned_from)
        self.count(
            **{{"train": "trials", "eval": "evaluated", "warmup": "warmups"}[kind]: 1} if kind != "random" else {}
        )
        row = {"episode": number, "env_steps": self.counters.env_steps, "kind": kind, "return": float(value)}
        row |= {"length": STEPS, "wall_seconds": 0.5}
        arrays = {"obs": np.ones((STEPS + 1, 2)), "actions": np.zeros((STEPS, 1)), "rewards": np.full(STEPS, 0.2)}
        learned = {"state": jnp.float32(state), "policy_version": version}
        self.call("on_episode_end", EpisodeEnded, row=row, **arrays, **learned)
        if kind == "eval" and self.counters.evaluated >= self.run.schedule.eval_episodes:
            self.count(evaluated=-self.counters.evaluated, rounds=1)

    def learn(self, **metrics):
        self.call("on_learn_start", LearningStarted)
        self.count(learned=1, logged=1)
        row = {"learn": self.counters.learned, "env_steps": self.counters.env_steps, **metrics}
        self.call("on_learn_end", Learned, row=row)

    def warn(self, text):
        self.call("on_warning", Warned, text=text)

    def interrupt(self):
        self.call("on_interrupt", InterruptRequested)

    def end(self):
        self.call("on_training_end", TrainingEnded, reason=self.reason)

    def count(self, **increments):
        self.counters = self.counters.plus(**increments)

    def call(self, hook, record, **fields):
        event = record(run=self.run, counters=self.counters, seconds=7200.0, step_seconds=0.002, **fields)
        self.reason = self._callbacks.call(hook, lambda: event) or self.reason
