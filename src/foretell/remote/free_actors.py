"""Proxies in the main process for the actors and evaluators of a free-running run."""

from collections.abc import Callable, Sequence
from typing import Any

from foretell.agents.base import Carry
from foretell.remote.free_processes import FreeInteractorProcess
from foretell.remote.interactor_process import InteractorProcess
from foretell.remote.worker import Member


class FreeActor:
    """The proxy of an actor or evaluator, which is a process with its own environments."""

    def __init__(self, start: Callable[..., Member], name: str, count: int, carry: Carry, *, explore: bool) -> None:
        """Start the process.

        Args:
            start: starts a process, given its class, its name and its arguments.
            name: name of the process in `processes.csv`.
            count: number of its environments.
            carry: zeros in the structure of the agent's carry for these environments.
            explore: whether it is an actor; otherwise it is an evaluator.
        """
        kind = FreeInteractorProcess if explore else InteractorProcess
        self.member, self.count = start(kind, name, range(count), count, explore), count
        self.asked = 0
        """Number of steps in the latest request."""
        self.playing: list[int] = []
        """Numbers of the episodes in the latest request to play."""
        self.renewals = 0
        self._carry = carry
        self._policy: Any = None

    def use(self, policy: Any, renewals: int) -> None:
        """Act with this policy from now on. It is in Ray's object store; `renewals` is the number of its version."""
        if policy is not None and policy is not self._policy:
            self._policy, self.renewals = policy, renewals
            self.member.handle.use.remote(policy, self._carry)

    def collect(self, numbers: Sequence[int], steps: int, *, random: bool) -> Any:
        """Request a block of at most `steps` steps; `numbers` are for new episodes."""
        self.asked = steps
        return self.member.handle.collect.remote(numbers, -(-steps // self.count), random)

    def play(self, numbers: Sequence[int]) -> Any:
        """Request whole episodes with these numbers."""
        self.playing = [*numbers]
        return self.member.handle.play.remote(self._carry, dict(enumerate(numbers)), numbers[0])

    def revive(self) -> None:
        """Restart the process, without its unfinished episodes."""
        self.member.restart()
        policy, self._policy = self._policy, None
        self.use(policy, self.renewals)


def shares(count: int, processes: int) -> list[int]:
    """The number of environments of each process; no process is without environments."""
    processes = min(count, processes)
    return [len(range(first, count, processes)) for first in range(processes)]
