"""PETS: plan with a probabilistic ensemble. No policy, no value function.

Chua, Calandra, McAllister, Levine: "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics
Models", NeurIPS 2018.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key
from pydantic import model_validator

from foretell.agents.base import Metrics, RunSettings
from foretell.planning import AnyPlanner, Bounds, Planner, mpc
from foretell.replay import Replay, newest
from foretell.tasks import Task
from foretell.worldmodel import Ensemble, EnsembleState, Fit, Imagination, WorldModel, mean_square_error


class PETSSettings(RunSettings):
    """Everything a PETS preset may set."""

    agent: Literal["pets"] = "pets"
    model: Ensemble
    fit: Fit
    imagination: Imagination
    planner: AnyPlanner

    @model_validator(mode="after")
    def _check(self) -> "PETSSettings":
        self.imagination.check(self.model)
        return self

    def build(self, task: Task) -> "PETS":
        return PETS(WorldModel(task, self.model, self.imagination), self.fit, self.planner)


class PETSState(NamedTuple):
    """The ensemble and its optimiser's moments."""

    model: EnsembleState
    opt_state: optax.OptState


@dataclass(frozen=True)
class PETS:
    """Model predictive control on a learned ensemble."""

    world: WorldModel
    fit: Fit
    planner: Planner

    @property
    def bounds(self) -> Bounds:
        spec = self.world.task.spec
        return Bounds(jnp.array(spec.action_low), jnp.array(spec.action_high))

    def init(self, key: Key[Array, ""]) -> PETSState:
        model = self.world.init(key)
        return PETSState(model, self.fit.start(model))

    def start(self, batch: int) -> mpc.Control:
        return mpc.start(self.planner, self.bounds, batch)

    def act(
        self,
        state: PETSState,
        memory: mpc.Control,
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], mpc.Control]:
        """Plan from each observation and return the first actions. PETS explores by its model's optimism alone."""
        del explore
        objective_from = lambda obs: lambda key, actions: self.world.returns(key, state.model, obs, actions)  # noqa: E731
        return mpc.act(self.planner, key, objective_from, memory, obs, self.bounds)

    def learn(
        self, state: PETSState, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[PETSState, Metrics]:
        """Train on all data; `new_mse` is the one-step error on the new data of the model that has not seen them."""
        count = min(self.world.task.spec.horizon, replay.capacity)
        new_mse = mean_square_error(
            self.world.model.predictor(state.model),
            self.world.model.members,
            self.world.rows(newest(replay, count)),
            1.0 * (jnp.arange(count) < new),
        )
        rows = self.world.rows(replay.data)
        fitted = self.fit.fit(key, self.world.model, state.model, state.opt_state, rows, replay.size)
        return PETSState(fitted.state, fitted.opt_state), {"new_mse": new_mse, **fitted.metrics}
