"""A policy that imitates a planner: DAgger with model predictive control as the expert.

Nagabandi, Kahn, Fearing, Levine: "Neural network dynamics for model-based deep reinforcement learning with model-free
fine-tuning", 2018 (arXiv:1708.02596), section V; Ross, Gordon, Bagnell, "A reduction of imitation learning and
structured prediction to no-regret online learning", 2011.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import FiniteFloat, NonNegativeFloat, PositiveInt, model_validator

from foretell.agents.base import Agent, Extras, Metrics, Pretrained, State
from foretell.agents.mbmpc import MBMPCSettings
from foretell.agents.pets import PETS, PETSSettings
from foretell.errors import UserError
from foretell.models import Params, rollout, start
from foretell.planning import Refiner, mpc
from foretell.registry import register
from foretell.regression.fit import Fit
from foretell.replay import Trajectories
from foretell.settings import Settings
from foretell.tasks import Task
from foretell.tasks.base import Follows
from foretell.values.cloning import Clone, Cloning
from foretell.values.gaussian import GaussianPolicy, GaussianState

_LABELLED_AT_ONCE = 10
"""Observations for which the expert plans as one batch when it labels them."""


class Imitation(Settings):
    """When the expert acts, and how the policy learns from it. A round lies between two calls of `learn`."""

    demonstrations: PositiveInt = 3
    """Number of first rounds, in which the expert acts. In later rounds the policy acts and the expert labels its
    observations with actions. A round lies between two calls of `learn`."""
    least_return: FiniteFloat | None = None
    """Demonstrations with this return or less are not used; if none is better, the expert demonstrates again. Null: use
    all."""
    expert_noise: NonNegativeFloat = 0.0
    """Standard deviation of normal noise on the actions that the expert executes, in units in which the bounds are -1
    and 1. The policy learns from the actions without noise. Nagabandi et al.: 0.005 in the paper, none in the code."""
    policy_noise: NonNegativeFloat = 0.0
    """The same for the policy's actions (their code: 0.005 for the swimmer, none for the other robots)."""
    warm_labels: bool = False
    """Start the expert's search for labels at the actions that the policy takes in imagination, instead of the middle
    of the action range. Labels then improve the policy and agree with each other (Pinneri et al. 2021, "Extracting
    strong policies for robotics tasks from zero-order trajectory optimizers")."""


@register("agent", "imitation")
class ImitatorSettings(MBMPCSettings):
    """Everything a preset of imitation may set. The expert's sections are those of the run it starts with."""

    agent: str = "imitation"
    imitation: Imitation = Imitation()
    policy: GaussianPolicy = GaussianPolicy()
    policy_fit: Fit = Fit(learning_rate=1e-3, batch_size=512, epochs=70, bootstrap=False, holdout=0.05)
    """Training of the policy, by the squared error of its mean. The paper of Nagabandi et al. has a learning rate of
    1e-4 and batches of 500."""

    @property
    def needs_data(self) -> bool:
        return False  # the expert has learned

    @model_validator(mode="after")
    def _check_rounds(self) -> "ImitatorSettings":
        if self.train.steps_per_learning is not None:
            raise ValueError(f"train.steps_per_learning must be null: '{self.agent}' learns between episodes")
        if self.train.random_episodes or self.train.random_steps or self.train.warmup_episodes:
            raise ValueError(
                f"train.random_episodes, random_steps and warmup_episodes must be 0: '{self.agent}' learns from the "
                "expert's and its own episodes alone"
            )
        if self.imitation.least_return is not None and self.train.episodes_per_learning > 1:
            raise ValueError(
                f"train.episodes_per_learning must be 1 with imitation.least_return, not "
                f"{self.train.episodes_per_learning}: a round must have one episode in each environment"
            )
        if self.imitation.warm_labels and not isinstance(self.planner, Refiner):
            raise ValueError(
                "imitation.warm_labels needs a planner whose search has a starting point, not "
                f"planner.kind={self.planner.kind}; choose cem or mppi, or set imitation.warm_labels=false"
            )
        if self.train.pretrained is None:
            raise ValueError(f"train.pretrained must name a run of a planner: '{self.agent}' needs an expert")
        return self

    def start_from(self, other: Pretrained, own: State) -> State:
        """The untrained imitator `own`, with the agent of another run as its expert."""
        if not isinstance(other.settings, PETSSettings) or isinstance(other.settings, ImitatorSettings):
            raise UserError(
                f"train.pretrained must be a run of a planner: '{self.train.pretrained}' is a run of "
                f"'{other.settings.agent}'"
            )
        self.check_same(other.settings, "model", "reward_model", "guide")
        return own._replace(expert=other.state)

    def build(self, task: Task) -> "Imitator":  # type: ignore[override]
        if isinstance(task, Follows):
            raise UserError("task.options.path must be null: a policy does not observe its progress along a path")
        self._check_labels(task)
        cloning = Cloning(hidden=self.policy.hidden, activation=self.policy.activation, fit=self.policy_fit)
        return Imitator(super().build(task), self.imitation, self.policy, cloning, self.train.capacity)

    def _check_labels(self, task: Task) -> None:
        """Raises `UserError` if the expert would have to plan where it cannot: at the policy's observations."""
        first = self.imitation.demonstrations * self.train.environments * self.train.episodes_per_learning
        if not self.model.needs_data and task.restore is None and self.train.trials > first:
            raise UserError(
                f"train.trials must be at most {first}, the demonstrations, not {self.train.trials}: with "
                f"model.kind={self.model.kind} the expert cannot correct the policy in '{task.spec.env_id}', whose "
                "observations do not determine the simulator's state"
            )


class Labels(NamedTuple):
    """What the policy learns from: the newest `capacity` observations, and what the expert would do there."""

    obs: Float[Array, "capacity obs"]
    action: Float[Array, "capacity action"]
    """In units in which the bounds are -1 and 1."""
    added: Int[Array, ""]
    """Labels ever added; slot `added % capacity` is written next."""

    @property
    def size(self) -> Int[Array, ""]:
        return jnp.minimum(self.added, len(self.obs))


class ImitatorState(NamedTuple):
    """What was learned, and from what."""

    expert: State
    labels: Labels
    clone: Clone
    """The mean of the policy in training."""
    policy: GaussianState
    """The policy as it acts."""
    calls: Int[Array, ""]
    """Calls of `learn`."""


class ImitatorParams(NamedTuple):
    """What acting needs."""

    expert: Params
    policy: GaussianState
    demonstrating: Bool[Array, ""]
    """Whether the expert acts."""


@dataclass(frozen=True)
class Imitator(Agent):
    """The planner that is imitated, and the policy that imitates it."""

    data: ClassVar[Literal["replay", "trajectories"]] = "trajectories"

    expert: PETS
    imitation: Imitation
    gaussian: GaussianPolicy
    cloning: Cloning
    capacity: int

    @property
    def task(self) -> Task:
        return self.expert.task

    @property
    def model(self) -> Any:  # type: ignore[override]
        """The expert's world model."""
        return self.expert.model

    def init(self, key: Key[Array, ""]) -> ImitatorState:
        expert_key, network_key, policy_key = jax.random.split(key, 3)
        sizes = self.task.feature_size, self.task.spec.action_size
        stored = (self.capacity, self.task.spec.obs_size), (self.capacity, sizes[1])
        return ImitatorState(
            self.expert.init(expert_key),
            Labels(jnp.zeros(stored[0]), jnp.zeros(stored[1]), jnp.zeros((), jnp.int32)),
            self.cloning.init(network_key, *sizes),
            self.gaussian.init(policy_key, *sizes),
            jnp.zeros((), jnp.int32),
        )

    def policy(self, state: ImitatorState) -> ImitatorParams:
        return ImitatorParams(self.expert.policy(state.expert), state.policy, self._demonstrating(state))

    def model_params(self, state: ImitatorState) -> Params:
        return self.expert.model_params(state.expert)

    def begin(self, params: ImitatorParams, obs: Float[Array, "batch obs"], key: Key[Array, ""]) -> mpc.PlanCarry:
        return self.expert.begin(params.expert, obs, key)

    def act(
        self,
        params: ImitatorParams,
        carry: mpc.PlanCarry,
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], mpc.PlanCarry, Extras]:
        """The expert's actions until there is a policy, then the policy's."""
        act_key, noise_key = jax.random.split(key)

        def demonstrate() -> tuple[Float[Array, "batch action"], mpc.PlanCarry]:
            action, carried, _ = self.expert.act(params.expert, carry, obs, act_key, explore=explore)
            return self.task.to_unit(action), carried

        def imitate() -> tuple[Float[Array, "batch action"], mpc.PlanCarry]:
            return self.gaussian.mean(params.policy, self.task.features(obs)), carry

        action, carry = jax.lax.cond(params.demonstrating, demonstrate, imitate)
        if explore:
            std = jnp.where(params.demonstrating, self.imitation.expert_noise, self.imitation.policy_noise)
            action += std * jax.random.normal(noise_key, action.shape)
        return self.task.from_unit(jnp.clip(action, -1.0, 1.0)), carry, {}

    def deployed(self, params: ImitatorParams) -> tuple[Agent, Any]:
        """The policy alone, as soon as there is one."""
        if params.demonstrating:
            return self, params
        return Imitated(self.task, self.gaussian, self.imitation.policy_noise), params.policy

    def learn(self, state: ImitatorState, data: Trajectories, key: Key[Array, ""]) -> tuple[ImitatorState, Metrics]:
        """Label the new steps; once there have been all demonstrations, train the policy on all labels."""
        label_key, fit_key = jax.random.split(key)
        rows = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), data._replace(valid=self._kept(state, data)))
        rows = jax.tree.map(lambda a: a[jnp.argsort(~rows.valid, stable=True)], rows)  # those to learn from come first
        labels = _append(state.labels, rows, self._labels(state, rows, label_key))
        state = state._replace(labels=labels, calls=state.calls + 1)

        @partial(jax.jit, inline=True)  # traced once, for its shapes and for the conditional
        def train(state: ImitatorState) -> tuple[ImitatorState, Metrics]:
            features = self.task.features(labels.obs)
            clone, metrics = self.cloning.learn(fit_key, state.clone, features, labels.action, labels.size)
            return state._replace(clone=clone, policy=state.policy._replace(network=clone.network)), metrics

        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(train, state)[1])
        state, metrics = jax.lax.cond(~self._demonstrating(state), train, lambda state: (state, nothing), state)
        return state, {**metrics, "labels": labels.size.astype(jnp.float32)}

    def _kept(self, state: ImitatorState, data: Trajectories) -> Bool[Array, "time environments"]:
        """Which steps are learned from: those of demonstrations that are good enough, and all later ones."""
        if self.imitation.least_return is None:
            return data.valid
        returns = jnp.where(data.valid, data.reward, 0.0).sum(0)
        return data.valid & ((returns > self.imitation.least_return) | ~self._demonstrating(state))

    def _demonstrating(self, state: ImitatorState) -> Bool[Array, ""]:
        """Whether the expert acts."""
        return (state.calls < self.imitation.demonstrations) | (state.labels.added == 0)

    def _labels(self, state: ImitatorState, rows: Trajectories, key: Key[Array, ""]) -> Float[Array, "rows action"]:
        """What the expert did in the valid rows, which come first, or plans to do now."""
        its_own = self._demonstrating(state) & (self.imitation.expert_noise == 0)
        offset, params, count = jnp.arange(_LABELLED_AT_ONCE), self.policy(state), rows.valid.sum()

        def plan(i: Int[Array, ""], labels: Float[Array, "rows action"]) -> Float[Array, "rows action"]:
            place = i * _LABELLED_AT_ONCE + offset
            obs, plan_key = rows.obs[jnp.minimum(place, len(labels) - 1)], jax.random.fold_in(key, i)
            carry = self._before_labels(params, obs, plan_key)
            action, _, _ = self.expert.act(params.expert, carry, obs, plan_key, explore=False)
            return labels.at[place].set(self.task.to_unit(action), mode="drop")

        chunks = jnp.where(its_own, 0, -(-count // _LABELLED_AT_ONCE))
        return jax.lax.fori_loop(0, chunks, plan, self.task.to_unit(rows.action))

    def _before_labels(
        self, params: ImitatorParams, obs: Float[Array, "batch obs"], key: Key[Array, ""]
    ) -> mpc.PlanCarry:
        """The expert's carry before it plans at observations that it has not come to by itself."""
        carry = self.expert.begin(params.expert, obs, key)
        if not self.imitation.warm_labels:
            return carry
        model, horizon = self.expert.model, self.expert.planner.horizon

        def act(key: Key[Array, ""], obs: Float[Array, "particles batch obs"], t: Array) -> tuple[Array, tuple]:
            del key, t
            unit = jnp.clip(self.gaussian.mean(params.policy, self.task.features(obs)), -1.0, 1.0)
            return self.task.from_unit(unit), ()

        world = self.expert.imagined_by(params.expert)
        trajectory = rollout(model, world, start(model, world, obs, key, model.particles), act, horizon, key)
        plans = jnp.swapaxes(trajectory.action[:, 0], 0, 1)  # of the first particle
        mean = jnp.where(params.demonstrating, carry.warm_start.mean, plans)
        return carry._replace(warm_start=carry.warm_start._replace(mean=mean))


@dataclass(frozen=True)
class Imitated(Agent):
    """The policy without the planner that it has imitated. It acts, and does not learn."""

    task: Task
    gaussian: GaussianPolicy
    noise: float
    """Standard deviation of the noise with which it explores."""

    def act(
        self,
        params: GaussianState,
        carry: tuple[()],
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], tuple[()], Extras]:
        """The actions of `Imitator` once there is a policy."""
        action = self.gaussian.mean(params, self.task.features(obs))
        if explore:
            action += self.noise * jax.random.normal(jax.random.split(key)[1], action.shape)
        return self.task.from_unit(jnp.clip(action, -1.0, 1.0)), carry, {}


def _append(labels: Labels, rows: Trajectories, actions: Float[Array, "rows action"]) -> Labels:
    """With the valid rows, which come first; the oldest are overwritten."""
    capacity, count = len(labels.obs), rows.valid.sum(dtype=jnp.int32)
    # Rows that are not valid are sent out of bounds, where a scatter in "drop" mode ignores them.
    slot = jnp.where(rows.valid, (labels.added + jnp.arange(len(actions))) % capacity, capacity)
    obs = labels.obs.at[slot].set(rows.obs, mode="drop")
    return Labels(obs, labels.action.at[slot].set(actions, mode="drop"), labels.added + count)
