"""PETS: plan with a probabilistic ensemble. No policy, no value function.

Chua, Calandra, McAllister, Levine: "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics
Models", NeurIPS 2018.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from pydantic import model_validator

from foretell.agents.base import Metrics, RunSettings
from foretell.errors import UserError
from foretell.planning import AnyPlanner, Bounds, Planner, mpc
from foretell.replay import Replay, newest
from foretell.tasks import Task
from foretell.tasks.base import Follows
from foretell.worldmodel import (
    AnyFit,
    AnyModel,
    Ensemble,
    Fit,
    Imagination,
    WorldModel,
    WorldState,
    mean_square_error,
)
from foretell.worldmodel.dynamics import noise_key, outcome_key
from foretell.worldmodel.fit import noisy


class PETSSettings(RunSettings):
    """Everything a PETS preset may set."""

    agent: Literal["pets"] = "pets"
    model: AnyModel
    fit: AnyFit
    imagination: Imagination
    outcome: Ensemble = Ensemble(members=2, hidden=(64, 64), weight_decay=(0.0, 0.0, 0.0), probabilistic=False)
    """The model of a reward and a termination that the task does not know; not used where it knows both."""
    outcome_fit: Fit = Fit(learning_rate=2e-3, anneal=True, min_steps=1000)
    planner: AnyPlanner

    @model_validator(mode="after")
    def _check(self) -> "PETSSettings":
        wanted = {"gp": "lbfgs"}.get(self.model.kind, "adam")
        if self.fit.kind != wanted:
            raise ValueError(f"model.kind={self.model.kind} is trained with fit.kind={wanted}, not {self.fit.kind}")
        self.imagination.check(self.model)
        return self

    def build(self, task: Task) -> "PETS":
        if isinstance(task, Follows):
            raise UserError("task.options.path must be null: of the agents that plan only 'mbmpc' follows paths")
        return PETS(*self.parts(task))

    def parts(self, task: Task) -> tuple[WorldModel, Any, Fit, Planner]:
        """What the agent is made of."""
        return WorldModel(task, self.model, self.imagination, self.outcome), self.fit, self.outcome_fit, self.planner


class PETSState(NamedTuple):
    """What was learned, and what the training of its parts carries on, such as Adam's moments."""

    world: WorldState
    dynamics_fit: Any
    outcome_fit: Any


@dataclass(frozen=True)
class PETS:
    """Model predictive control on a learned model."""

    world: WorldModel
    fit: Any
    """`Fit` or `GPFit`: the one that goes with the model."""
    outcome_fit: Fit
    planner: Planner

    @property
    def bounds(self) -> Bounds:
        spec = self.world.task.spec
        return Bounds(jnp.array(spec.action_low), jnp.array(spec.action_high))

    def init(self, key: Key[Array, ""]) -> PETSState:
        world = self.world.init(key)
        outcome_fit = None if world.outcome is None else self.outcome_fit.start(world.outcome)
        return PETSState(world, self.fit.start(world.dynamics), outcome_fit)

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
        objective_from = lambda obs: lambda key, actions: self.world.returns(key, state.world, obs, actions)  # noqa: E731
        return mpc.act(self.planner, key, objective_from, memory, obs, self.bounds)

    def imagine(
        self, state: PETSState, memory: mpc.Control, obs: Float[Array, "batch obs"], key: Key[Array, ""]
    ) -> Float[Array, "batch times particles obs"]:
        """The trajectories that the model expects of the latest plan, made at `obs`."""

        def one(
            key: Key[Array, ""], obs: Float[Array, "obs"], actions: Float[Array, "horizon action"]
        ) -> Float[Array, "times particles obs"]:
            return self.world.trajectories(key, state.world, obs, actions)

        return jax.vmap(one)(jax.random.split(key, len(obs)), obs, memory.actions)

    def learn(
        self, state: PETSState, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[PETSState, Metrics]:
        """Train on all data; `new_mse` is the one-step error on the new data of the model that has not seen them."""
        world, learned = self.world, state.world
        count = min(world.task.spec.horizon, replay.capacity)
        new_mse = mean_square_error(
            world.model.predictor(learned.dynamics),
            world.model.members,
            world.rows(newest(replay, count)),
            1.0 * (jnp.arange(count) < new),
        )
        rows = world.rows(replay.data)
        if isinstance(self.fit, Fit) and self.fit.noise:
            rows = noisy(noise_key(key), self.fit, rows, replay.valid, world.task.feature_size)
        fitted = self.fit.fit(key, world.model, learned.dynamics, state.dynamics_fit, rows, replay.size)
        state = PETSState(learned._replace(dynamics=fitted.state), fitted.carried, state.outcome_fit)
        metrics = {"new_mse": new_mse, **fitted.metrics}
        return (
            self._learn_outcome(state, replay, outcome_key(key), metrics) if world.learns_outcome else (state, metrics)
        )

    def _learn_outcome(
        self, state: PETSState, replay: Replay, key: Key[Array, ""], metrics: Metrics
    ) -> tuple[PETSState, Metrics]:
        world = self.world
        assert state.world.outcome is not None
        fitted = self.outcome_fit.fit(
            key,
            world.outcome,
            state.world.outcome,
            state.outcome_fit,
            world.outcome_rows(replay.data),
            replay.size,
        )
        state = state._replace(world=state.world._replace(outcome=fitted.state), outcome_fit=fitted.carried)
        return state, metrics | {f"outcome_{name}": value for name, value in fitted.metrics.items()}
