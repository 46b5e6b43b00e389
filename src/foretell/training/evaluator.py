"""Evaluation within a run: episodes without exploration, from a policy's parameters alone."""

from collections.abc import Callable

import jax

from foretell.agents.base import Carry, Extras, PolicyParams
from foretell.envs import Environments, Episodes, empty_episodes
from foretell.training.actor import Actor
from foretell.training.events import RunInfo


class Evaluator:
    """Plays whole episodes in an environment of its own."""

    def __init__(self, run: RunInfo) -> None:
        self._spec, self._used = run.task.spec, run.schedule.eval_episodes > 0
        self._actor = Actor(run.agent, run.seed, explore=False)
        self.envs = Environments(run.task, int(self._used), run.seed)

    def compile(self, policy: PolicyParams, carry: Carry) -> None:
        """Begin to compile, if there will be evaluation. `carry` may be of any number of environments."""
        if self._used:
            self._actor.compile(policy, _of_one(carry), empty_episodes(self._spec, 1))

    def play(
        self,
        policy: PolicyParams,
        carry: Carry,
        number: int,
        meanwhile: Callable[[], object],
        after_step: Callable[[Episodes, Carry, Extras], object],
    ) -> tuple[Episodes, Extras]:
        """Play episode `number` of the run to its end. The episode, and what acting returned last.

        Args:
            policy: what acting needs.
            carry: of any episodes, for its structure.
            number: of the episode.
            meanwhile: called while actions are computed.
            after_step: called after every step.
        """
        episodes, carry = empty_episodes(self._spec, 1), _of_one(carry)
        extras: Extras = {}
        self.envs.begin(episodes, 0, number)
        while episodes.running:
            actions, carry, extras = self._actor.act(policy, carry, self.envs, episodes, meanwhile)
            self.envs.step(episodes, actions, self._spec.horizon)
            after_step(episodes, carry, extras)
        return episodes, extras

    def close(self) -> None:
        self.envs.close()


def _of_one(carry: Carry) -> Carry:
    return jax.tree.map(lambda a: a[:1], carry)
