"""Episodes of uniformly random actions: what every agent has to beat."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from queue import SimpleQueue
from typing import NamedTuple

from gymnasium.envs.mujoco import MujocoEnv

from foretell.envs.environments import Environments
from foretell.envs.episodes import UNSAID, empty_episodes
from foretell.tasks import Task


class RandomEpisode(NamedTuple):
    """One episode of random actions."""

    total: float
    """Its return."""
    length: int
    terminated: bool
    """Whether it ended for good, not by the time limit."""
    success: bool | None = None
    """Whether its last step reached the goal; None if the environment does not say."""


def random_episodes(task: Task, count: int, *, seed: int) -> Iterator[RandomEpisode]:
    """Play episodes as a run with this seed evaluates, but with the random actions with which it collects data.

    MuJoCo's environments are stepped side by side, one for each core; all others one after the other, since not all of
    them can be. The results do not depend on that.

    Args:
        task: the task.
        count: how many.
        seed: decides initial states, actions and noise, together with an episode's number.

    Yields:
        The episodes in order, each when it and all before it are over.

    Raises:
        UserError: if an environment fails.
    """
    free: SimpleQueue[Environments] = SimpleQueue()

    def play(number: int) -> RandomEpisode:
        envs = free.get()
        try:
            return _episode(task, envs, number)
        finally:
            free.put(envs)

    with ExitStack() as stack:
        first = stack.enter_context(closing(Environments(task, 1, seed)))
        free.put(first)
        threads = min(_cores(), count) if isinstance(first.copies[0].unwrapped, MujocoEnv) else 1
        for _ in range(threads - 1):
            free.put(stack.enter_context(closing(Environments(task, 1, seed))))
        yield from stack.enter_context(ThreadPoolExecutor(threads)).map(play, range(count))


def _episode(task: Task, envs: Environments, number: int) -> RandomEpisode:
    episodes = empty_episodes(task.spec, 1)
    envs.begin(episodes, {0: number})
    while episodes.running:
        envs.step(episodes, envs.random_actions(episodes), task.spec.horizon)
    success = None if episodes.success[0] == UNSAID else bool(episodes.success[0])
    return RandomEpisode(float(episodes.rewards.sum()), int(episodes.length[0]), bool(episodes.terminated[0]), success)


def _cores() -> int:
    """Cores for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
