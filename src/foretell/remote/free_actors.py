"""The interactors and evaluators of a free-running run, as the main process sees them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from foretell.agents.base import Carry
from foretell.remote.free_processes import FreeInteractorProcess
from foretell.remote.interactor_process import InteractorProcess
from foretell.remote.worker import Member


class FreeActor:
    """A process with environments of its own."""

    def __init__(self, start: Callable[..., Member], name: str, count: int, carry: Carry, *, explore: bool) -> None:
        """Start it.

        Args:
            start: starts a process: its class, its name and its arguments.
            name: what it is.
            count: its environments.
            carry: of so many environments.
            explore: whether it collects data; else it plays episodes for evaluation.
        """
        kind = FreeInteractorProcess if explore else InteractorProcess
        self.member, self.count = start(kind, name, range(count), count, explore), count
        self.asked = 0
        """Steps that it was asked for last."""
        self.playing: list[int] = []
        """Numbers of the episodes that it was asked to play."""
        self.renewals = 0
        self._carry = carry
        self._policy: Any = None

    def use(self, policy: Any, renewals: int) -> None:
        """Act with this policy from now on, the newest one after so many renewals; it is in the object store."""
        if policy is not None and policy is not self._policy:
            self._policy, self.renewals = policy, renewals
            self.member.handle.use.remote(policy, self._carry)

    def collect(self, numbers: Sequence[int], steps: int, *, random: bool) -> Any:
        """Ask for a block of at most so many steps, with these numbers for new episodes."""
        self.asked = steps
        return self.member.handle.collect.remote(numbers, -(-steps // self.count), random)

    def play(self, numbers: Sequence[int]) -> Any:
        """Ask for whole episodes."""
        self.playing = [*numbers]
        carry = _zeros(self._carry)
        return self.member.handle.play.remote(carry, dict(enumerate(numbers)), numbers[0])

    def revive(self) -> None:
        """Start it again, without the episodes that it had."""
        self.member.restart()
        policy, self._policy = self._policy, None
        self.use(policy, self.renewals)


def _zeros(carry: Carry) -> Carry:
    import jax

    return jax.tree.map(np.zeros_like, carry)


def shares(count: int, processes: int) -> list[int]:
    """How many of the environments each of the processes has, at most as many as environments."""
    processes = min(count, processes)
    return [len(range(first, count, processes)) for first in range(processes)]
