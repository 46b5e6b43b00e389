"""Learning in a run: one compiled program that stores new steps and calls the agent's `learn`."""

from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from foretell.agents import Agent
from foretell.agents.base import Metrics, PolicyParams, State
from foretell.compilation import traced_once
from foretell.envs.live import raise_reported
from foretell.errors import UserError
from foretell.keys import Stream, key_for
from foretell.replay import Replay, Trajectories, Transitions, add
from foretell.training.programs import Part, programs, whole
from foretell.training.state import RunState
from foretell.training.stopwatch import now

_SKIPPED = "skipped_steps"
_MOST_SKIPPED = 0.1
"""Share of gradient steps that are not finite above which the run ends."""


@runtime_checkable
class Learning(Protocol):
    """Learns for a run, here or in other processes."""

    def compile(self, state: RunState) -> None:
        """Begin to compile."""

    def start(self, state: RunState) -> None:
        """Begin with this state."""

    def learn(self, state: RunState) -> tuple[RunState, PolicyParams, Metrics | Part]:
        """The state after one call of `learn`, the policy, and the summed metrics since they were last logged."""

    def flush(self, state: RunState) -> RunState:
        """Move the collected steps to the replay, to make room."""

    def wait(self) -> float:
        """Wait until the last call is done. Returns the seconds waited. Raises `UserError` if it has failed."""

    def means(self, metrics: Metrics | Part, calls: int) -> dict[str, float]:
        """The means of metrics that are summed over `calls`. Raises `UserError` if the last call has failed."""

    def settled(self, state: RunState) -> RunState:
        """The state with all arrays in this process."""

    def close(self) -> None:
        """Called when nothing more is to be learned."""


class Learner:
    """Calls `learn` without waiting for it, so that the next steps can be prepared meanwhile."""

    def __init__(self, agent: Agent, seed: int) -> None:
        self._seed = np.int32(seed)
        self._program = programs().in_background("learn", partial(learn, agent), donate=(0, 1))
        self._store = jax.jit(stored, donate_argnums=0)
        self._latest: Any = ()

    def compile(self, state: RunState) -> None:
        """Begin to compile."""
        self._program.compile(*self._arguments(state))

    def start(self, state: RunState) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        """Nothing is to be done."""

    def settled(self, state: RunState) -> RunState:
        """The same state: all its arrays are in this process."""
        return state

    def learn(self, state: RunState) -> tuple[RunState, PolicyParams, Metrics | Part]:
        """The state after one call of `learn`, the policy, and the summed metrics since they were last logged."""
        agent, policy, replay, metrics = self._program(*self._arguments(state))
        self._latest = metrics
        state.collected.clear()  # `_arguments` has copied it
        return state._replace(agent=agent, replay=replay), policy, metrics

    def flush(self, state: RunState) -> RunState:
        """Move the collected steps to the replay, to make room. Trajectories always have enough room."""
        self.wait()
        replay = whole(state.replay)
        if replay is not None:
            replay = jax.block_until_ready(self._store(replay, state.collected.steps))
        state.collected.clear()
        return state._replace(replay=replay)

    def wait(self) -> float:
        """Wait until the last call is done. Returns the seconds waited. Raises `UserError` if it has failed."""
        start = now()
        jax.block_until_ready(self._latest)
        raise_reported()
        return now() - start

    def means(self, metrics: Metrics | Part, calls: int) -> dict[str, float]:
        """The means of metrics that are summed over `calls`. Raises `UserError` if the last call has failed."""
        self.wait()
        return {name: float(value) / calls for name, value in whole(metrics).items()}

    def _arguments(self, state: RunState) -> tuple:
        steps = jax.tree.map(np.copy, state.collected.steps)
        return state.agent, state.replay, steps, state.metrics, self._seed, np.int32(state.counters.learned)


def check_finite(metrics: dict[str, float]) -> str | None:
    """A sentence on gradient steps that were skipped; None if none was. Raises `UserError` if learning diverges."""
    said = None
    for name, skipped in metrics.items():
        if not name.endswith(_SKIPPED) or not skipped > 0.0:
            continue
        steps = metrics.get(name.replace(_SKIPPED, "gradient_steps"), np.inf)
        share = f"{skipped:.3g}{f' of {steps:.0f}' if np.isfinite(steps) else ''} gradient steps were not finite"
        if skipped > _MOST_SKIPPED * steps:
            raise UserError(
                f"learning diverged: {share}; "
                "lower the learning rate or check the environment's rewards and observations"
            )
        said = f"{share} and were skipped, see the column {name} of metrics.csv"
    return said


def learn(
    agent: Agent,
    state: State,
    replay: Replay | None,
    steps: Trajectories,
    metrics: Metrics,
    seed: Int[Array, ""],
    learned: Int[Array, ""],
) -> tuple[State, PolicyParams, Replay | None, Metrics]:
    """Store new steps, then learn; the metrics are added to the previous ones."""
    if replay is not None:
        replay = stored(replay, steps)
    learn = traced_once(agent.learn)
    state, found = learn(state, steps if replay is None else replay, key_for(seed, Stream.LEARN, learned))
    if replay is not None:
        replay = replay._replace(new=jnp.zeros_like(replay.new))
    sums = {name: value + (metrics[name] if metrics else 0.0) for name, value in found.items()}
    return state, agent.policy(state), replay, sums


def stored(replay: Replay, steps: Trajectories) -> Replay:
    """The replay with the valid steps added, in the order in which they were taken."""
    rows = jax.tree.map(lambda a: jnp.reshape(a, (-1, *a.shape[2:])), steps)
    data = Transitions(rows.obs, rows.action, rows.reward, rows.next_obs, rows.terminated)
    return add(replay, data, rows.valid)
