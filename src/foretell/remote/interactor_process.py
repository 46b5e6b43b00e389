"""A process of Ray that acts in some of a run's environments: an actor or an evaluator."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from foretell.agents.base import Carry, Extras, PolicyParams
from foretell.compilation import BackgroundProgram
from foretell.envs import Environments, Episodes, empty_episodes
from foretell.keys import Stream
from foretell.remote.worker import Worker
from foretell.training.actor import begin_and_act

Numbers = tuple[int, int]
"""Number of the episode in the run's first environment, and steps since its start: no pair occurs twice in a run."""


class Stepped(NamedTuple):
    """The result of one step in the environments of this process."""

    first: dict[int, np.ndarray]
    """First observations of new episodes."""
    newest: dict[int, Episodes]
    """By environment, the entries that the step has added."""
    carry: Carry
    """Of all environments of the run."""
    extras: Extras


class InteractorProcess(Worker):
    """Acts in some environments of a run.

    The program that acts is the same as in a run in a single process: its batch holds all environments of the run. Rows
    of environments in other processes are zeros. So the actions do not depend on which process has which environment.
    """

    def __init__(self, packed: bytes, rows: Sequence[int], count: int, explore: bool) -> None:
        """Make the environments.

        Args:
            packed: the run, see `worker.packed`.
            rows: indices of its environments within those of the run.
            count: number of environments of the run.
            explore: whether to add exploration, to collect data.
        """
        super().__init__(packed)
        self._rows, self._count, spec = list(rows), count, self.run.task.spec
        self._envs = Environments(self.run.task, len(rows), self.run.seed)
        self._episodes = empty_episodes(spec, len(rows))
        self._zeros = np.zeros((count, spec.obs_size), np.float32)
        act = partial(begin_and_act, self.run.agent, Stream.ACT, explore=explore)
        self._program, self._compiling = BackgroundProgram(act), False

    def use(self, policy: PolicyParams, carry: Carry) -> None:
        """Act with this policy from now on; `carry` is an example of its shapes."""
        self._policy = jax.device_put(policy)
        if not self._compiling:
            self._compiling = True
            self._program.compile(self._policy, carry, *self._arguments((0, 0)))

    def step(self, carry: Carry, numbers: Numbers, new: Mapping[int, int], random: bool, limit: int) -> Stepped:
        """See `Interacting.step`; environments have their indices in the run."""
        episodes = self._episodes
        with self.working(len(episodes.running) + len(new)):
            if new:
                own = {self._rows.index(row): number for row, number in new.items()}
                self._envs.begin(episodes, own, random=random)
            running, first = episodes.running, {row: episodes.obs[self._rows.index(row), 0].copy() for row in new}
            extras: Extras = {}
            if random:
                actions = self._envs.random_actions(episodes)
            else:
                actions, carry, extras = self._act(carry, numbers)
            self._envs.step(episodes, actions, limit)
            return Stepped(first, {self._rows[i]: newest(episodes, i) for i in running}, carry, extras)

    def play(self, carry: Carry, numbers: Mapping[int, int], first: int) -> tuple[Episodes, Carry, Extras]:
        """Play whole episodes. `numbers` are by environment; `first` is the number in the run's first environment."""
        episodes = self._episodes
        extras: Extras = {}
        with self.working(0):
            self._envs.begin(episodes, {self._rows.index(row): number for row, number in numbers.items()})
            episodes.clock[...] = 0
            while episodes.running:
                actions, carry, extras = self._act(carry, (first, int(episodes.clock)))
                self._envs.step(episodes, actions, self.run.task.spec.horizon)
            self._done += int(episodes.length.sum())
            return episodes, carry, extras

    def repeat(self, episodes: Episodes, states: Mapping[int, np.ndarray], random: bool) -> dict[int, bool]:
        """Continue the run's unfinished episodes, see `Environments.repeat`."""
        for mine, theirs in zip(self._episodes, episodes, strict=True):
            mine[...] = theirs[self._rows] if theirs.ndim else theirs
        own = {self._rows.index(row): state for row, state in states.items() if row in self._rows}
        found = self._envs.repeat(self._episodes, own, random=random)
        return {self._rows[i]: there for i, there in found.items()}

    def physics(self) -> dict[int, np.ndarray]:
        """See `Environments.physics`."""
        return {self._rows[i]: state for i, state in self._envs.physics(self._episodes).items()}

    def _act(self, carry: Carry, numbers: Numbers) -> tuple[np.ndarray, Carry, Extras]:
        found = self._program(self._policy, carry, *self._arguments(numbers))
        action, carry, extras = jax.tree.map(np.asarray, found)
        return action[self._rows], carry, extras

    def _arguments(self, numbers: Numbers) -> tuple[Any, ...]:
        obs, fresh = self._zeros.copy(), np.zeros(self._count, bool)
        obs[self._rows], fresh[self._rows] = self._episodes.latest, self._episodes.length == 0
        return obs, fresh, np.int32(self.run.seed), *(np.int32(number) for number in numbers)


def newest(episodes: Episodes, i: int) -> Episodes:
    """The entries of one environment that the latest step has added."""
    t = int(episodes.length[i])
    return Episodes(
        obs=episodes.obs[i, t],
        actions=episodes.actions[i, t - 1],
        rewards=episodes.rewards[i, t - 1],
        **{name: getattr(episodes, name)[i] for name in ("number", "length", "terminated", "success", "over")},
        clock=episodes.clock,
    )


def enter(episodes: Episodes, row: int, entries: Episodes) -> None:
    """The inverse of `newest`; all earlier entries must be there already."""
    t = int(entries.length)
    episodes.obs[row, t], episodes.actions[row, t - 1], episodes.rewards[row, t - 1] = entries[:3]
    for name in ("number", "length", "terminated", "success", "over"):
        getattr(episodes, name)[row] = getattr(entries, name)
