"""One fresh episode of an agent, with what it planned and rejected at moments of it."""

import time
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
from jaxtyping import Float, UInt8

from foretell.agents import Agent
from foretell.agents.base import State, bounds_of
from foretell.compilation import COMPILER_OPTIONS
from foretell.diagnostics.candidates import Notes, Searched
from foretell.diagnostics.prediction import Track
from foretell.envs.live import serving
from foretell.keys import Stream, numpy_generator
from foretell.tasks import Task
from foretell.training.actor import begin_and_act


class Moment(NamedTuple):
    """A time at which the agent has chosen what to do next."""

    time: int
    """Steps since the start of the episode."""
    plan: Float[np.ndarray, "horizon action"] | None
    """What it planned; None if it does not plan."""
    searched: Searched | None
    """What it rejected."""
    frame: UInt8[np.ndarray, "height width 3"] | None
    """How the environment looks; None if it cannot be rendered."""


class Lived(NamedTuple):
    """An episode without exploration."""

    track: Track
    value_t: Float[np.ndarray, "steps"]
    """Imagined return of the latest plan; NaN if the agent does not plan."""
    moments: list[Moment]
    complete: bool
    """Whether it was played to its end; it may have taken too long."""


class Chosen(NamedTuple):
    """The one step of an episode that is looked at."""

    time: int
    after: int
    """Steps to be played after it."""
    best: int
    """Candidates to keep, the best ones."""


def live(
    agent: Agent,
    task: Task,
    state: State,
    *,
    seed: int,
    seconds: float,
    moments: int,
    render: bool = True,
    chosen: Chosen | None = None,
) -> Lived:
    """Play an episode, and note what the agent thinks at evenly spaced moments.

    Args:
        agent: the agent.
        task: its task.
        state: what it has learned.
        seed: of the initial state and all noise.
        seconds: wall time after the first action at which the episode is left.
        moments: how many to keep, at most; at least half as many are kept of an episode that is as long.
        render: keep a picture of each, where the environment can be rendered.
        chosen: keep only the moment of the plan that is carried out at this step, if the episode comes so far.

    Raises:
        UserError: if the environment fails.
    """
    notes, bounds, spec = Notes(chosen.best if chosen else 0), bounds_of(task), task.spec
    every = stride = getattr(getattr(agent, "planner", None), "replan_every", 1)
    last = spec.horizon if chosen is None else min(spec.horizon, chosen.time + 1 + chosen.after)
    only = None if chosen is None else chosen.time - chosen.time % every
    act = _acting(notes.watch(agent))
    kept: list[Moment] = []
    with closing(_environment(task, render=render)) as env:
        obs, _ = env.reset(seed=int(numpy_generator(seed, Stream.DIAGNOSE).integers(2**31)))
        policy, carry, over, end = jax.jit(agent.policy)(state), None, False, False
        steps: list[tuple] = []
        started = float("inf")
        while not over and time.monotonic() - started < seconds:
            t = len(steps)
            with serving([env]):
                action, carry, extras = act(policy, carry, np.asarray(obs, np.float32)[None], seed, t)
                action = np.asarray(action)[0]
            started = min(started, time.monotonic())  # not before what acting needs is compiled
            search = notes.take(bounds) if t % every == 0 else None
            if t % stride == 0 if only is None else t == only:
                plan = np.asarray(extras["plan"])[0] if "plan" in extras else None
                kept.append(Moment(t, plan, search, _frame(env)))
                if len(kept) > moments:
                    kept, stride = kept[::2], 2 * stride
            following, reward, end, truncated, _ = env.step(action)
            steps.append((obs, action, float(reward), _value(extras)))
            obs, over = following, end or truncated or len(steps) == last
    obs_t = np.asarray([step[0] for step in steps] + [obs], np.float32)
    action_t, reward_t = (np.asarray([step[i] for step in steps], np.float32) for i in (1, 2))
    track = Track(obs_t, action_t, reward_t, bool(end))
    return Lived(track, np.array([step[3] for step in steps]), kept, bool(over))


def _acting(agent: Agent) -> Any:
    """(policy, carry or None, observation, seed, time) -> actions, carry and what else acting returns."""
    program = jax.jit(partial(begin_and_act, agent, Stream.DIAGNOSE, explore=False), compiler_options=COMPILER_OPTIONS)

    def act(policy: Any, carry: Any, obs: Float[np.ndarray, "1 obs"], seed: int, t: int) -> Any:
        if carry is None:
            shapes = jax.eval_shape(agent.begin, policy, obs, jax.random.key(0))
            carry = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
        return program(policy, carry, obs, np.array([t == 0]), np.int32(seed), np.int32(t))

    return act


def _value(extras: dict[str, Any]) -> float:
    return float(np.asarray(extras["value"])[0]) if "value" in extras else np.nan


def _environment(task: Task, *, render: bool) -> gymnasium.Env:
    """An environment that can be rendered, where that works."""
    if render:
        try:
            return task.make(render_mode="rgb_array")
        except Exception:  # whatever an environment that cannot be rendered raises
            return task.make()
    return task.make()


def _frame(env: gymnasium.Env) -> UInt8[np.ndarray, "height width 3"] | None:
    if env.render_mode != "rgb_array":
        return None
    try:
        frame: Any = env.render()
    except (Exception, SystemExit):  # whatever a renderer raises
        return None
    return np.asarray(frame, np.uint8) if np.ndim(frame) == 3 else None
