"""Acting and learning in processes of Ray that do not wait for each other."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from foretell.agents.base import Carry, Extras, Metrics, Params
from foretell.envs import Episodes
from foretell.remote.interactor_process import InteractorProcess
from foretell.remote.learner_process import LearnerProcess
from foretell.replay import Trajectories
from foretell.training.state import Collected, no_steps

BLOCK = 16
"""Maximum number of steps of each environment in one block."""
_SECONDS = 0.1
"""Time after which a block ends with fewer steps."""


class Finished(NamedTuple):
    """An episode that is over."""

    episode: Episodes
    """Arrays of one environment."""
    random: bool
    extras: Extras


class Block(NamedTuple):
    """Steps that one process has taken."""

    steps: Trajectories
    finished: list[Finished]
    unused: list[int]
    """Episode numbers that were not used."""
    under_way: Episodes


class FreeInteractorProcess(InteractorProcess):
    """An actor of a free-running run: acts in its own environments, block by block."""

    _carry: Carry
    _random = True

    def collect(self, numbers: Sequence[int], most: int, random: bool) -> Block:
        """Take up to `BLOCK` steps in each environment.

        Args:
            numbers: numbers for the next episodes, one for each environment.
            most: maximum number of steps of each environment.
            random: whether actions are random.
        """
        episodes, spec, unused = self._episodes, self.run.task.spec, [*numbers]
        collected = Collected(no_steps(spec, BLOCK, len(self._rows)), np.zeros((), np.int64))
        limit = spec.horizon if self.run.schedule.time_limit_terminates else None
        finished, start = self._cut(random), time.monotonic()
        with self.working(0):
            for _ in range(min(most, BLOCK)):
                new = {i: unused.pop(0) for i in np.flatnonzero(episodes.number < 0).tolist() if unused}
                if (episodes.number < 0).sum() > len(new) or time.monotonic() - start > _SECONDS:
                    unused = [*new.values(), *unused]
                    break
                self._envs.begin(episodes, new, random=random)
                stepped = episodes.running
                extras = self._step(random)
                collected.take(episodes, stepped, limit)
                finished += self._closed(random, extras)
            self._done += int(collected.steps.valid.sum())
        return Block(collected.steps, finished, unused, episodes)

    def _step(self, random: bool) -> Extras:
        """Take one step in every environment. Returns what acting returned besides the actions."""
        extras: Extras = {}
        if random:
            actions = self._envs.random_actions(self._episodes)
        else:
            now = int(self._episodes.number[0]), int(self._episodes.clock)
            actions, self._carry, extras = self._act(self._carry, now)
        horizon = self.run.task.spec.horizon
        self._envs.step(self._episodes, actions, min(horizon, self.run.schedule.random_horizon or horizon))
        return extras

    def use(self, policy: Any, carry: Carry) -> None:
        if not self._compiling:
            self._carry = carry
        super().use(policy, carry)

    def _cut(self, random: bool) -> list[Finished]:
        """End the random episodes when the agent begins to act."""
        was_random, self._random = self._random, random
        if was_random and not random:
            self._episodes.over[self._episodes.number >= 0] = 1
            return self._closed(True, {})
        return []

    def _closed(self, random: bool, extras: Extras) -> list[Finished]:
        """Remove the episodes that are over and return them."""
        over = np.flatnonzero((self._episodes.over > 0) & (self._episodes.number >= 0)).tolist()
        found = [Finished(_one(self._episodes, i), random, {k: v[i : i + 1] for k, v in extras.items()}) for i in over]
        for i in over:
            self._episodes.clear(i)
        return found


class Result(NamedTuple):
    """The result of a call of `learn`."""

    metrics: Metrics
    renewed: bool
    """Whether the published policy or model has changed."""
    seconds: float


class FreeLearnerProcess(LearnerProcess):
    """A learner of a free-running run: the number of updates does not depend on how many steps have arrived."""

    def learn_freely(self, blocks: Sequence[Trajectories], model: Params, new: int) -> tuple[Any, Result]:
        """Store steps, and call `learn` once.

        Args:
            blocks: new steps.
            model: newer parameters from the model learner, or None.
            new: number of steps for which updates are due.

        Returns:
            The policy or the parameters of the model, if they have changed, and the result.
        """
        for steps in blocks:
            self._replay = self._store(self._replay, steps)
        self._replay = self._replay._replace(new=jnp.int32(new))
        before, start = self._passed_on(), time.monotonic()
        with self.working(0):
            if model is not None:
                self._state = self._state._replace(model=self._state.model._replace(online=jax.device_put(model)))
            self._state, _, self._replay, metrics = self._program(*self._arguments(self._none))
            metrics = jax.tree.map(np.array, metrics)
        self._number += 1
        self._done += int(metrics["gradient_steps"])
        news = self._passed_on()
        renewed = any(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, news)), strict=True))
        return news if renewed else None, Result(metrics, renewed, time.monotonic() - start)

    def begin(self, state: Any, replay: Any, number: int, steps: Trajectories) -> None:
        self._none = steps
        super().begin(state, replay, number, steps)

    def newest(self) -> Any:
        """The current state of this learner."""
        return jax.tree.map(np.array, self._state)

    def _passed_on(self) -> Any:
        """The policy, or the parameters of the model."""
        return jax.tree.map(np.array, self._state.acting if self._passes_policies else self._state.model.target)


def _one(episodes: Episodes, i: int) -> Episodes:
    """One of the episodes, copied."""
    return Episodes(*(array[i : i + 1].copy() if array.ndim else array.copy() for array in episodes))
