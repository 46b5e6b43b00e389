"""Model-based policy optimisation: MBPO, DHMBPO, SAC-SVG, and plain actor-critic learners, as one agent.

Janner et al. 2019 (MBPO): the learner's own loss on imagined transitions. Kubo et al. 2025 (DHMBPO): the gradient of an
N-step return through the model, from states that longer imagined rollouts have come to. Without branches the states are
real (SAC-SVG, Amos et al. 2021); without a model the learner is alone.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import model_validator

from foretell.agents.base import Agent, Extras, Metrics, RunSettings
from foretell.agents.policy_updates import Acting, PolicyOptimizationState, UpdateSchedule
from foretell.agents.updates import Sync, repeat, repeat_with_syncs
from foretell.errors import UserError
from foretell.models import ModelSections, Params, TrainedModel, TrueModel, build_model
from foretell.nn import fit_normalizer, identity_normalizer
from foretell.registry import register
from foretell.regression.ensemble import Ensemble
from foretell.replay import Replay, Transitions, init_replay, sample
from foretell.settings import Section
from foretell.tasks import Task
from foretell.values.branches import Branches, drawn, grow
from foretell.values.improvement import Improvement, Improver
from foretell.values.learners import Learner
from foretell.values.learners.steps import fresh_optimizers


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
        if self.learner.standardize:
            raise ValueError("learner.standardize must be false: updates.standardize does the same at each refit")
        if self.improvement.kind == "gradient" and self.learner.has_target_policy:
            raise ValueError(
                f"improvement.kind=gradient needs a learner without a target policy, not {self.learner.kind}; choose "
                "redq or sac, or improvement.kind=replay"
            )
        if self.improvement.kind == "replay" and getattr(self.learner, "reward_quantile", None) is not None:
            raise ValueError("learner.reward_quantile needs improvement.kind=gradient; set it to null")
        if self.branches is not None and self.branches.max_divergence is not None:
            self._check_divergence()
        return self

    def _check_divergence(self) -> None:
        """Raises `ValueError` unless the model has members that can disagree."""
        model = self.model
        if not (isinstance(model, Ensemble) and model.probabilistic and model.serving > 1):
            raise ValueError(
                "branches.max_divergence needs model.kind=ensemble with model.probabilistic=true and at least 2 "
                "networks that predict"
            )

    def build(self, task: Task) -> "PolicyOptimization":
        model = build_model(task, self) if self.imagines else None
        if isinstance(model, TrueModel) and self.improvement.kind == "gradient":
            raise UserError(
                "improvement.kind=gradient needs a learned model, because no gradient flows through a simulator; "
                "choose model.kind=ensemble, or improvement.kind=replay"
            )
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
        counts = {}
        if self.improvement.kind == "gradient":
            counts["learner.batch_size"] = self.learner.batch_size
        if self.branches is not None:
            counts["branches.starts"] = self.branches.starts
        for name, count in counts.items():
            if count % particles:
                nearest = max(1, round(count / particles)) * particles
                raise UserError(
                    f"{name} ({count}) must be a multiple of the model's particles ({particles}); the nearest is "
                    f"{nearest}"
                )


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

    @property
    def improver(self) -> Improver:
        """Its updates of policy and critics."""
        return Improver(self.task, self.learner, self.model, self.improvement.horizon)

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
        trust = None if self.branches is None else self.branches.trust()
        return PolicyOptimizationState(learner, model, fitted, inputs, branches, zero, zero, zero, jnp.zeros(()), trust)

    def policy(self, state: PolicyOptimizationState) -> Acting:
        return Acting(state.learner.policy, state.inputs)

    def model_params(self, state: PolicyOptimizationState) -> Params:
        return None if self.model is None else self.model.params(state.model)

    def act(
        self, params: Acting, carry: tuple[()], obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], tuple[()], Extras]:
        features = self.improver.features(params.inputs, obs)
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
            found = partial(fit_normalizer, valid=data.valid, min_std=1e-4)
            inputs = jax.lax.cond(refit, lambda: found(self.task.features(data.data.obs)), lambda: state.inputs)
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
        act = self.improver.act(state.learner, state.inputs)
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
        so_far = state.branches, state.trust
        kept, trust = jax.lax.fori_loop(0, 1 * due, lambda _, so_far: one(*so_far), so_far)
        return state._replace(branches=kept, trust=trust)

    def _obs(self, state: PolicyOptimizationState, data: Replay, key: Key[Array, ""]) -> Float[Array, "batch obs"]:
        """Observations from which the policy is improved: those of branches, or real ones."""
        return self._drawn(state, data, key, self.learner.batch_size).obs

    def _update_critics(
        self, state: PolicyOptimizationState, data: Replay, params: Params, key: Key[Array, ""]
    ) -> tuple[PolicyOptimizationState, Metrics]:
        key, sample_key = jax.random.split(key)
        obs = self._obs(state, data, sample_key)
        learner, metrics = self.improver.update_critics(state.learner, state.inputs, params, obs, key)
        return state._replace(learner=learner), metrics

    def _update_by_gradient(
        self, state: PolicyOptimizationState, data: Replay, params: Params, key: Key[Array, ""]
    ) -> tuple[PolicyOptimizationState, Metrics]:
        key, sample_key = jax.random.split(key)
        obs = self._obs(state, data, sample_key)
        learner, metrics = self.improver.update_by_gradient(state.learner, state.inputs, params, obs, key)
        return state._replace(learner=learner), metrics

    def _update_by_replay(
        self, state: PolicyOptimizationState, data: Replay, key: Key[Array, ""]
    ) -> tuple[PolicyOptimizationState, Metrics]:
        key, sample_key = jax.random.split(key)
        batch = self._batch(state, data, sample_key)
        learner, metrics = self.improver.update_by_replay(state.learner, state.inputs, batch, key)
        return state._replace(learner=learner), metrics

    def _batch(self, state: PolicyOptimizationState, data: Replay, key: Key[Array, ""]) -> Transitions:
        """A minibatch of real and imagined transitions."""
        size = self.learner.batch_size
        if state.branches is None:
            return sample(data, key, size)
        real_key, branch_key = jax.random.split(key)
        real = int(size * self.improvement.real_share)
        parts = sample(data, real_key, real), self._drawn(state, data, branch_key, size - real)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *parts)

    def _drawn(self, state: PolicyOptimizationState, data: Replay, key: Key[Array, ""], count: int) -> Transitions:
        """Transitions of branches, or real ones where there are no branches."""
        if self.branches is None or state.branches is None:
            return sample(data, key, count)
        return drawn(self.branches, state.branches, key, count, self.branches.length(state.steps))
