"""PETS: plan with a probabilistic ensemble. No policy, no value function.

Chua, Calandra, McAllister, Levine: "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics
Models", NeurIPS 2018.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key
from pydantic import model_validator

from foretell.agents.base import Metrics, RunSettings
from foretell.planning import CEM, Memory
from foretell.replay import Replay, newest
from foretell.tasks import Task
from foretell.worldmodel import Ensemble, EnsembleState, Fit, Imagination, WorldModel, fit, mean_square_error


class PETSSettings(RunSettings):
    """Everything a PETS preset may set."""

    agent: Literal["pets"] = "pets"
    model: Ensemble
    fit: Fit
    imagination: Imagination
    planner: CEM

    @model_validator(mode="after")
    def _check(self) -> "PETSSettings":
        if self.imagination.particles % self.model.members:
            raise ValueError(
                f"imagination.particles ({self.imagination.particles}) must be a multiple of model.members "
                f"({self.model.members}) with TSinf"
            )
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
    planner: CEM

    @property
    def bounds(self) -> tuple[Float[Array, "action"], Float[Array, "action"]]:
        spec = self.world.task.spec
        return jnp.array(spec.action_low), jnp.array(spec.action_high)

    def init(self, key: Key[Array, ""]) -> PETSState:
        model = self.world.init(key)
        return PETSState(model, self.fit.optimizer.init(model.params))

    def start(self, batch: int) -> Memory:
        memory = self.planner.start(*self.bounds)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape)), memory)

    def act(
        self, state: PETSState, memory: Memory, obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], Memory]:
        """Plan from each observation and return the first actions. PETS explores by its model's optimism alone."""
        del explore

        def plan(key: Key[Array, ""], memory: Memory, obs: Float[Array, "obs"]) -> tuple[Array, Memory]:
            found = self.planner.plan(
                key, lambda k, actions: self.world.returns(k, state.model, obs, actions), memory, *self.bounds
            )
            return found.actions[0], found.memory

        return jax.vmap(plan)(jax.random.split(key, len(obs)), memory, obs)

    def learn(
        self, state: PETSState, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[PETSState, Metrics]:
        """Train on all data; `new_mse` is the one-step error on the new data of the model that has not seen them."""
        count = min(self.world.task.spec.horizon, replay.capacity)
        new_mse = mean_square_error(
            state.model, self.world.rows(newest(replay, count)), 1.0 * (jnp.arange(count) < new)
        )
        fitted = fit(
            key, self.world.ensemble, self.fit, state.model, state.opt_state, self.world.rows(replay.data), replay.size
        )
        return PETSState(fitted.state, fitted.opt_state), {"new_mse": new_mse, **fitted.metrics}
