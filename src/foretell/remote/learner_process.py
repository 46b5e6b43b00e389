"""A learner: a process of Ray that trains one half of an agent, with its own replay."""

from functools import partial
from typing import Any

import jax
import numpy as np

from foretell.agents.base import Params, State
from foretell.compilation import BackgroundProgram
from foretell.remote.failures import OutOfStep
from foretell.remote.worker import Worker
from foretell.replay import Replay, Trajectories
from foretell.training.learner import learn, stored


class LearnerProcess(Worker):
    """Trains one half of an agent, call by call."""

    def __init__(self, packed: bytes, half: str) -> None:
        """Open a run; `half` is `values` or `model`."""
        super().__init__(packed)
        self._passes_policies = half == "values"
        agent = getattr(self.run.agent.halves(), half)
        self._program = BackgroundProgram(partial(learn, agent), donate=(0, 1))
        self._store = jax.jit(stored, donate_argnums=0)
        self._compiling = False

    def begin(self, state: State, replay: Replay, number: int, steps: Trajectories) -> None:
        """Begin with the state before call `number`; `steps` are an example of the shapes to come."""
        self._state, self._replay = jax.device_put((state, replay))
        self._number = number
        if not self._compiling:
            self._compiling = True
            self._program.compile(*self._arguments(steps))

    def store(self, steps: Trajectories, number: int) -> None:
        """Add steps to the replay; `number` is that of the next call of `learn`."""
        self._check(number)
        self._replay = self._store(self._replay, steps)

    def learn(
        self, steps: Trajectories, number: int, model: Params, publish: bool
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Call `learn` once.

        Args:
            steps: new steps.
            number: number of the call.
            model: new parameters from the model learner, or None.
            publish: whether this call publishes the policy (values learner) or the parameters (model learner).

        Returns:
            What is published, or None, and the metrics.
        """
        self._check(number)
        with self.working(1):
            if model is not None:
                self._state = self._state._replace(model=self._state.model._replace(online=jax.device_put(model)))
            self._state, policy, self._replay, metrics = self._program(*self._arguments(steps))
            self._number += 1
            news = policy if self._passes_policies else self._state.model.target
            return jax.tree.map(np.array, (news if publish else None, metrics))

    def state(self, number: int) -> State:
        """The state of this learner before call `number`."""
        self._check(number)
        return jax.tree.map(np.array, self._state)

    def _check(self, number: int) -> None:
        if number != self._number:
            raise OutOfStep(f"call {number} after {self._number}")

    def _arguments(self, steps: Trajectories) -> tuple:
        return self._state, self._replay, steps, {}, np.int32(self.run.seed), np.int32(self._number)
