"""Acting and evaluation in processes of Ray, each of which has some of the environments.

The results do not depend on which process has which environment. If a process dies, a new one repeats the unfinished
episodes from their seeds and actions.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from foretell.agents.base import Carry, Extras, PolicyParams
from foretell.envs import Episodes, empty_episodes
from foretell.output import say
from foretell.remote.failures import MOST, given_up, lost, mistake
from foretell.remote.interactor_process import InteractorProcess, Numbers, Stepped, enter
from foretell.remote.worker import Member
from foretell.training.clock import Kind
from foretell.training.events import RunInfo
from foretell.training.programs import whole
from foretell.training.state import RunState
from foretell.training.stopwatch import Stopwatch


class Group:
    """Processes that divide the environments among them: all actors, or all evaluators."""

    def __init__(self, start: Callable[..., Member], name: str, count: int, processes: int, *, explore: bool) -> None:
        """Start the processes.

        Args:
            start: starts a process, given its class, its name and its arguments.
            name: `actor` or `evaluator`.
            count: number of environments.
            processes: number of processes; without effect above `count`.
            explore: whether to add exploration, to collect data.
        """
        numbers = range(min(processes, count))
        self.rows = [list(range(first, count, len(numbers))) for first in numbers]
        self.members = [
            start(InteractorProcess, f"{name} {i}", rows, count, explore) for i, rows in enumerate(self.rows)
        ]
        self._policy: Any = None
        self._carry: Carry = None
        self._failures = 0

    def use(self, policy: PolicyParams, carry: Carry) -> None:
        """Send this policy to all processes, unless they have it already."""
        if policy is not self._policy:
            import ray

            self._policy, self._carry = policy, jax.tree.map(np.asarray, whole(carry))
            self._shared = ray.put(whole(policy))
            for member in self.members:
                member.handle.use.remote(self._shared, self._carry)

    def ask(self, calls: Mapping[int, Callable[[Any], Any]], again: Callable[[int], object]) -> dict[int, Any]:
        """The results of calls, by process. Raises `UserError`.

        Args:
            calls: by index of the process, a function that makes the call with its handle.
            again: called with the index of a process that was restarted, before the call is repeated.
        """
        import ray

        asked = {i: call(self.members[i].handle) for i, call in calls.items()}
        found: dict[int, Any] = {}
        for i, answer in asked.items():
            while i not in found:
                try:
                    found[i] = ray.get(answer)
                    self._failures = 0
                except Exception as error:
                    self._revive(i, error)
                    again(i)
                    answer = calls[i](self.members[i].handle)
        return found

    def _revive(self, i: int, error: Exception) -> None:
        """Restart a process that has died. Raises `UserError` after `MOST` failures in a row."""
        if not lost(error):
            raise mistake(error) from error
        self._failures += 1
        if self._failures > MOST:
            raise given_up([self.members[i].name], error) from error
        say(f"{self.members[i].name} has died; a new process repeats its episodes")
        self.members[i].restart()
        if self._policy is not None:
            self.members[i].handle.use.remote(self._shared, self._carry)


class RemoteInteractor:
    """Acts in the environments of a run, step by step, in all actors at the same time."""

    def __init__(
        self,
        run: RunInfo,
        watch: Stopwatch,
        start: Callable[..., Member],
        processes: int,
        version: Callable[[], int],
    ) -> None:
        """Prepare.

        Args:
            run: the run.
            watch: counts waiting for a policy as learning, and the rest as steps.
            start: starts a process, given its class, its name and its arguments.
            processes: maximum number of actors.
            version: returns the version of the newest policy.
        """
        self._run, self._watch, self._start, self._processes, self._version = run, watch, start, processes, version

    def compile(self, policy: PolicyParams, carry: Carry, episodes: Episodes) -> None:
        """The processes compile when they have started."""

    def start(self, state: RunState) -> None:
        count = self._run.schedule.environments
        self.group = Group(self._start, "actor", count, self._processes, explore=True)

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
        random = kind == "random"
        if not random:
            with self._watch.phase("fit"):
                self.group.use(policy, carry)
        numbers = _numbers(episodes, new)
        carry = jax.tree.map(np.asarray, whole(carry))

        def call(own: dict[int, int], handle: Any) -> Any:
            return handle.step.remote(carry, numbers, own, random, limit)

        def of(i: int) -> Callable[[Any], Any]:
            own = {row: new[row] for row in self.group.rows[i] if row in new}
            return lambda handle: call(own, handle)

        with self._watch.phase("step"):
            found = self.group.ask({i: of(i) for i in self._all}, lambda i: self._repeated(i, episodes, random))
        return self._entered(episodes, new, found, carry)

    def repeat(
        self, episodes: Episodes, states: Mapping[int, np.ndarray] = MappingProxyType({}), *, random: bool = False
    ) -> dict[int, bool]:
        calls = {i: lambda handle: handle.repeat.remote(episodes, dict(states), random) for i in self._all}
        return {row: there for part in self.group.ask(calls, lambda i: None).values() for row, there in part.items()}

    def physics(self, episodes: Episodes) -> dict[int, np.ndarray]:
        calls = {i: lambda handle: handle.physics.remote() for i in self._all}
        parts = self.group.ask(calls, lambda i: self._repeated(i, episodes, False))
        return {row: state for part in parts.values() for row, state in part.items()}

    def close(self) -> None:
        """Nothing is to be done: the processes end with the connection."""

    @property
    def _all(self) -> range:
        return range(len(self.group.rows))

    def _repeated(self, i: int, episodes: Episodes, random: bool) -> None:
        """Repeat the unfinished episodes of a process in a new one. Those that cannot be repeated are truncated."""
        calls = {i: lambda handle: handle.repeat.remote(episodes, {}, random)}
        for row in [row for row, there in self.group.ask(calls, lambda i: None)[i].items() if not there]:
            episodes.over[row] = 1
            number, name = int(episodes.number[row]), self.group.members[i].name
            say(f"episode {number} is truncated: {name} has died, and the environment is not reproducible")
        if episodes.over[self.group.rows[i]].any():
            self.group.ask(calls, lambda i: None)

    def _entered(
        self, episodes: Episodes, new: Mapping[int, int], found: Mapping[int, Stepped], carry: Carry
    ) -> tuple[list[int], Carry, Extras]:
        """Write the results of the processes into the run's episodes."""
        if 0 in new:
            episodes.clock[...] = 0
        for row, number in new.items():
            episodes.clear(row)
            episodes.number[row] = number
        stepped: list[int] = []
        extras: Extras = {}
        for i, part in found.items():
            for row, obs in part.first.items():
                episodes.obs[row, 0] = obs
            for row, entries in part.newest.items():
                enter(episodes, row, entries)
            stepped += part.newest
            if part.extras:
                self.group.members[i].used(self._version() - int(part.extras["policy_version"][0]))
            carry, extras = _merged((carry, extras or part.extras), (part.carry, part.extras), self.group.rows[i])
        episodes.clock[...] += 1
        return sorted(stepped), carry, extras


class RemoteEvaluator:
    """Plays evaluation episodes in processes of their own."""

    def __init__(self, run: RunInfo, start: Callable[..., Member], processes: int) -> None:
        self._run, self._start, self._processes = run, start, processes
        self.width = min(run.schedule.eval_environments, run.schedule.eval_episodes)

    def start(self, state: RunState) -> None:
        self.group = Group(self._start, "evaluator", self.width, self._processes, explore=False)

    def compile(self, policy: PolicyParams, carry: Carry) -> None:
        """The processes compile when they have started."""

    def play(
        self,
        policy: PolicyParams,
        carry: Carry,
        numbers: Sequence[int],
        meanwhile: Callable[[], object],
        after_step: Callable[[Episodes, Carry, Extras], object],
    ) -> tuple[Episodes, Extras]:
        """As `Evaluating.play`, but `after_step` is called once, at the end."""
        episodes, given = empty_episodes(self._run.task.spec, self.width), dict(enumerate(numbers))
        carry = jax.tree.map(lambda a: np.zeros((self.width, *a.shape[1:]), a.dtype), whole(carry))
        self.group.use(policy, carry)

        def of(rows: list[int]) -> Callable[[Any], Any]:
            own = {row: given[row] for row in rows if row in given}
            return lambda handle: handle.play.remote(carry, own, numbers[0])

        calls = {i: of(rows) for i, rows in enumerate(self.group.rows) if rows[0] in given}
        extras: Extras = {}
        for i, (played, *acted) in self.group.ask(calls, lambda i: None).items():
            rows = self.group.rows[i]
            for mine, theirs in zip(episodes, played, strict=True):
                if mine.ndim:
                    mine[rows] = theirs
            carry, extras = _merged((carry, extras or acted[1]), tuple(acted), rows)
        after_step(episodes, carry, extras)
        return episodes, extras

    def close(self) -> None:
        """Nothing is to be done: the processes end with the connection."""


def _numbers(episodes: Episodes, new: Mapping[int, int]) -> Numbers:
    """The numbers that determine the random key of the next step."""
    return new.get(0, int(episodes.number[0])), 0 if 0 in new else int(episodes.clock)


def _merged(all: Any, part: Any, rows: Sequence[int]) -> Any:
    """The arrays `all`, over all environments, with `rows` replaced by those of `part`."""

    def merge(before: Any, new: Any) -> Any:
        merged = np.array(before)
        merged[rows] = new[rows]
        return merged

    return jax.tree.map(merge, all, part)
