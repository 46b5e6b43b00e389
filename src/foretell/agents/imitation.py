"""A policy that imitates a planner: DAgger with model predictive control as the expert.

Nagabandi, Kahn, Fearing, Levine: "Neural network dynamics for model-based deep reinforcement learning with model-free
fine-tuning", 2018 (arXiv:1708.02596), section V; Ross, Gordon, Bagnell, "A reduction of imitation learning and
structured prediction to no-regret online learning", 2011.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import FiniteFloat, NonNegativeFloat, PositiveInt, model_validator

from foretell.agents.base import Metrics, RunSettings, Schedule, State
from foretell.agents.mbmpc import MBMPCSettings
from foretell.agents.pets import PETS, PETSState
from foretell.errors import UserError
from foretell.planning import Refiner, mpc
from foretell.replay import Replay
from foretell.settings import Settings
from foretell.tasks import Task
from foretell.tasks.base import Follows
from foretell.values.cloning import Clone, Cloning
from foretell.values.gaussian import GaussianPolicy, GaussianState
from foretell.worldmodel import Fit

_LABELLED_AT_ONCE = 10
"""Observations for which the expert plans as one batch when it labels them."""


class Imitation(Settings):
    """When the expert acts, and how the policy learns from it. A round is what lies between two calls of `learn`."""

    demonstrations: PositiveInt = 3
    """Rounds in which the expert acts; in later ones the policy does, and the expert says what it would have done."""
    least_return: FiniteFloat | None = None
    """Demonstrations of this return or less are not learned from, and go on until there is a better one; null: all are
    good enough."""
    expert_noise: NonNegativeFloat = 0.0
    """Deviation of normal noise on the expert's executed actions, not on what is learned from them, where half the
    distance between the bounds is 1 (Nagabandi et al.: 0.005 in the paper, none in the code)."""
    policy_noise: NonNegativeFloat = 0.0
    """Likewise of the policy's (their code: 0.005 for the swimmer, none for the others)."""
    warm_labels: bool = False
    """When the expert says what it would have done, let its search begin at what the policy would do from there on in
    imagination, so that labels improve on the policy and agree with each other (Pinneri et al. 2021, "Extracting strong
    policies for robotics tasks from zero-order trajectory optimizers"); else at the middle of the action range."""


class ImitatorSettings(MBMPCSettings):
    """Everything a preset of imitation may set. The expert's sections are those of the run it starts with."""

    learns: ClassVar[bool] = False  # the expert has learned

    agent: Literal["imitation"] = "imitation"  # type: ignore[assignment]
    imitation: Imitation = Imitation()
    policy: GaussianPolicy = GaussianPolicy()
    policy_fit: Fit = Fit(learning_rate=1e-3, batch_size=512, epochs=70, bootstrap=False, holdout=0.05)
    """How the policy is trained; squared error of its mean (Nagabandi et al.: 1e-4 and batches of 500 in the paper)."""

    @model_validator(mode="after")
    def _check_rounds(self) -> "ImitatorSettings":
        if self.train.steps_per_learning is not None:
            raise ValueError(f"train.steps_per_learning must be null: '{self.agent}' learns between episodes")
        if self.imitation.least_return is not None and self.train.episodes_per_learning > 1:
            raise ValueError(
                f"train.episodes_per_learning must be 1 with imitation.least_return, not "
                f"{self.train.episodes_per_learning}: episodes of a round are told apart by their environments"
            )
        if self.imitation.warm_labels and not isinstance(self.planner, Refiner):
            raise ValueError(
                f"imitation.warm_labels needs a planner that starts somewhere, not planner.kind={self.planner.kind}; "
                "choose cem or mppi, or set imitation.warm_labels=false"
            )
        if self.train.pretrained is None:
            raise ValueError(f"train.pretrained must name a run of a planner: '{self.agent}' needs an expert")
        return self

    def adopt(self, settings: RunSettings, state: State, own: State) -> State:
        """The untrained imitator `own`, with the agent of another run as its expert."""
        if settings.agent not in ("mbmpc", "pets"):
            raise UserError(
                f"train.pretrained must be a run of a planner: '{self.train.pretrained}' is of '{settings.agent}'"
            )
        self.check_same(settings, "model", "outcome", "guide")
        return own._replace(expert=state)

    def build(self, task: Task) -> "Imitator":  # type: ignore[override]
        if isinstance(task, Follows):
            raise UserError("task.options.path must be null: a policy does not know how far along a path it is")
        cloning = Cloning(hidden=self.policy.hidden, activation=self.policy.activation, fit=self.policy_fit)
        return Imitator(super().build(task), self.imitation, self.policy, cloning, self.train)


class ImitatorState(NamedTuple):
    """What was learned, and from what."""

    expert: PETSState
    labels: Float[Array, "capacity action"]
    """What the expert would do at the observation in each slot of the replay, in units in which the bounds are +-1."""
    kept: Bool[Array, "capacity"]
    """Which slots are learned from."""
    clone: Clone
    """The mean of the policy in training."""
    policy: GaussianState
    """The policy as it acts."""
    calls: Int[Array, ""]
    """Calls of `learn`."""


@dataclass(frozen=True)
class Imitator:
    """The planner that is imitated, and the policy that imitates it."""

    expert: PETS
    imitation: Imitation
    policy: GaussianPolicy
    cloning: Cloning
    schedule: Schedule

    @property
    def task(self) -> Task:
        return self.expert.world.task

    def init(self, key: Key[Array, ""]) -> ImitatorState:
        expert_key, network_key, policy_key = jax.random.split(key, 3)
        sizes = self.task.feature_size, self.task.spec.action_size
        return ImitatorState(
            self.expert.init(expert_key),
            jnp.zeros((self.schedule.capacity, sizes[1])),
            jnp.zeros(self.schedule.capacity, bool),
            self.cloning.init(network_key, *sizes),
            self.policy.init(policy_key, *sizes),
            jnp.zeros((), jnp.int32),
        )

    def start(self, batch: int) -> mpc.Control:
        return self.expert.start(batch)

    def act(
        self,
        state: ImitatorState,
        memory: mpc.Control,
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], mpc.Control]:
        """The expert's actions until there is a policy, then the policy's."""
        act_key, noise_key = jax.random.split(key)
        demonstrating = self._demonstrating(state)

        def demonstrate() -> tuple[Float[Array, "batch action"], mpc.Control]:
            action, control = self.expert.act(state.expert, memory, obs, act_key, explore=explore)
            return self.task.to_unit(action), control

        def imitate() -> tuple[Float[Array, "batch action"], mpc.Control]:
            return self.policy.mean(state.policy, self.task.features(obs)), memory

        action, memory = jax.lax.cond(demonstrating, demonstrate, imitate)
        if explore:
            std = jnp.where(demonstrating, self.imitation.expert_noise, self.imitation.policy_noise)
            action += std * jax.random.normal(noise_key, action.shape)
        return self.task.from_unit(jnp.clip(action, -1.0, 1.0)), memory

    def learn(
        self, state: ImitatorState, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[ImitatorState, Metrics]:
        """Label the new transitions; once there have been all demonstrations, train the policy on all that are kept."""
        label_key, fit_key = jax.random.split(key)
        labels, kept = self._labelled(state, replay, new, label_key), self._kept(state, replay, new)
        state = state._replace(labels=labels, kept=kept, calls=state.calls + 1)
        count = kept.sum()

        def train(state: ImitatorState) -> tuple[ImitatorState, Metrics]:
            first = jnp.argsort(~kept, stable=True)
            features = self.task.features(replay.data.obs[first])
            clone, metrics = self.cloning.learn(fit_key, state.clone, features, labels[first], count)
            return state._replace(clone=clone, policy=state.policy._replace(network=clone.network)), metrics

        told = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(train, state)[1])
        state, metrics = jax.lax.cond(~self._demonstrating(state), train, lambda state: (state, told), state)
        return state, {**metrics, "labels": count.astype(jnp.float32)}

    def _kept(self, state: ImitatorState, replay: Replay, new: Int[Array, ""]) -> Bool[Array, "capacity"]:
        """The slots to learn from: of the newest `new`, those of demonstrations that are good enough, and all later."""
        is_new = _is_newest(replay, new)
        if self.imitation.least_return is None:
            return state.kept | is_new
        environment, count = replay.data.environment, self.schedule.environments
        returns = jax.ops.segment_sum(jnp.where(is_new, replay.data.reward, 0.0), environment, count)
        good = (returns > self.imitation.least_return)[environment]
        return jnp.where(is_new, good | ~self._demonstrating(state), state.kept)

    def _demonstrating(self, state: ImitatorState) -> Bool[Array, ""]:
        """Whether the expert acts."""
        return (state.calls < self.imitation.demonstrations) | ~state.kept.any()

    def _labelled(
        self, state: ImitatorState, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]
    ) -> Float[Array, "capacity action"]:
        """The labels, with those of the newest `new` transitions: what the expert did there, or plans to do now."""
        first, capacity = replay.added - new, replay.capacity
        labels = jnp.where(_is_newest(replay, new)[:, None], self.task.to_unit(replay.data.action), state.labels)
        its_own = self._demonstrating(state) & (self.imitation.expert_noise == 0)
        offset = jnp.arange(_LABELLED_AT_ONCE)

        def plan(i: Int[Array, ""], labels: Float[Array, "capacity action"]) -> Float[Array, "capacity action"]:
            number = i * _LABELLED_AT_ONCE + offset
            slot = (first + number) % capacity
            obs, plan_key = replay.data.obs[slot], jax.random.fold_in(key, i)
            control = self._before_labels(state, obs, plan_key)
            action, _ = self.expert.act(state.expert, control, obs, plan_key, explore=False)
            slot = jnp.where(number < new, slot, capacity)  # where a scatter in "drop" mode ignores them
            return labels.at[slot].set(self.task.to_unit(action), mode="drop")

        return jax.lax.fori_loop(0, jnp.where(its_own, 0, -(-new // _LABELLED_AT_ONCE)), plan, labels)

    def _before_labels(self, state: ImitatorState, obs: Float[Array, "batch obs"], key: Key[Array, ""]) -> mpc.Control:
        """What the expert knows before it plans at observations that it has not come to by itself."""
        control = self.expert.start(len(obs))
        if not self.imitation.warm_labels:
            return control
        task, world, horizon = self.task, self.expert.world, self.expert.planner.horizon

        def guide(obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows action"]:
            return task.from_unit(jnp.clip(self.policy.mean(state.policy, task.features(obs)), -1.0, 1.0))

        def follow(key: Key[Array, ""], obs: Float[Array, "obs"]) -> Float[Array, "horizon action"]:
            first = jnp.broadcast_to(guide(obs), (horizon, task.spec.action_size))
            return guide(world.trajectories(key, state.expert.world, obs, first, guide)[:-1, 0])

        plans = jax.vmap(follow)(jax.random.split(key, len(obs)), obs)
        mean = jnp.where(self._demonstrating(state), control.memory.mean, plans)
        return control._replace(memory=control.memory._replace(mean=mean))


def _is_newest(replay: Replay, new: Int[Array, ""]) -> Bool[Array, "capacity"]:
    """The slots of the `new` transitions added last."""
    return (jnp.arange(replay.capacity) - (replay.added - new)) % replay.capacity < new
