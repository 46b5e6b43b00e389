"""MB-MPC: plan with one deterministic network by random shooting; what it adds to PETS are paths to follow and a guide.

Nagabandi, Kahn, Fearing, Levine: "Neural network dynamics for model-based deep reinforcement learning with model-free
fine-tuning", 2018 (arXiv:1708.02596).
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import model_validator

from foretell.agents.base import Extras, Metrics
from foretell.agents.pets import PETS, PETSSettings, planned
from foretell.errors import UserError
from foretell.models import Act, ModelState, Params, PathModel, Start, open_loop, rollout, start
from foretell.models.path import with_progress
from foretell.nn import MLP
from foretell.planning import Objective, mpc, objective_of
from foretell.planning.imagined import guided, imagined_returns
from foretell.registry import register
from foretell.replay import Replay
from foretell.tasks import Task
from foretell.tasks.base import Follows
from foretell.tasks.waypoints import Progress, carry_on
from foretell.values.cloning import Clone, Cloning
from foretell.values.learners.networks import policy_output


@register("agent", "mbmpc")
class MBMPCSettings(PETSSettings):
    """Everything a preset of MB-MPC may set."""

    agent: str = "mbmpc"
    guide: Cloning | None = None
    """A policy that is trained on the actions of past trials, and chooses all actions of a candidate except the first;
    null: none."""

    @model_validator(mode="after")
    def _check_guide(self) -> "MBMPCSettings":
        if self.guide is not None and self.planner.replan_every > 1:
            raise ValueError(f"planner.replan_every must be 1 with a guide, not {self.planner.replan_every}")
        return self

    def build(self, task: Task) -> PETS:
        if not isinstance(task, Follows):
            return PETS(*self.parts(task)) if self.guide is None else Guided(*self.parts(task), self.guide)
        if self.planner.replan_every > 1:
            raise UserError(f"planner.replan_every must be 1 to follow a path, not {self.planner.replan_every}")
        if self.guide is not None:
            raise UserError("guide must be null to follow a path: it does not observe the progress along the path")
        return PathFollower(*self.parts(task))


class PathCarry(NamedTuple):
    """What is carried while a path is followed."""

    plan: mpc.PlanCarry
    progress: Progress


class PathFollower(PETS):
    """Plans whose objective is to follow a path (Nagabandi et al. 2018, section IV-E)."""

    def begin(  # type: ignore[override]
        self, params: Params, obs: Float[Array, "batch obs"], key: Key[Array, ""]
    ) -> PathCarry:
        return PathCarry(super().begin(params, obs, key), self._path.start_progress(obs))

    def act(
        self, params: Params, carry: PathCarry, obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], PathCarry, Extras]:
        """Plan from each observation and from how far its episode has come; execute the first actions."""
        del explore
        model, (plan_key, reach_key) = PathModel(self.model, self._path), jax.random.split(key)
        here = self._path.plan_progress(carry.progress, obs)

        def objective_from(at: tuple[Float[Array, "obs"], Progress]) -> Objective:
            def objective(
                key: Key[Array, ""], actions: Float[Array, "candidates horizon action"]
            ) -> Float[Array, "candidates"]:
                begin_key, roll_key = jax.random.split(key)
                begin = self._start(model, params, at, len(actions), begin_key)
                return imagined_returns(model, params, begin, actions, roll_key, optimism=self.optimism)

            return objective

        def reach(key: Key[Array, ""], at: tuple, plan: Float[Array, "horizon action"]) -> Progress:
            begin_key, roll_key = jax.random.split(key)
            begin, act = self._start(model, params, at, 1, begin_key), open_loop(plan[None], self.model.particles)
            found = rollout(model, params, begin, act, len(plan), roll_key)
            return jax.tree.map(lambda a: a[0, 0], found.end.carry.progress)

        actions, plan = mpc.act(self.planner, plan_key, objective_from, carry.plan, (obs, here), self.bounds)
        chosen = jax.vmap(reach)(jax.random.split(reach_key, len(obs)), (obs, here), plan.plan)
        return actions, PathCarry(plan, carry_on(carry.progress, chosen)), planned(plan)

    def _start(
        self, model: PathModel, params: Params, at: tuple[Array, Progress], batch: int, key: Key[Array, ""]
    ) -> Start:
        """The start of rollouts from one observation and progress."""
        obs = jnp.broadcast_to(at[0], (batch, *at[0].shape))
        return with_progress(start(model, params, obs, key, self.model.particles), at[1])

    @property
    def _path(self) -> Follows:
        assert isinstance(self.task, Follows)
        return self.task


class GuidedState(NamedTuple):
    """The world model's state, and the guide's."""

    model: ModelState
    clone: Clone
    first: Int[Array, ""]
    """Transitions there were at the first call of `learn`; 0 before it."""
    taught: Bool[Array, ""]
    """Whether the guide has seen any trial."""


class GuidedParams(NamedTuple):
    """What acting needs of these."""

    model: Params
    network: MLP
    taught: Bool[Array, ""]


@dataclass(frozen=True)
class Guided(PETS):
    """Random shooting whose candidates go on, after a first action of their own, as trials went so far."""

    cloning: Cloning

    def init(self, key: Key[Array, ""]) -> GuidedState:
        model_key, guide_key = jax.random.split(key)
        clone = self.cloning.init(guide_key, self.task.feature_size, self.task.spec.action_size)
        return GuidedState(self.model.init(model_key), clone, jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def policy(self, state: GuidedState) -> GuidedParams:
        return GuidedParams(self.model.params(state.model), state.clone.network, state.taught)

    def model_params(self, state: GuidedState) -> Params:
        return self.model.params(state.model)

    def imagined_by(self, params: GuidedParams) -> Params:
        return params.model

    def act(
        self,
        params: GuidedParams,
        carry: mpc.PlanCarry,
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], mpc.PlanCarry, Extras]:
        """As without a guide until it has learned from a trial."""

        def objective_from(obs: Float[Array, "obs"]) -> Objective:
            guide = self._guide(params.network)
            return objective_of(
                self.model, params.model, obs, self.model.particles, optimism=self.optimism, guide=guide
            )

        def led() -> tuple[Float[Array, "batch action"], mpc.PlanCarry]:
            return mpc.act(self.planner, key, objective_from, carry, obs, self.bounds)

        def plain() -> tuple[Float[Array, "batch action"], mpc.PlanCarry]:
            return super(Guided, self).act(params.model, carry, obs, key, explore=explore)[:2]

        actions, carry = jax.lax.cond(params.taught, led, plain)
        return actions, carry, planned(carry)

    def following(self, params: GuidedParams, plan: Float[Array, "batch horizon action"]) -> Act:
        """The actions of plans in imagination: all but the first are the guide's, once there is one."""
        own = open_loop(plan, self.model.particles)
        with_guide = guided(own, self._guide(params.network))

        def act(key: Key[Array, ""], obs: Float[Array, "particles batch obs"], t: Array) -> tuple[Array, tuple]:
            return jnp.where(params.taught, with_guide(key, obs, t)[0], own(key, obs, t)[0]), ()

        return act

    def learn(self, state: GuidedState, data: Replay, key: Key[Array, ""]) -> tuple[GuidedState, Metrics]:
        """The model learns from everything, the guide from what was added since the first call."""
        model_key, guide_key = jax.random.split(key)
        model, metrics = super().learn(state.model, data, model_key)
        first = jnp.where(state.first > 0, state.first, data.size)
        taught = data.size > first
        features = jnp.roll(self.task.features(data.data.obs), -first, 0)
        actions = jnp.roll(self.task.to_unit(data.data.action), -first, 0)

        @partial(jax.jit, inline=True)  # traced once, for its shapes and for the conditional
        def teach() -> tuple[Clone, Metrics]:
            return self.cloning.learn(guide_key, state.clone, features, actions, data.size - first)

        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(teach)[1])
        clone, losses = jax.lax.cond(taught, teach, lambda: (state.clone, nothing))
        metrics |= {f"guide_{name}": value for name, value in losses.items()}
        return GuidedState(model, clone, first, taught), metrics

    def _guide(self, network: MLP) -> Act:
        """The guide as a policy in imagination."""

        def act(key: Key[Array, ""], obs: Float[Array, "particles batch obs"], t: Array) -> tuple[Array, tuple]:
            del key, t
            unit = jnp.clip(policy_output(network, self.task.features(obs)), -1.0, 1.0)
            return self.task.from_unit(unit), ()

        return act
