"""Speed of worker processes: `python benchmarks/workers.py [ENVIRONMENT ...]`.

Steps per second of 8 environments with 1, 2 and 4 workers, beside as many threads and Gymnasium's `AsyncVectorEnv`; and
the time of 16 evaluation episodes. `Sleeps` waits 5 ms in every step. `Holds` waits with Python's lock held: as code in
Python would, but without a core. Both can therefore show the ideal rate on any machine. `Burns` computes in Python,
`Returns` does nothing.
"""

import argparse
import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv
from rich.console import Console
from rich.table import Table

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


def rate(make, task, steps, rounds):
    """Steps per second of all environments together: the best of some rounds."""
    actions = np.zeros((ENVIRONMENTS, task.spec.action_size), np.float32)
    with closing(make(task, ENVIRONMENTS)) as simulators:
        simulators.call(begin_episode, {row: (row, None) for row in range(ENVIRONMENTS)})
        chosen = {row: (actions[row],) for row in range(ENVIRONMENTS)}
        return _best_rate(lambda: simulators.call(take_step, chosen), steps, rounds)


def vector_rate(task, steps, rounds):
    """The same with `AsyncVectorEnv`, which has a process for each environment."""
    with closing(AsyncVectorEnv([task.make] * ENVIRONMENTS, shared_memory=True, context="forkserver")) as envs:
        envs.reset(seed=0)
        actions = np.zeros((ENVIRONMENTS, task.spec.action_size), np.float32)
        return _best_rate(lambda: envs.step(actions), steps, rounds)


def _best_rate(step, steps, rounds):
    for _ in range(3):
        step()
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        rates.append(ENVIRONMENTS * steps / (time.perf_counter() - start))
    return max(rates)


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


def share(rate, ideal):
    return f"{rate:,.0f} ({100 * rate / ideal:.0f} %)"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environments", nargs="*", default=STEPPED, help=f"by default {' '.join(STEPPED)}")
    parser.add_argument("--steps", type=int, default=25, help="of every environment in a round")
    parser.add_argument("--rounds", type=int, default=6, help="of which the best counts")
    arguments = parser.parse_args()
    measured = {"steps": arguments.steps, "rounds": arguments.rounds}
    table = Table("environment", "steps/s", *(f"{n} workers" for n in WORKERS[1:]),
                  *(f"{n} threads" for n in WORKERS[1:]), "AsyncVectorEnv")  # fmt: skip
    for env in arguments.environments:
        task = make_task(TaskSettings(env=env))
        one = rate(Simulators, task, **measured)
        many = [rate(partial(make_simulators, workers=n), task, **measured) for n in WORKERS[1:]]
        threads = [rate(partial(Threads, workers=n), task, **measured) for n in WORKERS[1:]]
        cells = [share(found, n * one) for found, n in zip(many + threads, 2 * WORKERS[1:], strict=True)]
        table.add_row(env, f"{one:,.0f}", *cells, share(vector_rate(task, **measured), ENVIRONMENTS * one))
    rounds = Table(f"{EPISODES} evaluation episodes", "steps each", "one by one, s",
                   *(f"{EPISODES} side by side, {n} worker{'s' * (n > 1)}, s" for n in WORKERS))  # fmt: skip
    for env in [env for env in EVALUATED if env in arguments.environments]:
        horizon = EVALUATED[env]
        times = [
            evaluation_seconds(env, 1, 1, horizon),
            *(evaluation_seconds(env, EPISODES, n, horizon) for n in WORKERS),
        ]
        rounds.add_row(env, f"{horizon}", *(f"{seconds:.2f}" for seconds in times))
    console = Console(width=160)
    console.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; in brackets the share of the ideal rate")
    console.print(table, *([rounds] if rounds.row_count else []))


if __name__ == "__main__":
    main()
