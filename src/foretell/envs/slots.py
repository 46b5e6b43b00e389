"""States of a simulator in which imagined trajectories are, as bare environments that are used again and again."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from foretell.envs import live
from foretell.envs.copies import blank, put, snapshot
from foretell.errors import UserError, brief
from foretell.tasks.base import Restore, Task
from foretell.tasks.randomness import IMAGINED

GENERATIONS = 4
"""Rollouts that can go on at a time."""

_FAILED = -1
"""In a carry: an earlier call has failed and reported why."""
_UNCOPIED, _BROKEN = "cannot be copied, which planning with the simulator needs", "failed while planning"
"""What can be wrong with an environment."""


class Stepped(NamedTuple):
    """What the callback of a step returns; any leading axes."""

    obs: Any
    reward: Any
    terminated: Any
    carry: Any


def _flat(rows: Array | np.ndarray) -> np.ndarray:
    """The same with one leading axis."""
    rows = np.asarray(rows)
    return rows.reshape(-1, rows.shape[-1])


@dataclass(eq=False)
class _Slot:
    """A bare environment in one state of a rollout, and what led there."""

    env: gymnasium.Env
    time: int = 0
    obs: Float[np.ndarray, "obs"] = field(default_factory=lambda: np.zeros(0))
    reward: float = 0.0
    terminated: bool = False

    def begin(self, start: gymnasium.Env, obs: Float[np.ndarray, "obs"]) -> None:
        put(self.env, start)
        self.time, self.obs, self.reward, self.terminated = 0, obs, 0.0, False


class _Worker:
    """An environment as its task wraps it, whose bare environment can stand for any slot's."""

    def __init__(self, task: Task) -> None:
        self.env = task.make(strict=False)
        self.env.reset(seed=0)  # wrappers insist on it
        self._bare = self.env.unwrapped

    def step(self, slot: _Slot, action: Float[np.ndarray, "action"]) -> None:
        self._bare.__dict__ = vars(slot.env)  # both then share one state, whoever else refers to either
        obs, reward, terminated, _, _ = self.env.step(action)
        slot.obs, slot.reward, slot.terminated = obs, float(reward), bool(terminated)


class Slots:
    """The slots of the latest rollouts. They are used again by later ones: making one is slow."""

    def __init__(self, task: Task, threads: int) -> None:
        self._task, self._threads = task, threads
        self._lock = Lock()  # of two rollouts in one program, XLA may step both at a time
        self._generations: dict[int, list[_Slot]] = {}
        self._free: list[_Slot] = []
        self._begun = 0

    def on_begin(self, obs: Array, words: Array) -> Int[np.ndarray, "*rows 3"]:
        """The callback of `TrueModel.begin`: slots for observations `[*vmapped, particles, batch, obs]`."""
        *_, particles, batch, size = obs.shape
        carry = np.full((*obs.shape[:-1], 3), _FAILED, np.int32)
        try:
            with self._lock:
                found = self.begin(np.asarray(obs).reshape(-1, particles * batch, size), _flat(words))
            carry[...] = found.reshape(carry.shape)
        except UserError as error:
            live.report(error)
        return carry

    def on_step(self, carry: Array, action: Array, words: Array) -> Stepped:
        """The callback of `TrueModel.step`, with any leading axes."""
        del words
        rows, places = carry.shape[:-1], _flat(carry)
        try:
            if (places != _FAILED).all():
                with self._lock:
                    found = self.step(places, _flat(action))
                return Stepped(*(part.reshape(*rows, *part.shape[1:]) for part in found))
        except UserError as error:
            live.report(error)
        nothing = np.full((*rows, self._task.spec.obs_size), np.nan, np.float32)
        return Stepped(nothing, nothing[..., 0], nothing[..., 0], np.full(carry.shape, _FAILED, np.int32))

    def begin(
        self, obs: Float[np.ndarray, "rollouts rows obs"], words: UInt32[np.ndarray, "rollouts words"]
    ) -> Int[np.ndarray, "all 3"]:
        """Take slots for a new generation, and put them where the observations are. Raises `UserError`."""
        rows = obs.reshape(-1, obs.shape[-1])
        if self._restore is None:
            slots = self._take(self._live_start(), rows)
        else:
            slots = self._take(self._prototype, rows)
            self._restore_all(self._restore, slots, words)
        number = np.full(len(slots), self._begun - 1)
        return np.stack([number, np.arange(len(slots)), np.zeros_like(number)], -1)

    def step(self, carry: Int[np.ndarray, "all 3"], actions: Float[np.ndarray, "all action"]) -> Stepped:
        """Step slots, each in the state that its carry names. Raises `UserError`."""
        slots = self._find(carry)
        actions = np.clip(actions, *self._bounds)
        moving = [pair for pair in zip(slots, actions, strict=True) if not pair[0].terminated]
        for slot in slots:
            slot.time, slot.reward = slot.time + 1, 0.0
        with _worded(self._task, _BROKEN):
            self._move(moving)
            obs = np.array([slot.obs for slot in slots], np.float32)
        reward = np.array([slot.reward for slot in slots], np.float32)
        terminated = np.array([slot.terminated for slot in slots], np.float32)
        return Stepped(obs, reward, terminated, carry + np.array([0, 0, 1], np.int32))

    def _take(self, start: gymnasium.Env, obs: Float[np.ndarray, "all obs"]) -> list[_Slot]:
        """As many slots as observations, for a new generation, all in the state of a snapshot."""
        for number in list(self._generations)[: 1 - GENERATIONS]:
            self._free += self._generations.pop(number)
        slots = [self._free.pop() if self._free else _Slot(blank(start)) for _ in obs]
        self._generations[self._begun], self._begun = slots, self._begun + 1
        with _worded(self._task, _UNCOPIED):
            for slot, row in zip(slots, obs, strict=True):
                slot.begin(start, row)
        return slots

    def _live_start(self) -> gymnasium.Env:
        """A snapshot of the one environment that is acted in."""
        envs = {id(env): env for env in live.served()}
        name = self._task.spec.env_id
        if not envs:
            raise UserError(
                f"the true model needs the environment's state, which observations of '{name}' do not determine: "
                "evaluate the run instead of acting by hand"
            )
        if len(envs) > 1:
            raise UserError(f"the true model acts in one environment at a time, not for {len(envs)} observations")
        with _worded(self._task, _UNCOPIED):
            (env,) = envs.values()
            return snapshot(env)

    def _restore_all(
        self,
        restore: Restore,
        slots: Sequence[_Slot],
        words: UInt32[np.ndarray, "rollouts words"],
    ) -> None:
        """Put slots where their observations are, with noise of their own."""
        each = len(slots) // len(words)
        with _worded(self._task, _BROKEN):
            for i, slot in enumerate(slots):
                restore(slot.env, np.asarray(slot.obs, np.float64))
                slot.env.np_random = np.random.default_rng([*words[i // each], i % each])

    def _find(self, carry: Int[np.ndarray, "all 3"]) -> list[_Slot]:
        rows = carry.tolist()
        if any(number not in self._generations for number, _, _ in rows):
            raise UserError(
                f"the true model keeps {GENERATIONS} rollouts at a time: this one began before {GENERATIONS} others"
            )
        slots = [self._generations[number][place] for number, place, _ in rows]
        times = [slot.time for slot in slots]
        if times != [time for _, _, time in rows] or len(set(map(id, slots))) < len(slots):
            raise UserError("the true model cannot step a rollout twice from the same state: begin another rollout")
        return slots

    def _move(self, moving: Sequence[tuple[_Slot, np.ndarray]]) -> None:
        """One step of each slot with its action, in all threads."""
        workers = self._workers[: max(1, len(moving))]

        def move(which: int) -> None:
            for slot, action in moving[which :: len(workers)]:
                workers[which].step(slot, action)

        futures = [self._pool.submit(move, which) for which in range(1, len(workers))]
        try:
            move(0)
        finally:
            wait(futures)  # what a thread is still stepping must not be used again
            IMAGINED.release()
        for future in futures:
            future.result()

    @cached_property
    def _restore(self) -> Restore | None:
        return self._task.restore

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        spec = self._task.spec
        return np.array(spec.action_low, np.float32), np.array(spec.action_high, np.float32)

    @cached_property
    def _prototype(self) -> gymnasium.Env:
        return prototype_of(self._task)

    @cached_property
    def _workers(self) -> list[_Worker]:
        return [_Worker(self._task) for _ in range(self._threads)]

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="simulator")


def prototype_of(task: Task) -> gymnasium.Env:
    """A simulator at the start of an episode; what an observation does not describe is as here."""
    with closing(task.make(strict=False)) as env, _worded(task, _UNCOPIED):
        env.reset(seed=0)
        return snapshot(env)


@contextmanager
def _worded(task: Task, what: str) -> Iterator[None]:
    """Turn whatever an environment's code raises into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"'{task.spec.env_id}' {what} ({brief(error)})") from error
