"""PETS: plan with a world model. No policy, no value function.

Chua, Calandra, McAllister, Levine: "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics
Models", NeurIPS 2018.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell.agents.base import Agent, Extras, Metrics, RunSettings, bounds_of
from foretell.errors import UserError
from foretell.models import ModelSections, ModelState, Params, TrainedModel, build_model
from foretell.planning import Bounds, Planner, mpc, objective_of
from foretell.registry import register
from foretell.replay import Replay, newest
from foretell.settings import Section
from foretell.tasks import Task
from foretell.tasks.base import Follows


@register("agent", "pets")
class PETSSettings(ModelSections, RunSettings):
    """Everything a PETS preset may set."""

    agent: str = "pets"
    planner: Annotated[Planner, Section("planner", "cem")]
    """The search for actions."""

    @property
    def needs_data(self) -> bool:
        return self.model.needs_data

    def build(self, task: Task) -> "PETS":
        if isinstance(task, Follows):
            raise UserError("task.options.path must be null: of the planning agents only 'mbmpc' follows paths")
        return PETS(*self.parts(task))

    def parts(self, task: Task) -> "Parts":
        """What the agent is made of."""
        return Parts(task, build_model(task, self), self.planner, self.imagination.optimism)


class Parts(NamedTuple):
    """What a planning agent is made of."""

    task: Task
    model: TrainedModel
    planner: Planner
    optimism: float


@dataclass(frozen=True)
class PETS(Agent):
    """Model predictive control in imagination. Its state is that of its world model."""

    data: ClassVar[Literal["replay", "trajectories"]] = "replay"

    task: Task
    model: TrainedModel
    planner: Planner
    optimism: float

    @property
    def bounds(self) -> Bounds:
        return bounds_of(self.task)

    def init(self, key: Key[Array, ""]) -> ModelState:
        return self.model.init(key)

    def policy(self, state: ModelState) -> Params:
        return self.model.params(state)

    def model_params(self, state: ModelState) -> Params:
        return self.model.params(state)

    def imagined_by(self, params: Any) -> Params:
        """What the model needs, out of what acting needs."""
        return params

    def begin(self, params: Params, obs: Float[Array, "batch obs"], key: Key[Array, ""]) -> mpc.PlanCarry:
        return mpc.begin(self.planner, self.bounds, len(obs))

    def act(
        self, params: Any, carry: Any, obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], Any, Extras]:
        """Plan from each observation and return the first actions. PETS explores by its model's optimism alone."""
        del explore

        def objective_from(obs: Float[Array, "obs"]) -> Any:
            return objective_of(self.model, params, obs, self.model.particles, optimism=self.optimism)

        actions, carry = mpc.act(self.planner, key, objective_from, carry, obs, self.bounds)
        return actions, carry, planned(carry)

    def learn(self, state: Any, data: Replay, key: Key[Array, ""]) -> tuple[Any, Metrics]:
        """Train on all data; `new_mse` is the one-step error on the new data of the model that has not seen them."""
        count = min(self.task.spec.horizon, data.capacity)
        new = 1.0 * (jnp.arange(count) < data.new)
        new_mse = self.model.error(self.model.params(state), newest(data, count), new)
        state, metrics = self.model.fit(state, data, key)
        return state, {"new_mse": new_mse, **metrics}


def planned(carry: mpc.PlanCarry) -> Extras:
    """What acting returns of the latest plan: its actions and its imagined return."""
    return {"plan": carry.plan, "value": carry.value}
