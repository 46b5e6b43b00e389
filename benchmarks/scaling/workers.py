"""Speed of environment workers, beside as many threads and Gymnasium's `AsyncVectorEnv`; and of evaluation episodes.

`Sleeps` waits 5 ms in every step. `Holds` waits with Python's lock held: as code in
Python would, but without a core. Both can therefore show the ideal rate on any machine. `Burns` computes in Python,
`Returns` does nothing.
"""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv

from foretell.envs.simulators import Simulators, begin_episode, take_step
from foretell.envs.workers import make_simulators
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from foretell.tasks import TaskSettings, make_task
from foretell.training.evaluator import Evaluator
from foretell.training.events import RunInfo
from foretell.training.state import init_run

ENVIRONMENTS, EPISODES, HORIZON, WORKERS = 8, 16, 1000, (1, 2, 4)
STEPPED, EVALUATED = (
    ("Sleeps-v0", "Holds-v0", "Burns-v0", "Returns-v0", "mve-cheetah"),
    {"Sleeps-v0": 50, "mve-cheetah": 1000},
)
STEP_SECONDS = 5e-3


class Sleeps(gymnasium.Env):
    """Waits in every step, without Python's lock."""

    observation_space = Box(-np.inf, np.inf, (17,), np.float64)
    action_space = Box(-1.0, 1.0, (6,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        super().reset(seed=seed)
        return self.np_random.normal(size=17), {}

    def step(self, action: np.ndarray) -> tuple:
        self.work()
        return self.np_random.normal(size=17), 1.0, False, False, {}

    def work(self) -> None:
        time.sleep(STEP_SECONDS)


class Holds(Sleeps):
    """Waits in every step, and keeps Python's lock."""

    def work(self) -> None:
        ctypes.PyDLL(None).usleep(int(1e6 * STEP_SECONDS))


class Burns(Sleeps):
    """Computes in Python."""

    def work(self) -> None:
        for i in range(60_000):
            i * i % 7


class Returns(Sleeps):
    """Does nothing: what remains is the cost of a call."""

    def work(self) -> None:
        pass


for _class in (Sleeps, Holds, Burns, Returns):
    gymnasium.register(f"{_class.__name__}-v0", entry_point=_class, max_episode_steps=HORIZON)


class Threads(Simulators):
    """Simulators in this process, stepped by several threads."""

    def __init__(self, task, count, workers):
        super().__init__(task, count)
        self._pool, self._parts = ThreadPoolExecutor(workers), [range(k, count, workers) for k in range(workers)]

    def call(self, function, arguments):
        found = self._pool.map(
            lambda rows: {row: function(self.envs[row], *arguments[row]) for row in rows}, self._parts
        )
        answers = {row: answer for part in found for row, answer in part.items()}
        return [answers[row] for row in arguments]


def stepping(make, task, stack):
    """A function that steps all environments once; `stack` closes them."""
    simulators = stack.enter_context(closing(make(task, ENVIRONMENTS)))
    simulators.call(begin_episode, {row: (row, None) for row in range(ENVIRONMENTS)})
    chosen = {row: (np.zeros(task.spec.action_size, np.float32),) for row in range(ENVIRONMENTS)}
    return lambda: simulators.call(take_step, chosen)


def stepping_vector(task, stack):
    """The same with `AsyncVectorEnv`, which has a process for each environment."""
    envs = AsyncVectorEnv([task.make] * ENVIRONMENTS, shared_memory=True, context="forkserver")
    stack.enter_context(closing(envs)).reset(seed=0)
    actions = np.zeros((ENVIRONMENTS, task.spec.action_size), np.float32)
    return lambda: envs.step(actions)


def rates(task, steps, rounds):
    """Steps per second of all environments together, by way and number; the best of some rounds of turns."""
    makes = {("workers", 1): Simulators}
    for way, make in (("workers", make_simulators), ("threads", Threads)):
        makes |= {(way, n): partial(make, workers=n) for n in WORKERS[1:]}
    with ExitStack() as stack:
        all_steps = {key: stepping(make, task, stack) for key, make in makes.items()}
        all_steps["AsyncVectorEnv", ENVIRONMENTS] = stepping_vector(task, stack)
        times = {key: [] for key in all_steps}
        for _ in range(1 + rounds):  # the first one warms up
            for key, step in all_steps.items():
                times[key].append(_seconds(step, steps))
    return {key: ENVIRONMENTS * steps / min(found[1:]) for key, found in times.items()}


def _seconds(step, steps):
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - start


def evaluation_seconds(env, side_by_side, workers, horizon):
    """The time of a round of evaluation episodes of an untrained DDPG agent, programs already compiled."""
    changes = {"eval_episodes": EPISODES, "eval_environments": side_by_side, "workers": workers}
    settings = resolve("ddpg/default", [{"task": {"env": env, "horizon": horizon}, "train": changes}])
    task = make_task(settings.task)
    agent = settings.build(task)
    state, policy = init_run(agent, task.spec, settings.train, 0)
    run = RunInfo(directory=RunDirectory(Path()), preset="", seed=0, task=task, agent=agent, schedule=settings.train)
    with closing(Evaluator(run)) as evaluator:
        evaluator.start()
        evaluator.compile(policy, state.carry)
        evaluator.play(policy, state.carry, [0], lambda: None, lambda *_: None)
        start = time.perf_counter()
        for first in range(0, EPISODES, side_by_side):
            numbers = range(first, first + side_by_side)
            evaluator.play(policy, state.carry, numbers, lambda: None, lambda *_: None)
        return time.perf_counter() - start


def measure(environments, steps, rounds):
    """A row for each environment and way to step it; `call s` is what a call takes for each worker, without steps."""
    rows = []
    for env in environments:
        made = rates(make_task(TaskSettings(env=env)), steps, rounds)
        one = made["workers", 1]
        for (way, n), found in made.items():
            call = ENVIRONMENTS / found / n if env == "Returns-v0" and way == "workers" and n > 1 else None
            row = {"environment": env, "way": way, "processes or threads": n, "steps/s": found}
            rows.append({**row, "share of ideal": found / (n * one), "call s": call})
    return rows


def evaluation(environments):
    """A row for each environment and way to play a round of evaluation episodes."""
    rows = []
    for env in [env for env in EVALUATED if env in environments]:
        for side_by_side, workers in ((1, 1), *((EPISODES, n) for n in WORKERS)):
            seconds = evaluation_seconds(env, side_by_side, workers, EVALUATED[env])
            row = {"environment": env, "episodes": EPISODES, "steps each": EVALUATED[env], "side by side": side_by_side}
            rows.append({**row, "workers": workers, "seconds": seconds})
    return rows
