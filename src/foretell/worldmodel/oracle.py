"""The true simulator in place of a learned model: copies of an environment, each put into its state and stepped.

What a planner achieves with it bounds from above what it can achieve with any model, and tells a planner's failure
from a model's.
"""

import copy
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec
from jaxtyping import Float
from pydantic import PositiveInt

from foretell.errors import UserError, brief
from foretell.settings import Settings
from foretell.tasks.base import Task

_DRAWING = ("mujoco_renderer", "renderer", "viewer", "window", "screen", "surf", "clock")
"""What environments draw with, by the names they give it. It can be neither copied nor shared, nor is it state."""
_SHARED = (gymnasium.Space, EnvSpec)
"""What describes an environment and never changes."""


class Simulation(Settings):
    """How the true simulator is run."""

    threads: PositiveInt | None = None
    """Copies of the environment that are stepped side by side; one for each core if null."""

    def count(self) -> int:
        """Threads, as many as there are cores for this process if not set."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.threads or cores


class Simulators:
    """Copies of a task's environment, each stepped by a thread of its own.

    They draw what the environment would draw: where chance plays a part, they foresee it. What wrappers remember is
    not copied.
    """

    def __init__(self, task: Task, threads: int) -> None:
        """Raises `UserError` if the environment cannot be copied."""
        self._task, self._threads = task, threads
        with task.make() as env, _told(task, "cannot be copied, which planning with the simulator needs"):
            env.reset(seed=0)
            snapshot(env)

    def snapshot(self, env: gymnasium.Env) -> gymnasium.Env:
        """As the function of that name. Raises `UserError` if the environment cannot be copied."""
        with _told(self._task, "cannot be copied, which planning with the simulator needs"):
            return snapshot(env)

    def returns(
        self, start: gymnasium.Env, actions: Float[np.ndarray, "candidates horizon action"]
    ) -> Float[np.ndarray, "candidates"]:
        """Undiscounted return of each action sequence from the snapshot `start`, to its end or to a termination.

        To the bit what the environment itself would give, at any number of threads. Raises `UserError` if a step fails.
        """
        values = np.zeros(len(actions), np.float32)
        copies = self._copies[: len(actions)]

        def play(which: int) -> None:
            for i in range(which, len(actions), len(copies)):
                values[i] = copies[which].play(start, actions[i])

        with _told(self._task, "failed while planning"):
            if len(copies) == 1:
                play(0)
            else:
                list(self._pool.map(play, range(len(copies))))
        return values

    @cached_property
    def _copies(self) -> list["_Copy"]:
        return [_Copy(self._task) for _ in range(self._threads)]

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="simulator")


class _Copy:
    """An environment, wrapped as its task wraps it, that starts from any state."""

    def __init__(self, task: Task) -> None:
        self._env = task.make()
        self._env.reset(seed=0)  # wrappers insist on it

    def play(self, start: gymnasium.Env, actions: Float[np.ndarray, "horizon action"]) -> float:
        """The sum of the rewards from `start`. Time limits do not end it, as they do not end what a model imagines."""
        _put(self._env.unwrapped, start)
        total = 0.0
        for action in actions:
            _, reward, terminated, _, _ = self._env.step(action)
            total += float(reward)
            if terminated:
                break
        return total


def snapshot(env: gymnasium.Env) -> gymnasium.Env:
    """The bare environment within all wrappers, copied as it stands, its random generator included.

    Not by `deepcopy` of the whole: of environments with Gymnasium's `EzPickle` that would be a new one.
    """
    bare = env.unwrapped
    twin = object.__new__(type(bare))
    # `deepcopy` would copy the simulator's model twice: once for the environment and once for its data.
    native = {id(part): copy.copy(part) for part in vars(bare).values() if _is_native(part)}
    _fill(twin, bare, native)
    return twin


def _put(env: gymnasium.Env, start: gymnasium.Env) -> None:
    """Put a bare environment into the state of a snapshot. It keeps what is slow to make, and fills it anew."""
    kept = {}
    for name, part in vars(start).items():
        own = vars(env).get(name)
        if isinstance(part, mujoco.MjModel):
            kept[id(part)] = part
        elif isinstance(part, mujoco.MjData) and isinstance(own, mujoco.MjData):
            # All of it: rewards may depend on derived quantities, and those are of an earlier time than the state.
            kept[id(part)] = mujoco.mj_copyData(own, part.model, part) or own
        elif isinstance(part, np.random.Generator) and isinstance(own, np.random.Generator):
            own.bit_generator.state = part.bit_generator.state
            kept[id(part)] = own
    _fill(env, start, kept)


def _fill(env: gymnasium.Env, source: gymnasium.Env, parts: dict) -> None:
    """Give `env` copies of all attributes of `source`, with `parts` for those of these ids."""
    attributes = vars(source)
    drawing = {id(part): None for name, part in attributes.items() if name in _DRAWING and not _is_plain(part)}
    shared = {id(part): part for part in attributes.values() if isinstance(part, _SHARED)}
    copied = copy.deepcopy(attributes, {**drawing, **shared, **parts, id(source): env})
    vars(env).clear()
    vars(env).update(copied)
    if "render_mode" in copied:
        env.render_mode = None


def _is_plain(part: object) -> bool:
    """Such a part may be something else that is named alike, and Python may use the object elsewhere too."""
    return isinstance(part, int | float | str | np.ndarray)


def _is_native(part: object) -> bool:
    return isinstance(part, mujoco.MjModel | mujoco.MjData)


@contextmanager
def _told(task: Task, what: str) -> Iterator[None]:
    """Turn whatever an environment's code raises into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"'{task.spec.env_id}' {what} ({brief(error)})") from error
