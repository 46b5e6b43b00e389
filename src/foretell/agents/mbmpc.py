"""MB-MPC: plan with one deterministic network by random shooting; what it adds to PETS are paths to follow and a guide.

Nagabandi, Kahn, Fearing, Levine: "Neural network dynamics for model-based deep reinforcement learning with model-free
fine-tuning", 2018 (arXiv:1708.02596).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import model_validator

from foretell.agents.base import Metrics
from foretell.agents.pets import PETS, PETSSettings, PETSState
from foretell.errors import UserError
from foretell.planning import Objective, mpc
from foretell.replay import Replay
from foretell.tasks import Task
from foretell.tasks.base import Follows
from foretell.tasks.waypoints import Progress, carry
from foretell.values.cloning import Clone, Cloning
from foretell.values.learners.networks import policy_output


class MBMPCSettings(PETSSettings):
    """Everything a preset of MB-MPC may set."""

    agent: Literal["mbmpc"] = "mbmpc"  # type: ignore[assignment]
    guide: Cloning | None = None
    """A policy that learns what was done in trials, and takes all actions of a plan but the first; null: none."""

    @model_validator(mode="after")
    def _check_guide(self) -> "MBMPCSettings":
        if self.guide is not None and self.planner.replan_every > 1:
            raise ValueError(f"planner.replan_every must be 1 with a guide, not {self.planner.replan_every}")
        if self.guide is not None and self.model.kind == "gp":
            raise ValueError("guide must be null with model.kind=gp: it goes with networks")
        return self

    def build(self, task: Task) -> PETS:
        if not isinstance(task, Follows):
            return PETS(*self.parts(task)) if self.guide is None else Guided(*self.parts(task), self.guide)
        if self.planner.replan_every > 1:
            raise UserError(f"planner.replan_every must be 1 to follow a path, not {self.planner.replan_every}")
        if self.guide is not None:
            raise UserError("guide must be null to follow a path: it does not know how far along the path it is")
        return PathFollower(*self.parts(task))


class Itinerary(NamedTuple):
    """What is remembered while a path is followed."""

    control: mpc.Control
    progress: Progress
    begun: Bool[Array, "*batch"]
    """Whether the first observation, where the path begins, has been seen."""

    @property
    def actions(self) -> Float[Array, "*batch horizon action"]:
        """The latest plan."""
        return self.control.actions


class PathFollower(PETS):
    """Plans are judged by how well they follow a path (Nagabandi et al. 2018, section IV-E)."""

    def start(self, batch: int) -> Itinerary:  # type: ignore[override]
        progress = self._task.start_progress(jnp.zeros((batch, self.world.task.spec.obs_size)))
        return Itinerary(super().start(batch), progress, jnp.zeros(batch, bool))

    def act(  # type: ignore[override]
        self, state: PETSState, memory: Itinerary, obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], Itinerary]:
        """Plan from each observation and from how far its episode has come; execute the first actions."""
        del explore
        task, (plan_key, reach_key) = self._task, jax.random.split(key)
        begun, first = memory.begun, task.start_progress(obs)
        before = jax.tree.map(
            lambda a, b: jnp.where(begun.reshape(-1, *[1] * (a.ndim - 1)), a, b), memory.progress, first
        )
        here = task.plan_progress(before, obs)

        def objective_from(start: tuple[Float[Array, "obs"], Progress]) -> Objective:
            return lambda key, actions: self.world.returns(key, state.world, start[0], actions, start[1])

        actions, control = mpc.act(self.planner, plan_key, objective_from, memory.control, (obs, here), self.bounds)
        keys = jax.random.split(reach_key, len(obs))
        reach = lambda key, *start: self.world.reach(key, state.world, *start)  # noqa: E731
        chosen = jax.vmap(reach)(keys, obs, control.actions, here)
        return actions, Itinerary(control, carry(before, chosen), jnp.ones_like(begun))

    @property
    def _task(self) -> Follows:
        assert isinstance(self.world.task, Follows)
        return self.world.task


class GuidedState(NamedTuple):
    """The planner's state, and the guide's."""

    planner: PETSState
    clone: Clone
    taught: Bool[Array, ""]
    """Whether the guide has seen any trial."""


@dataclass(frozen=True)
class Guided(PETS):
    """Random shooting whose candidates go on, after a first action of their own, as trials went so far."""

    cloning: Cloning

    def init(self, key: Key[Array, ""]) -> GuidedState:  # type: ignore[override]
        planner_key, guide_key = jax.random.split(key)
        task = self.world.task
        clone = self.cloning.init(guide_key, task.feature_size, task.spec.action_size)
        return GuidedState(super().init(planner_key), clone, jnp.zeros((), bool))

    def act(  # type: ignore[override]
        self,
        state: GuidedState,
        memory: mpc.Control,
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], mpc.Control]:
        """As without a guide until it has learned from a trial."""
        task, network = self.world.task, state.clone.network

        def guide(obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows action"]:
            return task.from_unit(jnp.clip(policy_output(network, task.features(obs)), -1.0, 1.0))

        def objective_from(obs: Float[Array, "obs"]) -> Objective:
            return lambda key, actions: self.world.returns(key, state.planner.world, obs, actions, guide=guide)

        def guided() -> tuple[Float[Array, "batch action"], mpc.Control]:
            return mpc.act(self.planner, key, objective_from, memory, obs, self.bounds)

        plain = lambda: super(Guided, self).act(state.planner, memory, obs, key, explore=explore)  # noqa: E731
        return jax.lax.cond(state.taught, guided, plain)

    def imagine(  # type: ignore[override]
        self, state: GuidedState, memory: mpc.Control, obs: Float[Array, "batch obs"], key: Key[Array, ""]
    ) -> Float[Array, "batch times particles obs"]:
        """The trajectories that the model expects of the latest plan's own actions, made at `obs`."""
        return super().imagine(state.planner, memory, obs, key)

    def learn(  # type: ignore[override]
        self, state: GuidedState, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[GuidedState, Metrics]:
        """The model learns from everything, the guide from what was added since the first call."""
        model_key, guide_key = jax.random.split(key)
        planner, metrics = super().learn(state.planner, replay, new, model_key)
        first = planner.dynamics_fit.first
        taught = replay.size > first
        features = jnp.roll(self.world.task.features(replay.data.obs), -first, 0)
        actions = jnp.roll(self.world.task.to_unit(replay.data.action), -first, 0)

        def teach() -> tuple[Clone, Metrics]:
            return self.cloning.learn(guide_key, state.clone, features, actions, replay.size - first)

        told = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(teach)[1])
        clone, losses = jax.lax.cond(taught, teach, lambda: (state.clone, told))
        metrics |= {f"guide_{name}": value for name, value in losses.items()}
        return GuidedState(planner, clone, taught), metrics
