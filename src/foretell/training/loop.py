"""The one training loop: steps of the environments, learning between them, evaluation, and checkpoints."""

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from foretell.agents import Agent, Schedule, watcher
from foretell.agents.base import Memory, Metrics, Publishes, State
from foretell.errors import UserError
from foretell.replay import Replay, Transitions, add
from foretell.tasks import Task
from foretell.training.checkpoint import Checkpoints
from foretell.training.compilation import COMPILER_OPTIONS, BackgroundProgram, compiled
from foretell.training.directory import RunDirectory, append_row
from foretell.training.environments import Environments
from foretell.training.interrupt import interrupt_calls
from foretell.training.observer import Observer
from foretell.training.policy import restarted
from foretell.training.state import (
    Episodes,
    RunState,
    Stream,
    empty_episodes,
    init_run,
    key_for,
)

Kind = Literal["random", "warmup", "train", "eval"]


class Interrupted(Exception):
    """The user asked to stop; everything is saved."""


class Loop:
    """Drives one agent through one run. The run's whole state is `state`; everything else here can be made again."""

    def __init__(
        self,
        agent: Agent,
        task: Task,
        schedule: Schedule,
        seed: int,
        directory: RunDirectory,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.task, self.schedule, self.seed, self.directory = task, schedule, seed, directory
        self.state = init_run(agent, task.spec, schedule, seed)
        self.phase_seconds = {"plan": 0.0, "step": 0.0, "fit": 0.0}
        self.steps_since_log = 0
        self._evaluation: tuple[Episodes, Memory] | None = None
        self._watcher = watcher(agent)
        self._pretraining = agent.pretraining if isinstance(agent, Publishes) else 1
        self._fresh = self.state.memory
        self._observers = observers
        self._checkpoints = Checkpoints(directory.checkpoints, keep=schedule.checkpoints)
        self._compiled_before = compiled()
        self._learn = BackgroundProgram(partial(_learn, agent), donate=(0, 1))
        self._act = BackgroundProgram(partial(_act, agent, explore=True))
        self._act_greedily = jax.jit(partial(_act, agent, explore=False), compiler_options=COMPILER_OPTIONS)
        self._start_one = jax.jit(partial(agent.start, 1))
        self._store = jax.jit(add, donate_argnums=0)
        self._restart = jax.jit(restarted)
        self._told: Metrics = {}
        self._started = self._saved = time.monotonic()
        self._interrupted = False

    @property
    def kind(self) -> Kind:
        """What the episodes under way are for; a function of the counters alone, but for evaluation."""
        schedule, counters = self.schedule, self.state.counters
        if self._evaluation is not None:
            return "eval"
        if schedule.steps_per_learning is not None:
            return "random" if counters.env_steps < schedule.random_steps else "train"
        finished_steps = counters.env_steps - self.state.episodes.length.sum()
        if not (counters.trials or counters.warmups) and (
            counters.episode < schedule.random_episodes or finished_steps < schedule.random_steps
        ):
            return "random"
        return "warmup" if counters.warmups < schedule.warmup_episodes else "train"

    @property
    def episodes(self) -> Episodes:
        """The episodes under way: those of evaluation, if there is one, or those to learn from."""
        return self._evaluation[0] if self._evaluation else self.state.episodes

    @property
    def memory(self) -> Memory:
        """What the agent remembers of them."""
        return self._evaluation[1] if self._evaluation else self.state.memory

    @property
    def progress(self) -> tuple[int, int]:
        """How far the run is and where it ends: in steps if that is how its length is given, else in trials."""
        schedule, counters = self.schedule, self.state.counters
        if schedule.steps is not None:
            return int(counters.env_steps), schedule.steps
        return int(counters.trials), schedule.trials

    @property
    def done(self) -> bool:
        reached, end = self.progress
        return reached >= end and not self._must_evaluate

    @property
    def seconds(self) -> float:
        """Wall time of the run, time before a resume included."""
        return float(self.state.counters.seconds) + time.monotonic() - self._started

    @property
    def has_checkpoint(self) -> bool:
        """Whether the run directory holds any, damaged ones included."""
        return self._checkpoints.exist

    def restore(self) -> None:
        """Continue from the newest readable checkpoint, or from the start if none was finished. Raises `UserError`."""
        if self._checkpoints.exist:
            try:
                state: RunState = self._checkpoints.restore(self.state, partial(self._tell, "warned"))
            except UserError:
                self._checkpoints.close()
                raise
            hosted = jax.tree.map(np.array, (state.pending, state.episodes, state.counters))  # to be changed in place
            self.state = state._replace(**dict(zip(("pending", "episodes", "counters"), hosted, strict=True)))
        counters, unfinished = self.state.counters, set(self.state.episodes.number.tolist())
        self.directory.rewind(
            int(counters.episode), int(counters.logged), lambda n: n < int(counters.begun) and n not in unfinished
        )
        self._started = time.monotonic()

    def run(self) -> None:
        """Run to the end of the schedule. Raises `Interrupted` after Ctrl-C, `UserError` if the run cannot go on."""
        self._compile()
        with ExitStack() as stack:
            stack.callback(self._stop)
            envs = stack.enter_context(closing(Environments(self.task, self.schedule.environments, self.seed)))
            one = stack.enter_context(closing(Environments(self.task, min(1, self.schedule.eval_episodes), self.seed)))
            stack.enter_context(interrupt_calls(self._on_interrupt))
            self._tell("started", self)
            envs.repeat(self.state.episodes, random=self.kind == "random")
            while not self.done:
                if self._must_evaluate:
                    self._evaluate(one)
                elif self._may_learn:
                    self._learn_now()
                else:
                    self._advance(envs)

    def _stop(self) -> None:
        if self._watcher:
            self._watcher.watch(None)
        self._tell("stopped", self)
        self._checkpoints.close()

    def _compile(self) -> None:
        state, number = self.state, np.int32(0)
        rows, metrics = state.pending.rows, state.metrics
        self._learn.compile(state.agent, state.replay, rows, number, metrics, number, number, number)
        self._act.compile(state.agent, state.memory, _latest(state.episodes), number, number, number)

    @property
    def _may_learn(self) -> bool:
        """Whether there are enough new data, and this is a moment to learn."""
        schedule, counters = self.schedule, self.state.counters
        if schedule.steps_per_learning is not None:
            waited = bool(counters.new_steps >= schedule.steps_per_learning)
            return self.kind == "train" and (waited or bool(counters.learned < self._pretraining))
        every = schedule.episodes_per_learning * schedule.environments
        between = bool((self.state.episodes.number < 0).all())
        return between and self.kind != "random" and bool(counters.new_steps and counters.trials % every == 0)

    def _learn_now(self) -> None:
        self._tell("learning", self)
        start, state = time.perf_counter(), self.state
        counters, pending = state.counters, state.pending
        numbers = (np.int32(number) for number in (counters.new_steps, self.seed, counters.learned))
        given = (state.agent, state.replay, pending.rows, np.int32(pending.waiting), state.metrics, *numbers)
        agent, replay, metrics = self._learn(*given)
        self.state, self._told = state._replace(agent=agent, replay=replay), metrics
        self.phase_seconds["fit"] += time.perf_counter() - start
        pending.waiting[...] = 0
        every, steps, new = self.schedule.log_every, int(counters.env_steps), int(counters.new_steps)
        self._count(learned=1, unlogged=1, new_steps=-new)
        if self.schedule.steps_per_learning is None:
            self._log_learning(metrics)
        else:
            self.state = self.state._replace(metrics=metrics)
            if int(counters.learned) <= self._pretraining or steps // every > (steps - new) // every:
                self._log_learning(metrics)
        self._check_interrupt()

    def _finish_learning(self) -> None:
        """Wait for the last call of `learn`, which may still be at work. Only then may `pending` be written to."""
        start = time.perf_counter()
        jax.block_until_ready(self._told)
        self.phase_seconds["fit"] += time.perf_counter() - start

    def _log_learning(self, metrics: Metrics) -> None:
        """A row of means over the calls of `learn` since the last one. Raises `UserError` if learning diverges."""
        self._finish_learning()
        counters, (programs, seconds) = self.state.counters, compiled()
        values = {name: float(value) / int(counters.unlogged) for name, value in metrics.items()}
        if values.get("skipped_steps", 0.0) > 0.1 * values.get("gradient_steps", np.inf):
            raise UserError(
                f"learning diverged: {values['skipped_steps']:.0f} of {values['gradient_steps']:.0f} gradient steps "
                "were not finite; lower the learning rate or check the environment's rewards and observations"
            )
        row = {
            "learn": int(counters.learned),
            "episode": int(counters.episode),
            "env_steps": int(counters.env_steps),
            **values,
            **{f"{phase}_seconds": spent for phase, spent in self.phase_seconds.items()},
            "compile_count": programs - self._compiled_before[0],
            "compile_seconds": seconds - self._compiled_before[1],
        }
        append_row(self.directory.metrics, row)
        self._count(logged=1, unlogged=-int(counters.unlogged))
        self.state = self.state._replace(metrics=jax.tree.map(jnp.zeros_like, self.state.metrics))
        self._tell("learned", self, row)
        self.phase_seconds = dict.fromkeys(self.phase_seconds, 0.0)
        self.steps_since_log = 0

    def _advance(self, envs: Environments) -> None:
        """One step in every environment, in a new episode where none has begun."""
        kind, episodes, horizon = self.kind, self.state.episodes, self.task.spec.horizon
        self._begin(envs)
        stepped = episodes.running
        start, fitted = time.perf_counter(), self.phase_seconds["fit"]
        if kind == "random":
            actions = envs.random_actions(episodes)
        else:
            actions, memory = self._plan(self._act, envs, episodes, self.state.memory)
            self.state = self.state._replace(memory=memory)
        planned = time.perf_counter()
        limit = self.schedule.limit(kind, int(self.state.counters.warmups))
        envs.step(episodes, actions, min(horizon, limit or horizon))
        self.phase_seconds["plan"] += planned - start - (self.phase_seconds["fit"] - fitted)
        self.phase_seconds["step"] += time.perf_counter() - planned
        self._take(stepped)
        self._tell("stepped", self)
        self._close_finished(kind)

    def _take(self, stepped: list[int]) -> None:
        """Count and keep the latest step of these environments."""
        if self.state.pending.room < len(stepped):
            self._flush()
        self.state.pending.take(self.state.episodes, stepped)
        self._count(env_steps=len(stepped), new_steps=len(stepped))
        self.steps_since_log += len(stepped)

    def _close_finished(self, kind: Kind) -> None:
        """Close the episodes that are over: where learning waits for them, not before all are."""
        schedule, episodes = self.schedule, self.state.episodes
        together = schedule.steps_per_learning is None
        if not together and kind == "random" and self.kind != "random":
            episodes.over[:] = 1  # they are cut where the random steps end
        closed = [] if together and episodes.running else np.flatnonzero(episodes.over).tolist()
        for row in closed:
            self._close_episode(episodes, row, kind)
        self._check_interrupt(save=self.done or (together and kind == "train" and bool(closed)))

    def _begin(self, envs: Environments) -> None:
        """Begin episodes where there are none, with a fresh memory."""
        episodes, counters, random = self.state.episodes, self.state.counters, self.kind == "random"
        rows = np.flatnonzero(episodes.number < 0).tolist()
        for row in rows:
            envs.begin(episodes, row, int(counters.begun), random=random)
            self._count(begun=1)
        if len(rows) == len(episodes.number):
            self.state = self.state._replace(memory=self._fresh)
        elif len(rows):
            new = np.isin(np.arange(len(episodes.number)), rows)
            self.state = self.state._replace(memory=self._restart(self.state.memory, self._fresh, new))

    def _plan(
        self, act: Any, envs: Environments, episodes: Episodes, memory: Memory
    ) -> tuple[Float[np.ndarray, "environments action"], Memory]:
        if self._watcher:
            self._watcher.watch(envs.copies[0])
        # Episodes in the first environment follow each other, so their number and time are never the same twice.
        numbers = (np.int32(number) for number in (self.seed, episodes.number[0], episodes.clock))
        actions, memory = act(self.state.agent, memory, _latest(episodes), *numbers)
        self._finish_learning()  # all that came before this was done meanwhile
        actions = np.asarray(actions)
        if self._watcher:
            self._watcher.check()
        return actions, memory

    @property
    def _rounds(self) -> int:
        """Rounds of evaluation that should have been played by now."""
        schedule, counters = self.schedule, self.state.counters
        if schedule.eval_every is None:
            return int(counters.trials) // schedule.environments
        return max(0, int(counters.env_steps) - schedule.random_steps) // schedule.eval_every

    @property
    def _must_evaluate(self) -> bool:
        return bool(self.schedule.eval_episodes and self.state.counters.evaluations < self._rounds)

    def _evaluate(self, envs: Environments) -> None:
        """Play the next evaluation episode to its end. If interrupted it is played again, and goes the same way."""
        schedule, counters = self.schedule, self.state.counters
        episodes, memory = empty_episodes(self.task.spec, 1), self._start_one()
        self._evaluation = episodes, memory
        try:
            envs.begin(episodes, 0, int(counters.begun))
            while episodes.running:
                actions, memory = self._plan(self._act_greedily, envs, episodes, memory)
                self._evaluation = episodes, memory
                envs.step(episodes, actions, self.task.spec.horizon)
                self._tell("stepped", self)
                self._check_interrupt()
            self._count(begun=1)
            self._close_episode(episodes, 0, "eval")
        finally:
            self._evaluation = None
        counters = self.state.counters
        if counters.evals >= schedule.eval_episodes:
            self._count(evals=-int(counters.evals), evaluations=self._rounds - int(counters.evaluations))
        self._check_interrupt(save=self.done)

    def _close_episode(self, episodes: Episodes, row: int, kind: Kind) -> None:
        """Log a finished episode, and forget it."""
        length = int(episodes.length[row])
        rewards = episodes.rewards[row, :length]
        line = {
            "episode": int(episodes.number[row]),
            "env_steps": int(self.state.counters.env_steps),
            "kind": kind,
            "return": float(rewards.sum()),
            "length": length,
            "wall_seconds": round(self.seconds, 3),
        }
        self.directory.write_episode(line, episodes.obs[row, : length + 1], episodes.actions[row, :length], rewards)
        kinds = {"warmup": "warmups", "train": "trials", "eval": "evals"}
        self._count(episode=1, **({kinds[kind]: 1} if kind in kinds else {}))
        episodes.forget(row)
        self._tell("finished_episode", self, line)

    def _flush(self) -> None:
        """Move what is pending to the replay, to make room."""
        pending = self.state.pending
        replay = self._store(self.state.replay, pending.rows, np.int32(pending.waiting))
        self.state = self.state._replace(replay=jax.block_until_ready(replay))  # `pending` is about to change
        pending.waiting[...] = 0

    def _count(self, **increments: int) -> None:
        for name, by in increments.items():
            getattr(self.state.counters, name)[...] += by

    def _check_interrupt(self, *, save: bool = False) -> None:
        """Save if it is time or the user asked to stop; in the latter case raise `Interrupted`."""
        if save or self._interrupted or time.monotonic() - self._saved > self.schedule.checkpoint_seconds:
            self._save()
        if self._interrupted:
            episodes, counters = self.state.episodes, self.state.counters
            at = episodes.number[0] if episodes.number[0] >= 0 else counters.begun
            raise Interrupted(
                f"stopped and saved at episode {at}, step {episodes.length[0]}; "
                f"continue with `foretell resume {self.directory.path}`"
            )

    def _save(self) -> None:
        seconds = self.seconds
        self._count(saved=1)
        self.state.counters.seconds[...] = seconds
        self._started = self._saved = time.monotonic()
        self._checkpoints.save(int(self.state.counters.saved), self.state)

    def _on_interrupt(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        self._tell("interrupted", self)

    def _tell(self, event: str, *args: Any) -> None:
        for observer in self._observers:
            getattr(observer, event)(*args)


def _latest(episodes: Episodes) -> Float[np.ndarray, "environments obs"]:
    """The observation that each environment has shown last."""
    return episodes.obs[np.arange(len(episodes.length)), episodes.length].astype(np.float32)


def _act(
    agent: Agent,
    state: State,
    memory: Memory,
    obs: Float[Array, "environments obs"],
    seed: Int[Array, ""],
    episode: Int[Array, ""],
    t: Int[Array, ""],
    *,
    explore: bool,
) -> tuple[Float[Array, "environments action"], Memory]:
    return agent.act(state, memory, obs, key_for(seed, Stream.ACT, episode, t), explore=explore)


def _learn(
    agent: Agent,
    state: State,
    replay: Replay,
    rows: Transitions,
    waiting: Int[Array, ""],
    metrics: Metrics,
    new: Int[Array, ""],
    seed: Int[Array, ""],
    learned: Int[Array, ""],
) -> tuple[State, Replay, Metrics]:
    """Store the first `waiting` of `rows`, then learn; what is told is added to `metrics`."""
    replay = add(replay, rows, waiting)
    state, told = agent.learn(state, replay, new, key_for(seed, Stream.LEARN, learned))
    return state, replay, {name: value + metrics.get(name, 0.0) for name, value in told.items()}
