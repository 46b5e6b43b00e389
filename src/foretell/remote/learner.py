"""Learning in processes of Ray: the values learner trains policy and values, the model learner the world model.

They get the same calls in the same order as in one process, with the same random keys, so they compute the same
numbers. If a learner dies, both restart from the last checkpoint, and all calls since then are repeated.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from foretell.agents.base import Metrics, PolicyParams, State
from foretell.output import say
from foretell.remote.failures import MOST, given_up, lost, mistake
from foretell.remote.learner_process import LearnerProcess
from foretell.remote.worker import Member
from foretell.replay import Replay, Trajectories
from foretell.training.events import RunInfo
from foretell.training.learner import Learner
from foretell.training.programs import Later, Part, whole
from foretell.training.state import RunState


class _Call(NamedTuple):
    """A call that was sent to the learners."""

    steps: Trajectories
    number: int
    """Number of this call of `learn`; if it only stores steps, that of the next call of `learn`."""
    learns: bool
    renews_policy: bool = False
    renews_model: bool = False


class _Base(NamedTuple):
    """The state of the run at the last checkpoint, from which calls can be repeated."""

    agent: State
    replay: Replay
    number: int


class RemoteLearner:
    """Sends calls of `learn` to the learners, and computes here which calls publish a policy or a model."""

    def __init__(self, run: RunInfo, start: Callable[[type, str, str], Member]) -> None:
        """Prepare.

        Args:
            run: the run.
            start: starts a process, given its class, its name and the half of the agent that it trains.
        """
        halves = run.agent.halves()
        assert halves is not None
        self._start = start
        self._counting = Learner(halves.counting, run.seed)
        self._halves = ["values", *(["model"] if halves.model is not None else [])]
        self.members: dict[str, Member] = {}
        self._base: _Base
        self._counts: State = None
        self._policy: PolicyParams = None
        self.version = 0
        """Version of the newest policy: how often one has been published."""
        self._calls: list[_Call] = []
        self._results: dict[int, dict[str, Any]] = {}
        self._failures = 0
        self._model_call = 0

    def compile(self, state: RunState) -> None:
        self._counting.compile(self._counted(state, _counts(state.agent, -1)))

    def start(self, state: RunState) -> None:
        self._settle(state)
        self.members = {half: self._start(LearnerProcess, f"{half} learner", half) for half in self._halves}
        self._begin()

    def learn(self, state: RunState) -> tuple[RunState, PolicyParams, Metrics | Part]:
        number, steps = state.counters.learned, jax.tree.map(np.copy, state.collected.steps)
        counts = self._counts if self._counts.model is None else _with_online(self._counts, np.int32(number))
        after, policy, _ = self._counting.learn(self._counted(state, counts))
        self._counts, version = after.agent, int(policy.version)
        renews_model = self._counts.model is not None and int(self._counts.model.target) == number
        call = _Call(steps, number, True, version != self.version, renews_model)
        if call.renews_policy:
            self.version, self._policy = version, Later(lambda: self._result(number, "policy"))
        self._calls.append(call)
        self._send(call)
        self._model_call = number if renews_model else self._model_call
        self.members["values"].used(number - self._model_call)
        metrics = _Summed(_before(state.metrics), [*getattr(state.metrics, "numbers", ()), number], self._metrics)
        return after._replace(agent=Later(self._agent), metrics=metrics), self._policy, metrics

    def flush(self, state: RunState) -> RunState:
        steps = jax.tree.map(np.copy, state.collected.steps)
        after = self._counting.flush(state)
        call = _Call(steps, state.counters.learned, False)
        self._calls.append(call)
        self._send(call)
        return after

    def wait(self) -> float:
        start = time.perf_counter()
        if self._results:
            self._result(max(self._results), "values metrics")
        return time.perf_counter() - start

    def means(self, metrics: Metrics | Part, calls: int) -> dict[str, float]:
        return {name: float(value) / calls for name, value in whole(metrics).items()}

    def settled(self, state: RunState) -> RunState:
        if isinstance(state.agent, Part):
            whole(self._policy)
            state = whole(state)
            self._settle(state)
        return state

    def close(self) -> None:
        """Nothing is to be done: the processes end with the connection."""

    def _settle(self, state: RunState) -> None:
        """Use this state as the one from which calls are repeated."""
        replay = jax.tree.map(np.array, state.replay)
        self._base = _Base(jax.tree.map(np.array, state.agent), replay, state.counters.learned)
        self._counts = _counts(self._base.agent, -1)
        self._example = jax.tree.map(np.copy, state.collected.steps)
        if not self.members:
            self._policy = self._base.agent.acting
            self.version = int(self._base.agent.acting.version)
        self._calls.clear()
        self._results.clear()

    def _begin(self) -> None:
        """Send the saved state to the learners, and all calls since then."""
        agent, replay, number = self._base
        import ray

        shared, steps = ray.put(replay), ray.put(self._example)
        for half, member in self.members.items():
            model = None if agent.model is None or half == "model" or len(self.members) == 1 else agent.model.target
            state = agent if model is None else _with_online(agent, model)
            member.handle.begin.remote(state, shared, number, steps)
        for call in self._calls:
            self._send(call)

    def _send(self, call: _Call) -> None:
        """Send a call to the learners, without waiting for its result."""
        values, model = self.members["values"].handle, self.members.get("model")
        if not call.learns:
            for member in self.members.values():
                member.handle.store.remote(call.steps, call.number)
            return
        results = self._results[call.number] = {}
        passed_on = None
        if model is not None:
            learn = model.handle.learn.options(num_returns=2)
            passed_on, results["model metrics"] = learn.remote(call.steps, call.number, None, call.renews_model)
        given = passed_on if call.renews_model else None
        learn = values.learn.options(num_returns=2)
        results["policy"], results["values metrics"] = learn.remote(call.steps, call.number, given, call.renews_policy)

    def _result(self, number: int, name: str) -> Any:
        return self._fetched(lambda: self._results[number][name])

    def _metrics(self, number: int) -> dict[str, np.ndarray]:
        """The metrics of one call of `learn`, from both learners."""
        found = {half: self._result(number, f"{half} metrics") for half in self._halves}
        both = {**found.get("model", {}), **found["values"]}
        skipped = [metrics["skipped_steps"] for metrics in found.values()]
        return {**both, "skipped_steps": np.asarray(sum(skipped), np.float32)}

    def _agent(self) -> State:
        """The current state of the whole agent."""
        number = self._calls[-1].number + self._calls[-1].learns if self._calls else self._base.number
        found = {half: self._fetched(partial(_state_of, member, number)) for half, member in self.members.items()}
        values = found["values"]
        return _with_online(values, found["model"].model.online) if "model" in found else values

    def _fetched(self, ask: Callable[[], Any]) -> Any:
        """The result of a request; if a learner has died, all restart before the request is repeated."""
        import ray

        while True:
            try:
                found = ray.get(ask())
                self._failures = 0
                return found
            except Exception as error:
                if not lost(error):
                    raise mistake(error) from error
                self._failures += 1
                if self._failures > MOST:
                    raise given_up([member.name for member in self.members.values()], error) from error
            calls = sum(call.learns for call in self._calls)
            say(f"a learner has died; the learners restart from the last checkpoint and repeat {calls} calls of learn")
            for member in self.members.values():
                member.restart()
            self._begin()

    def _counted(self, state: RunState, counts: State) -> RunState:
        """The state of the run for the agent that trains nothing, see `Halves.counting`."""
        return state._replace(agent=counts, metrics={})


class _Summed(Part):
    """The summed metrics of several calls of `learn`, fetched when they are needed."""

    def __init__(self, base: Metrics, numbers: list[int], fetch: Callable[[int], dict[str, np.ndarray]]) -> None:
        self.base, self.numbers, self._fetch = base, numbers, fetch

    def block_until_ready(self) -> "_Summed":
        self.whole()
        return self

    def whole(self) -> Metrics:
        total = self.base
        for number in self.numbers:
            found = self._fetch(number)
            total = {name: jnp.add(found[name], value) for name, value in total.items()}
        return total


def _state_of(member: Member, number: int) -> Any:
    return member.handle.state.remote(number)


def _before(metrics: Metrics | Part) -> Metrics:
    """The metrics from before the calls that are summed."""
    return metrics.base if isinstance(metrics, _Summed) else whole(metrics)


def _with_online(agent: State, online: Any) -> State:
    return agent._replace(model=agent.model._replace(online=online))


def _counts(agent: State, none: int) -> State:
    """The state for `Halves.counting`: in place of each model, the number of the call that made it."""
    if agent.model is None:
        return agent
    return agent._replace(model=agent.model._replace(online=np.int32(none), target=np.int32(none)))
