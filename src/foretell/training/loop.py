"""The one training loop: episodes, learning between them, and a checkpoint after each."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from foretell.agents import Agent, Schedule, watcher, watching
from foretell.agents.base import Memory, Metrics, State
from foretell.errors import UserError
from foretell.replay import Replay, Transitions, add
from foretell.tasks import Task
from foretell.training.checkpoint import Checkpoints
from foretell.training.compilation import BackgroundProgram, compiled
from foretell.training.directory import RunDirectory, append_row
from foretell.training.interrupt import interrupt_calls
from foretell.training.state import (
    Counters,
    Episode,
    Stream,
    empty_episode,
    environment_seed,
    init_run,
    key_for,
    numpy_generator,
)

Kind = Literal["random", "warmup", "train", "eval"]


@runtime_checkable
class Observer(Protocol):
    """Somebody who watches a run: a progress display, a log. Watching never changes the run.

    What an observer does not define does nothing.
    """

    def started(self, loop: "Loop") -> None:
        return

    def stepped(self, loop: "Loop") -> None:
        return

    def learning(self, loop: "Loop") -> None:
        return

    def learned(self, loop: "Loop", row: dict[str, Any]) -> None:
        return

    def finished_episode(self, loop: "Loop", row: dict[str, Any]) -> None:
        return

    def warned(self, text: str) -> None:
        return

    def stopped(self, loop: "Loop") -> None:
        return


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
        self.state = init_run(agent, task.spec, schedule.capacity, seed)
        self._watcher = watcher(agent)
        self._start_memory = self.state.memory
        self.phase_seconds = {"plan": 0.0, "step": 0.0, "fit": 0.0}
        self.steps_since_learning = 0
        self._observers = observers
        self._checkpoints = Checkpoints(directory.checkpoints, keep=schedule.checkpoints)
        self._compiled_before = compiled()
        self._learn = BackgroundProgram(partial(_learn, agent))
        self._act = BackgroundProgram(partial(_act, agent, explore=True))
        self._act_greedily = jax.jit(partial(_act, agent, explore=False))
        self._store = jax.jit(_store)
        self._started = self._saved = time.monotonic()
        self._interrupted = False

    @property
    def kind(self) -> Kind:
        """What the current episode is for; a function of the counters alone."""
        schedule, counters = self.schedule, self.state.counters
        if not (counters.trials or counters.warmups) and (
            counters.episode < schedule.random_episodes or counters.env_steps < schedule.random_steps
        ):
            return "random"
        if counters.warmups < schedule.warmup_episodes:
            return "warmup"
        return "eval" if counters.trials and counters.evals < schedule.eval_episodes else "train"

    @property
    def _may_learn(self) -> bool:
        """Whether there are enough new data, and no episode has begun."""
        counters, every = self.state.counters, self.schedule.episodes_per_learning
        return bool(counters.new_steps and counters.trials % every == 0) and not self.state.episode.length

    @property
    def done(self) -> bool:
        counters, schedule = self.state.counters, self.schedule
        return bool(counters.trials >= schedule.trials and counters.evals >= schedule.eval_episodes)

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
                self.state = self._checkpoints.restore(self.state, partial(self._tell, "warned"))
            except UserError:
                self._checkpoints.close()
                raise
        self.directory.rewind(int(self.state.counters.episode), int(self.state.counters.learned))
        self._started = time.monotonic()

    def run(self) -> None:
        """Run to the end of the schedule. Raises `Interrupted` after Ctrl-C, `UserError` if the run cannot go on."""
        env = self.task.make()
        self._compile()
        try:
            with interrupt_calls(self._on_interrupt), watching(self._watcher, env):
                self._tell("started", self)
                while not self.done:
                    if self.kind in ("warmup", "train") and self._may_learn:
                        self._learn_now()
                    self._play(env)
                    self._close_episode()
        finally:
            self._tell("stopped", self)
            self._checkpoints.close()
            env.close()

    def _compile(self) -> None:
        state, number = self.state, np.int32(0)
        obs = np.zeros(self.task.spec.obs_size, np.float32)
        self._learn.compile(state.agent, state.replay, number, number, number)
        self._act.compile(state.agent, state.memory, obs, number, number, number)

    def _learn_now(self) -> None:
        self._tell("learning", self)
        start, counters = time.perf_counter(), self.state.counters
        agent, metrics = self._learn(
            self.state.agent,
            self.state.replay,
            np.int32(counters.new_steps),
            np.int32(self.seed),
            np.int32(counters.learned),
        )
        values = {name: float(value) for name, value in metrics.items()}
        self.phase_seconds["fit"] = time.perf_counter() - start
        if values.get("skipped_steps", 0.0) > 0.1 * values.get("gradient_steps", np.inf):
            raise UserError(
                f"learning diverged: {values['skipped_steps']:.0f} of {values['gradient_steps']:.0f} gradient steps "
                "were not finite; lower fit.learning_rate or check the environment's rewards and observations"
            )
        counters = self._counted(learned=1, new_steps=-int(counters.new_steps))
        self.state = self.state._replace(agent=agent, counters=counters)
        self._log_learning(values)
        self._check_interrupt()

    def _log_learning(self, metrics: dict[str, float]) -> None:
        counters, (programs, seconds) = self.state.counters, compiled()
        row = {
            "learn": int(counters.learned),
            "episode": int(counters.episode),
            "env_steps": int(counters.env_steps),
            **metrics,
            **{f"{phase}_seconds": spent for phase, spent in self.phase_seconds.items()},
            "compile_count": programs - self._compiled_before[0],
            "compile_seconds": seconds - self._compiled_before[1],
        }
        append_row(self.directory.metrics, row)
        self._tell("learned", self, row)
        self.phase_seconds = dict.fromkeys(self.phase_seconds, 0.0)
        self.steps_since_learning = 0

    def _play(self, env: gymnasium.Env) -> None:
        """Play the current episode from where it is to its end."""
        self._enter(env)
        random_actions = self._random_actions() if self.kind == "random" else None
        limit = min(self.task.spec.horizon, self.schedule.limit(self.kind) or self.task.spec.horizon)
        over = False
        while not over:
            t = int(self.state.episode.length)
            start = time.perf_counter()
            action = self._plan(t) if random_actions is None else random_actions[t]
            planned = time.perf_counter()
            obs, reward, terminated, truncated, _ = env.step(action)
            self.phase_seconds["plan"] += planned - start
            self.phase_seconds["step"] += time.perf_counter() - planned
            self.steps_since_learning += 1
            self._record(obs, action, float(reward), terminated)
            self._tell("stepped", self)
            over = terminated or truncated or t + 1 == limit
            if not over:
                self._check_interrupt()

    def _enter(self, env: gymnasium.Env) -> None:
        """Reset for the current episode, and repeat the actions already taken in it if the run was resumed there."""
        number, episode = int(self.state.counters.episode), self.state.episode
        length = int(episode.length)
        obs, _ = env.reset(seed=environment_seed(self.seed, number))
        for action in episode.actions[:length].astype(np.float32):  # the type they were given in
            obs = env.step(action)[0]
        if not length:
            episode.obs[0] = self._checked(obs)
            self.state = self.state._replace(memory=self._start_memory)
        elif not np.array_equal(obs, episode.obs[length]):
            raise UserError(
                f"'{self.task.spec.env_id}' did not repeat the first {length} steps of episode {number}: it is not "
                "deterministic given its seed, so a run cannot be resumed within an episode"
            )

    def _random_actions(self) -> Float[np.ndarray, "horizon action"]:
        spec = self.task.spec
        generator = numpy_generator(self.seed, Stream.RANDOM, int(self.state.counters.episode))
        shape = (spec.horizon, spec.action_size)
        return generator.uniform(spec.action_low, spec.action_high, shape).astype(np.float32)

    def _plan(self, t: int) -> Float[np.ndarray, "action"]:
        state = self.state
        act = self._act_greedily if self.kind == "eval" else self._act
        numbers = (np.int32(number) for number in (self.seed, state.counters.episode, t))
        action, memory = act(state.agent, state.memory, np.float32(state.episode.obs[t]), *numbers)
        self.state = state._replace(memory=memory)
        action = np.asarray(action)
        if self._watcher:
            self._watcher.check()
        return action

    def _record(self, obs: np.ndarray, action: np.ndarray, reward: float, terminated: bool) -> None:
        episode = self.state.episode
        t = int(episode.length)
        if not np.isfinite(reward):
            raise UserError(f"'{self.task.spec.env_id}' returned the reward {reward} at step {t}")
        episode.obs[t + 1], episode.actions[t], episode.rewards[t] = self._checked(obs), action, reward
        self.state = self.state._replace(
            episode=episode._replace(length=np.array(t + 1), terminated=np.array(int(terminated)))
        )

    def _checked(self, obs: np.ndarray) -> np.ndarray:
        if not np.isfinite(obs).all():
            name = self.task.spec.obs_names[int(np.argmin(np.isfinite(obs)))]
            raise UserError(f"'{self.task.spec.env_id}' returned an observation that is not finite in '{name}'")
        return obs

    def _close_episode(self) -> None:
        """Log the finished episode, add it to the replay, and save."""
        episode, kind = self.state.episode, self.kind
        length, counters = int(episode.length), self.state.counters
        learnable = length if kind != "eval" else 0
        rewards = episode.rewards[:length]
        row = {
            "episode": int(counters.episode),
            "env_steps": int(counters.env_steps) + learnable,
            "kind": kind,
            "return": float(rewards.sum()),
            "length": length,
            "wall_seconds": round(self.seconds, 3),
        }
        self.directory.write_episode(row, episode.obs[: length + 1], episode.actions[:length], rewards)
        if learnable:
            self.state = self.state._replace(replay=self._store(self.state.replay, _float32(episode)))
        counters = self._counted(
            episode=1,
            warmups=int(kind == "warmup"),
            trials=int(kind == "train"),
            evals=1 if kind == "eval" else -int(counters.evals) * (kind == "train"),
            env_steps=learnable,
            new_steps=learnable,
        )
        self.state = self.state._replace(episode=empty_episode(self.task.spec), counters=counters)
        self._tell("finished_episode", self, row)
        self._check_interrupt(save=kind == "train" or self.done)

    def _counted(self, **increments: int) -> Counters:
        counters = self.state.counters
        return counters._replace(**{name: getattr(counters, name) + by for name, by in increments.items()})

    def _check_interrupt(self, *, save: bool = False) -> None:
        """Save if it is time or the user asked to stop; in the latter case raise `Interrupted`."""
        if save or self._interrupted or time.monotonic() - self._saved > self.schedule.checkpoint_seconds:
            self._save()
        if self._interrupted:
            counters, length = self.state.counters, self.state.episode.length
            raise Interrupted(
                f"stopped and saved at episode {counters.episode}, step {length}; "
                f"continue with `foretell resume {self.directory.path}`"
            )

    def _save(self) -> None:
        counters = self._counted(saved=1)._replace(seconds=np.array(self.seconds))
        self._started = self._saved = time.monotonic()
        self.state = self.state._replace(counters=counters)
        self._checkpoints.save(int(counters.saved), self.state)

    def _on_interrupt(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True

    def _tell(self, event: str, *args: Any) -> None:
        for observer in self._observers:
            getattr(observer, event)(*args)


def _act(
    agent: Agent,
    state: State,
    memory: Memory,
    obs: Float[Array, "obs"],
    seed: Int[Array, ""],
    episode: Int[Array, ""],
    t: Int[Array, ""],
    *,
    explore: bool,
) -> tuple[Float[Array, "action"], Memory]:
    key = key_for(seed, Stream.ACT, episode, t)
    action, memory = agent.act(state, memory, obs[None], key, explore=explore)
    return action[0], memory


def _learn(
    agent: Agent, state: State, replay: Replay, new: Int[Array, ""], seed: Int[Array, ""], learned: Int[Array, ""]
) -> tuple[State, Metrics]:
    return agent.learn(state, replay, new, key_for(seed, Stream.LEARN, learned))


def _store(replay: Replay, episode: Episode) -> Replay:
    """Append a finished episode."""
    horizon = episode.rewards.shape[0]
    last = jnp.arange(horizon) == episode.length - 1
    rows = Transitions(
        obs=jnp.asarray(episode.obs[:-1]),
        action=jnp.asarray(episode.actions),
        reward=jnp.asarray(episode.rewards),
        next_obs=jnp.asarray(episode.obs[1:]),
        terminated=last & (episode.terminated > 0),
    )
    return add(replay, rows, jnp.asarray(episode.length))


def _float32(episode: Episode) -> Episode:
    return jax.tree.map(lambda a: a.astype(np.float32 if a.dtype == np.float64 else np.int32), episode)
