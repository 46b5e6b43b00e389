"""Acting in the environments of a run: one step in all of them, after the start of new episodes where they are due."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np

from foretell.agents.base import Carry, Extras, PolicyParams
from foretell.envs import Environments, Episodes
from foretell.training.actor import Actor
from foretell.training.clock import Kind
from foretell.training.events import RunInfo
from foretell.training.state import RunState
from foretell.training.stopwatch import Stopwatch


@runtime_checkable
class Interacting(Protocol):
    """Acts in the environments of a run and steps them, here or in other processes."""

    def compile(self, policy: PolicyParams, carry: Carry, episodes: Episodes) -> None:
        """Begin to compile."""

    def start(self, state: RunState) -> None:
        """Make the environments. Raises `UserError`."""

    def step(
        self,
        policy: PolicyParams,
        carry: Carry,
        episodes: Episodes,
        new: Mapping[int, int],
        kind: Kind,
        limit: int,
        meanwhile: Callable[[], object],
    ) -> tuple[list[int], Carry, Extras]:
        """Take one step in every environment with an unfinished episode. Raises `UserError`.

        Args:
            policy: parameters of the policy.
            carry: the agent's carry in the unfinished episodes.
            episodes: the unfinished episodes; changed in place.
            new: numbers of the episodes to begin first, by environment.
            kind: purpose of the episodes, such as `train`.
            limit: steps after which an episode is over.
            meanwhile: called while the actions are computed.

        Returns:
            The environments that were stepped, the new carry, and what acting returned besides the actions.
        """

    def repeat(
        self, episodes: Episodes, states: Mapping[int, np.ndarray] = MappingProxyType({}), *, random: bool = False
    ) -> dict[int, bool]:
        """See `Environments.repeat`."""

    def physics(self, episodes: Episodes) -> dict[int, np.ndarray]:
        """See `Environments.physics`."""

    def close(self) -> None:
        """Close the environments."""


class Interactor:
    """Chooses actions in this process. With `train.workers`, worker processes step the environments."""

    def __init__(self, run: RunInfo, watch: Stopwatch) -> None:
        self._run, self._watch = run, watch
        self._actor = Actor(run.agent, run.seed, explore=True)

    def compile(self, policy: PolicyParams, carry: Carry, episodes: Episodes) -> None:
        self._actor.compile(policy, carry, episodes)

    def start(self, state: RunState) -> None:
        run, schedule = self._run, self._run.schedule
        self._envs = Environments(run.task, schedule.environments, run.seed, schedule.workers)

    def step(
        self,
        policy: PolicyParams,
        carry: Carry,
        episodes: Episodes,
        new: Mapping[int, int],
        kind: Kind,
        limit: int,
        meanwhile: Callable[[], object],
    ) -> tuple[list[int], Carry, Extras]:
        if new:
            self._envs.begin(episodes, new, random=kind == "random")
        stepped = episodes.running
        extras: Extras = {}
        with self._watch.phase("plan"):
            if kind == "random":
                actions = self._envs.random_actions(episodes)
            else:
                actions, carry, extras = self._actor.act(policy, carry, self._envs, episodes, meanwhile)
        with self._watch.phase("step"):
            self._envs.step(episodes, actions, limit)
        return stepped, carry, extras

    def repeat(
        self, episodes: Episodes, states: Mapping[int, np.ndarray] = MappingProxyType({}), *, random: bool = False
    ) -> dict[int, bool]:
        return self._envs.repeat(episodes, states, random=random)

    def physics(self, episodes: Episodes) -> dict[int, np.ndarray]:
        return self._envs.physics(episodes)

    def close(self) -> None:
        self._envs.close()
