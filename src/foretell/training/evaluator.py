"""Evaluation within a run: episodes without exploration, with only the parameters of the policy."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from foretell.agents.base import Carry, Extras, PolicyParams
from foretell.envs import Environments, Episodes, empty_episodes
from foretell.training.actor import Actor
from foretell.training.events import RunInfo
from foretell.training.programs import whole
from foretell.training.state import RunState


@runtime_checkable
class Evaluating(Protocol):
    """Plays the evaluation episodes of a run, here or in other processes."""

    width: int
    """Maximum number of episodes that are played in parallel."""

    def start(self, state: RunState) -> None:
        """Make the environments. Raises `UserError`."""

    def compile(self, policy: PolicyParams, carry: Carry) -> None:
        """Begin to compile, if there will be evaluation. `carry` may be for any number of environments."""

    def play(
        self,
        policy: PolicyParams,
        carry: Carry,
        numbers: Sequence[int],
        meanwhile: Callable[[], object],
        after_step: Callable[[Episodes, Carry, Extras], object],
    ) -> tuple[Episodes, Extras]:
        """Play episodes of the run to their end.

        Args:
            policy: parameters of the policy.
            carry: an example, for its structure.
            numbers: numbers of the episodes, at most `width`.
            meanwhile: called while actions are computed.
            after_step: called after every step.

        Returns:
            The episodes, and what acting returned besides the actions in the last step.
        """

    def close(self) -> None:
        """Close the environments."""


class Evaluator:
    """Plays whole episodes in parallel, in its own environments."""

    def __init__(self, run: RunInfo) -> None:
        schedule, self._spec = run.schedule, run.task.spec
        self.width = min(schedule.eval_environments, schedule.eval_episodes)
        """Maximum number of episodes that are played in parallel."""
        self._run = run
        self._actor = Actor(run.agent, run.seed, explore=False)

    def start(self, state: RunState | None = None) -> None:
        """Make the environments. Raises `UserError`."""
        self.envs = Environments(self._run.task, self.width, self._run.seed, self._run.schedule.workers)

    def compile(self, policy: PolicyParams, carry: Carry) -> None:
        """Begin to compile, if there will be evaluation. `carry` may be for any number of environments."""
        if self.width:
            self._actor.compile(policy, self._no_carry(carry), empty_episodes(self._spec, self.width))

    def play(
        self,
        policy: PolicyParams,
        carry: Carry,
        numbers: Sequence[int],
        meanwhile: Callable[[], object],
        after_step: Callable[[Episodes, Carry, Extras], object],
    ) -> tuple[Episodes, Extras]:
        """See `Evaluating.play`."""
        episodes, carry = empty_episodes(self._spec, self.width), self._no_carry(carry)
        extras: Extras = {}
        self.envs.begin(episodes, dict(enumerate(numbers)))
        while episodes.running:
            actions, carry, extras = self._actor.act(policy, carry, self.envs, episodes, meanwhile)
            self.envs.step(episodes, actions, self._spec.horizon)
            after_step(episodes, carry, extras)
        return episodes, extras

    def close(self) -> None:
        self.envs.close()

    def _no_carry(self, carry: Carry) -> Carry:
        """Zeros in the structure of a carry: every row begins an episode."""
        return jax.tree.map(lambda a: np.zeros((self.width, *a.shape[1:]), a.dtype), whole(carry))
