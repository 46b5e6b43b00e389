"""Model-based policy optimisation: MBPO, DHMBPO, SAC-SVG, and plain actor-critic learners, as one agent.

Janner et al. 2019 (MBPO): the learner's own loss on imagined transitions. Kubo et al. 2025 (DHMBPO): the gradient of an
N-step return through the model, from states that longer imagined rollouts have come to. Without branches the states are
real (SAC-SVG, Amos et al. 2021); without a model the learner is alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from foretell.agents.base import Agent, Extras, Metrics, RunSettings
from foretell.agents.updates import Sync, due_updates, repeat, repeat_with_syncs
from foretell.errors import UserError
from foretell.models import ModelSections, ModelState, Params, TrainedModel, TrueModel, build_model, rollout
from foretell.nn import MLP, Normalizer, fit_normalizer, identity_normalizer
from foretell.registry import register
from foretell.regression.ensemble import Ensemble
from foretell.replay import Replay, Transitions, init_replay, sample
from foretell.settings import Section, Settings
from foretell.tasks import Task
from foretell.values import Expansion, imagine
from foretell.values.branches import Branches, grow, spread
from foretell.values.learners import Learner, LearnerState
from foretell.values.learners.steps import fresh_optimizers, step_critics, step_policy
from foretell.values.value_gradient import Path, path_targets, soft_return

_UNROLLED = 8
"""Imagined steps that are compiled as straight code."""


class Improvement(Settings):
    """How policy and critics are improved. The defaults are those of DHMBPO."""

    kind: Literal["gradient", "replay"] = "gradient"
    """By the gradient of an imagined return through the model, and targets along the same rollout (`gradient`: SVG,
    DHMBPO), or by the learner's own losses on transitions (`replay`: MBPO, SAC)."""
    horizon: PositiveInt = 5
    """Steps of the rollout through which gradients flow."""
    real_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the transitions of each minibatch that are real, with `replay`; all are without branches."""


class UpdateSchedule(Settings):
    """When the model is fitted, and how often policy and critics are updated. The defaults are those of DHMBPO."""

    per_step: PositiveFloat = 1.0
    """Updates of the policy per environment step."""
    first: NonNegativeInt | None = None
    """Updates before the agent first acts; null: `per_step` for every random step."""
    critic_first: NonNegativeInt = 250
    """Updates of the critics alone after each refit of the model; only with `gradient`."""
    refit_every: PositiveInt = 1000
    """Environment steps between two refits of the model."""
    first_fits: PositiveInt = 1
    """Calls of `fit` in the first refit."""
    optimizer_reset: bool = True
    """Begin with new moments of Adam for policy and critics after each refit (DHMBPO)."""
    standardize: bool = True
    """Standardise the inputs of policy and critics with the statistics of all real observations at each refit."""


@register("agent", "policy-optimization")
class PolicyOptimizationSettings(ModelSections, RunSettings):
    """Everything a preset of MBPO, DHMBPO or SAC-SVG may set.

    The sections of the model are not used where nothing imagines: `improvement.kind` is `replay`, and there are no
    `branches`.
    """

    agent: str = "policy-optimization"
    reward_model: Ensemble | None = None
    learner: Annotated[Learner, Section("learner", "redq")]
    """The actor-critic learner."""
    improvement: Improvement = Improvement()
    branches: Branches | None = Branches()
    """Imagined rollouts whose observations, or transitions, the learner is trained on. Null: on real ones."""
    updates: UpdateSchedule = UpdateSchedule()

    @property
    def imagines(self) -> bool:
        """Whether there is a world model."""
        return self.branches is not None or self.improvement.kind == "gradient"

    @model_validator(mode="after")
    def _check(self) -> "PolicyOptimizationSettings":
        every, refit = self.train.steps_per_learning, self.updates.refit_every
        if every is None:
            raise ValueError(f"train.steps_per_learning must be given: '{self.agent}' learns within episodes")
        if refit % every:
            nearest = max(1, round(refit / every)) * every
            raise ValueError(
                f"updates.refit_every ({refit}) must be a multiple of train.steps_per_learning ({every}), after which "
                f"the agent learns; the nearest is {nearest}"
            )
        if self.improvement.kind == "gradient" and self.learner.has_target_policy:
            raise ValueError(
                f"improvement.kind=gradient needs a learner without a target policy, not {self.learner.kind}; choose "
                "redq or sac, or improvement.kind=replay"
            )
        if self.improvement.kind == "replay" and getattr(self.learner, "reward_quantile", None) is not None:
            raise ValueError("learner.reward_quantile needs improvement.kind=gradient; set it to null")
        return self

    def build(self, task: Task) -> "PolicyOptimization":
        model = build_model(task, self) if self.imagines else None
        if isinstance(model, TrueModel) and task.restore is None:
            raise UserError(
                f"model.kind=true-model cannot imagine from past observations of '{task.spec.env_id}', which do not "
                "determine the simulator's state; choose model.kind=ensemble"
            )
        if model is not None:
            self._check_rows(model.particles)
        every = self.train.steps_per_learning or 1
        first = self.updates.per_step * self.train.random_steps if self.updates.first is None else self.updates.first
        most = math.ceil(self.updates.per_step * every)
        calls = max(1, math.ceil(first / most))
        return PolicyOptimization(
            task, self.learner, model, self.improvement, self.branches, self.updates, most, int(first), calls
        )

    def _check_rows(self, particles: int) -> None:
        """Raises `UserError` unless batches can be spread evenly over particles."""
        counts = {"learner.batch_size": self.learner.batch_size}
        if self.branches is not None:
            counts["branches.starts"] = self.branches.starts
        for name, count in counts.items():
            if count % particles:
                nearest = max(1, round(count / particles)) * particles
                raise UserError(
                    f"{name} ({count}) must be a multiple of the model's particles ({particles}); the nearest is "
                    f"{nearest}"
                )


class Acting(NamedTuple):
    """What acting needs."""

    network: MLP
    inputs: Normalizer


class PolicyOptimizationState(NamedTuple):
    """What was learned, and how often."""

    learner: LearnerState
    model: ModelState | None
    fitted: Metrics
    """Of the last refit of the model."""
    inputs: Normalizer
    """Standardises the features that policy and critics see."""
    branches: Replay | None
    calls: Int[Array, ""]
    """Calls of `learn`."""
    steps: Int[Array, ""]
    """Environment steps since the first call."""
    waiting: Int[Array, ""]
    """Environment steps since the last refit."""
    credit: Float[Array, ""]
    """Updates that are due."""


@dataclass(frozen=True)
class PolicyOptimization(Agent):
    """An actor-critic learner that is trained on what its policy does in a world model."""

    task: Task
    learner: Learner
    model: TrainedModel | None
    improvement: Improvement
    branches: Branches | None
    updates: UpdateSchedule
    most: int
    """Updates in a call of `learn`, at most."""
    first: int
    """Updates before it acts."""
    pretraining: int
    """Calls of `learn` for these."""

    def init(self, key: Key[Array, ""]) -> PolicyOptimizationState:
        learner_key, model_key = jax.random.split(key)
        spec, size = self.task.spec, self.task.feature_size
        learner = self.learner.init(learner_key, size, spec.action_size)
        zero, model, fitted = jnp.zeros((), jnp.int32), None, {}
        if self.model is not None:
            model, empty = self.model.init(model_key), init_replay(2, spec.obs_size, spec.action_size)
            shapes = jax.eval_shape(self.model.fit, model, empty, model_key)[1]
            fitted = {name: jnp.zeros(a.shape) for name, a in shapes.items()}
        branches = None if self.branches is None else self.branches.init(spec.obs_size, spec.action_size)
        inputs = identity_normalizer(size)
        return PolicyOptimizationState(learner, model, fitted, inputs, branches, zero, zero, zero, jnp.zeros(()))

    def policy(self, state: PolicyOptimizationState) -> Acting:
        return Acting(state.learner.policy, state.inputs)

    def model_params(self, state: PolicyOptimizationState) -> Params:
        return None if self.model is None else self.model.params(state.model)

    def act(
        self, params: Acting, carry: tuple[()], obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], tuple[()], Extras]:
        features = params.inputs.normalize(self.task.features(obs))
        return self.task.from_unit(self.learner.act(params.network, features, key, explore=explore)), carry, {}

    def learn(
        self, state: PolicyOptimizationState, data: Replay, key: Key[Array, ""]
    ) -> tuple[PolicyOptimizationState, Metrics]:
        """Refit the model if that is due, then make the updates that are due for the new steps.

        Metrics are means over the updates, of which there were `gradient_steps`; those of the model are of its last
        refit and begin with `model_`.
        """
        fit_key, first_key, update_key = jax.random.split(key, 3)
        begins = state.calls == 0
        credit = jnp.where(begins, float(self.first), state.credit + self.updates.per_step * data.new)
        due = jnp.minimum(jnp.floor(credit), self.most).astype(jnp.int32)
        waiting = state.waiting + data.new
        refit = begins | (waiting >= self.updates.refit_every)
        state = state._replace(
            calls=state.calls + 1,
            steps=state.steps + jnp.where(begins, 0, data.new),
            waiting=jnp.where(refit, 0, waiting),
            credit=credit - due,
        )
        state = self._refitted(state, data, fit_key, jnp.where(begins, self.updates.first_fits, 1) * refit, refit)
        params = self.model_params(state)
        state, metrics = self._improved(state, data, params, update_key, first_key, due, refit)
        skipped = metrics.pop("value_skipped") * due
        counts = {"gradient_steps": 1.0 * due, "skipped_steps": skipped}
        return state, {**metrics, **{f"model_{name}": value for name, value in state.fitted.items()}, **counts}

    def _refitted(
        self,
        state: PolicyOptimizationState,
        data: Replay,
        key: Key[Array, ""],
        count: Int[Array, ""],
        refit: Bool[Array, ""],
    ) -> PolicyOptimizationState:
        """With the model fitted so many times, new statistics of the inputs, and new moments of Adam."""
        if self.updates.standardize:
            found = fit_normalizer(self.task.features(data.data.obs), data.valid, min_std=1e-4)
            inputs = jax.tree.map(partial(jnp.where, refit), found, state.inputs)
            state = state._replace(inputs=inputs)
        if self.updates.optimizer_reset:
            fresh = fresh_optimizers(self.learner, state.learner)
            state = state._replace(learner=jax.tree.map(partial(jnp.where, refit), fresh, state.learner))
        if self.model is None:
            return state

        def fit(number: Int[Array, ""], carry: tuple) -> tuple:
            model, metrics = self.model.fit(carry[0], data, jax.random.fold_in(key, number))  # type: ignore[union-attr]
            return model, jax.tree.map(lambda a: a.astype(jnp.float32), metrics)

        model, fitted = jax.lax.fori_loop(0, count, fit, (state.model, state.fitted))
        return state._replace(model=model, fitted=fitted)

    def _improved(
        self,
        state: PolicyOptimizationState,
        data: Replay,
        params: Params,
        key: Key[Array, ""],
        first_key: Key[Array, ""],
        count: Int[Array, ""],
        refit: Bool[Array, ""],
    ) -> tuple[PolicyOptimizationState, Metrics]:
        """So many updates, with the branches that are due between them; after a refit, those of the critics first."""
        grow_key, key = jax.random.split(key)
        state = self._grown(state, refit, data=data, params=params, key=grow_key)
        if self.improvement.kind == "replay":
            update = partial(self._update_by_replay, data=data)
        else:
            update = partial(self._update_by_gradient, data=data, params=params)
            alone = partial(self._update_critics, data=data, params=params)
            state, _ = repeat(self.updates.critic_first * refit, alone, state, first_key)
        syncs: list[Sync] = []
        if self.branches is not None and self.branches.every is not None:
            syncs.append((self.branches.every, partial(self._grown, data=data, params=params, key=grow_key)))
        return repeat_with_syncs(count, update, state, key, state.learner.updates, syncs)

    def _grown(
        self, state: PolicyOptimizationState, due: Bool[Array, ""], *, data: Replay, params: Params, key: Key[Array, ""]
    ) -> PolicyOptimizationState:
        """With a new set of branches, if there are branches and that is due."""
        if self.branches is None or self.model is None or state.branches is None:
            return state
        act = self._act(state.learner, state.inputs)
        one = partial(
            grow,
            jax.random.fold_in(key, state.learner.updates),
            real=data,
            settings=self.branches,
            horizon=self.branches.length(state.steps),
            model=self.model,
            params=params,
            particles=self.model.particles,
            act=act,
        )
        # A loop, because a conditional would copy them.
        return state._replace(branches=jax.lax.fori_loop(0, 1 * due, lambda _, kept: one(kept), state.branches))

    def _act(self, learner: LearnerState, inputs: Normalizer) -> Callable[..., Any]:
        """The policy in imagination; it keeps the action in [-1, 1] and its entropy bonus."""

        def act(key: Key[Array, ""], obs: Array, t: Array) -> tuple[Array, tuple[Array, Array]]:
            del t
            action, bonus = self.learner.propose(learner, inputs.normalize(self.task.features(obs)), key)
            return self.task.from_unit(action), (action, bonus)

        return act

    def path(
        self,
        policy: MLP,
        state: PolicyOptimizationState,
        params: Params,
        obs: Float[Array, "rows obs"],
        key: Key[Array, ""],
    ) -> Path:
        """The rollout of a policy from these observations, through which gradients flow."""
        assert self.model is not None
        begin_key, roll_key, last_key = jax.random.split(key, 3)
        act, horizon = self._act(state.learner._replace(policy=policy), state.inputs), self.improvement.horizon
        begin = spread(self.model, params, obs, begin_key, self.model.particles)
        steps = rollout(self.model, params, begin, act, horizon, roll_key, unroll=min(horizon, _UNROLLED))
        _, last = act(last_key, steps.end.obs, jnp.int32(horizon))
        action, bonus = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), steps.extras, last)
        features = state.inputs.normalize(self.task.features(steps.obs))
        reward = self.learner.reward_scale * steps.reward.mean(1)
        found = Path(features, action, bonus, reward, steps.terminated)
        return jax.tree.map(lambda a: a.reshape(len(a), -1, *a.shape[3:]), found)

    def _with_targets(
        self, state: PolicyOptimizationState, path: Path
    ) -> tuple[PolicyOptimizationState, Float[Array, "rows"]]:
        """The scale of values after a rollout, and the targets of its first pairs."""
        soft = jax.lax.stop_gradient(path.reward + path.bonus[:-1])
        ended = jnp.cumsum(path.terminated > 0.5, 0) - (path.terminated > 0.5) > 0
        learner = self.learner.rescaled(state.learner, jnp.where(ended, jnp.nan, soft))
        value = self.learner.target_values(learner, path.features[-1], path.action[-1], path.bonus[-1]).mean(0)
        return state._replace(learner=learner), path_targets(path, value, self.learner.discount)

    def _starts(self, state: PolicyOptimizationState, data: Replay, key: Key[Array, ""]) -> Float[Array, "batch obs"]:
        """Observations from which the policy is improved: those of branches, or real ones."""
        return sample(data if state.branches is None else state.branches, key, self.learner.batch_size).obs

    def _update_critics(
        self, state: PolicyOptimizationState, data: Replay, params: Params, key: Key[Array, ""]
    ) -> tuple[PolicyOptimizationState, Metrics]:
        """One update of the critics alone."""
        sample_key, roll_key, step_key = jax.random.split(key, 3)
        path = self.path(state.learner.policy, state, params, self._starts(state, data, sample_key), roll_key)
        state, target = self._with_targets(state, path)
        pairs = path.features[0], path.action[0]
        learner, metrics = step_critics(self.learner, state.learner, step_key, *pairs, target)
        return state._replace(learner=learner), metrics

    def _update_by_gradient(
        self, state: PolicyOptimizationState, data: Replay, params: Params, key: Key[Array, ""]
    ) -> tuple[PolicyOptimizationState, Metrics]:
        """One update of the critics, then one of the policy, both by the same rollout."""
        sample_key, roll_key, step_key = jax.random.split(key, 3)
        obs = self._starts(state, data, sample_key)
        path, pull_back = jax.vjp(lambda policy: self.path(policy, state, params, obs, roll_key), state.learner.policy)
        state, target = self._with_targets(state, path)
        pairs = path.features[0], path.action[0]
        learner, metrics = step_critics(self.learner, state.learner, step_key, *pairs, target)

        def loss_of(path: Path) -> Float[Array, ""]:
            value = self.learner.policy_value(learner, path.features[-1], path.action[-1])
            return -soft_return(path, value, self.learner.discount).mean()

        loss, slope = jax.value_and_grad(loss_of)(path)
        (grads,) = pull_back(slope)
        learner, found = step_policy(self.learner, learner, loss, grads, path.bonus[0])
        skipped = jnp.maximum(metrics["value_skipped"], found.pop("policy_skipped"))
        return state._replace(learner=learner), {**metrics, **found, "value_skipped": skipped}

    def _update_by_replay(
        self, state: PolicyOptimizationState, data: Replay, key: Key[Array, ""]
    ) -> tuple[PolicyOptimizationState, Metrics]:
        """One update of critics and policy by the learner's own losses on real and imagined transitions."""
        sample_key, imagine_key, update_key = jax.random.split(key, 3)
        batch, features_of = self._batch(state, data, sample_key), lambda obs: state.inputs.normalize(self.task.features(obs))
        frames = imagine(
            imagine_key,
            0,
            batch,
            model=None,
            params=None,
            particles=1,
            act=self._act(state.learner, state.inputs),
            value=lambda obs, action, bonus: self.learner.target_values(state.learner, features_of(obs), action, bonus),
        )
        found = Expansion(horizon=0).targets(frames, self.learner.discount, self.learner.reward_scale)
        features, action = features_of(batch.obs)[None, None], self.task.to_unit(batch.action)[None, None]
        learner, metrics = self.learner.update(
            state.learner, update_key, features, action, found.target, found.weight
        )
        return state._replace(learner=learner), metrics

    def _batch(self, state: PolicyOptimizationState, data: Replay, key: Key[Array, ""]) -> Transitions:
        """A minibatch of real and imagined transitions."""
        size = self.learner.batch_size
        if state.branches is None:
            return sample(data, key, size)
        real_key, branch_key = jax.random.split(key)
        real = int(size * self.improvement.real_share)
        parts = sample(data, real_key, real), sample(state.branches, branch_key, size - real)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *parts)
