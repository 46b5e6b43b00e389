"""DDPG, TD3 and SAC, and what value expansion makes of them: MVE, STEVE and their ablations.

Buckman, Hafner, Tucker, Brevdo, Lee: "Sample-Efficient Reinforcement Learning with Stochastic Ensemble Value
Expansion", NeurIPS 2018. With `expansion.horizon` 0 there is no model: the learner alone.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from foretell.agents.base import Agent, Extras, Metrics, RunSettings
from foretell.errors import UserError
from foretell.models import Imagination, ModelSections, ModelState, Params, TrainedModel, TrueModel, build_model
from foretell.nn import MLP
from foretell.registry import register
from foretell.regression.ensemble import Ensemble
from foretell.replay import Replay, Transitions, sample
from foretell.settings import Section, Settings
from foretell.tasks import Task
from foretell.values import Expansion, Frames, Targets, candidates, imagine
from foretell.values.learners import Learner, LearnerState

_PRETRAINING_BLOCK = 500
"""Model updates per call of `learn` before the agent acts: enough to be fast, few enough to show progress."""


class Updates(Settings):
    """When what is learned is learned and used. The defaults are the released STEVE's."""

    per_step: PositiveFloat = 4.0
    """Updates of the learner, and of the model, per environment step."""
    pretraining: NonNegativeInt = 10_000
    """Updates of the model before the agent acts, on random data alone."""
    sync_policy_every: PositiveInt = 500
    """Copy the newest policy to the one that acts every so many updates, before update `u`, counted from 0, where
    `u + 1` is a multiple of it."""
    sync_model_every: PositiveInt = 500
    """Likewise, copy the newest model to the one that targets are computed with."""


@register("agent", "value-expansion")
class ValueExpansionSettings(ModelSections, RunSettings):
    """Everything a preset of DDPG, TD3, SAC, MVE or STEVE may set.

    The sections of the model are not used where `expansion.horizon` is 0.
    """

    agent: str = "value-expansion"
    imagination: Imagination = Imagination(particles=None)
    reward_model: Ensemble | None = None
    learner: Annotated[Learner, Section("learner", "ddpg")]
    """The actor-critic learner."""
    expansion: Expansion
    updates: Updates = Updates()

    @model_validator(mode="after")
    def _check(self) -> "ValueExpansionSettings":
        if self.train.steps_per_learning is None:
            raise ValueError(f"train.steps_per_learning must be given: '{self.agent}' learns within episodes")
        if self.expansion.horizon and not self.model.trains_stepwise:
            raise ValueError(
                f"model.kind={self.model.kind} cannot be trained by single gradient steps, as '{self.agent}' does; "
                "choose ensemble or steve"
            )
        return self

    def build(self, task: Task) -> "ValueExpansion":
        model = build_model(task, self) if self.expansion.horizon else None
        self._check_samples(task, model)
        if isinstance(model, TrueModel) and task.restore is None:
            raise UserError(
                f"model.kind=true-model cannot imagine from past observations of '{task.spec.env_id}', which do not "
                "determine the simulator's state; choose ensemble or steve"
            )
        return ValueExpansion(task, self.learner, model, self.expansion, self.updates)

    def _check_samples(self, task: Task, model: TrainedModel | None) -> None:
        """Raises `UserError` where horizons are weighed by the spread of samples, and there is one sample of each."""
        if model is None or self.expansion.reduction not in ("inverse-variance", "inverse-covariance"):
            return
        opinions = getattr(self.model, "reward_members", 1) if task.reward is None and self.reward_model is None else 1
        if model.particles * opinions * self.learner.critics == 1:
            raise UserError(
                f"expansion.reduction={self.expansion.reduction} weighs horizons by the spread of their samples, but "
                "single networks give one sample each; raise model.members or learner.critics, or choose last, mean or "
                "lambda"
            )


class ModelCopies(NamedTuple):
    """The model that is trained, and the copy of it that targets are computed with."""

    trained: ModelState
    target: Params


class PolicyCopy(NamedTuple):
    """The policy that acts."""

    network: MLP
    version: Int[Array, ""]
    """How often it has been renewed."""


class ValueExpansionState(NamedTuple):
    """What was learned, and how often."""

    learner: LearnerState
    model: ModelCopies | None
    acting: PolicyCopy
    calls: Int[Array, ""]
    """Calls of `learn`."""
    credit: Float[Array, ""]
    """Fraction of an update that is due for steps already seen."""


@dataclass(frozen=True)
class ValueExpansion(Agent):
    """An actor-critic learner whose targets look ahead in imagination."""

    task: Task
    learner: Learner
    model: TrainedModel | None
    expansion: Expansion
    updates: Updates

    @property
    def pretraining(self) -> int:  # type: ignore[override]
        """Calls of `learn` before it acts."""
        return max(1, math.ceil(self.updates.pretraining / _PRETRAINING_BLOCK)) if self._model_learns else 1

    @property
    def _model_learns(self) -> bool:
        return self.model is not None and self.model.needs_data

    def init(self, key: Key[Array, ""]) -> ValueExpansionState:
        learner_key, model_key = jax.random.split(key)
        learner = self.learner.init(learner_key, self.task.feature_size, self.task.spec.action_size)
        model = None
        if self.model is not None:
            state = self.model.init(model_key)
            model = ModelCopies(state, self.model.params(state))
        zero = jnp.zeros((), jnp.int32)
        return ValueExpansionState(learner, model, PolicyCopy(learner.policy, zero), zero, jnp.zeros(()))

    def policy(self, state: ValueExpansionState) -> PolicyCopy:
        return state.acting

    def model_params(self, state: ValueExpansionState) -> Params:
        return None if state.model is None else state.model.target

    def act(
        self,
        params: PolicyCopy,
        carry: tuple[()],
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], tuple[()], Extras]:
        action = self.learner.act(params.network, self.task.features(obs), key, explore=explore)
        return self.task.from_unit(action), carry, {"policy_version": jnp.broadcast_to(params.version, len(obs))}

    def learn(
        self, state: ValueExpansionState, data: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """Before the agent acts, train the model alone; afterwards make the updates that are due for the new steps.

        Metrics are means over the updates, of which there were `gradient_steps`.
        """
        pretrain_key, update_key = jax.random.split(key)
        acting = state.calls >= self.pretraining
        total = state.credit + self.updates.per_step * data.new * acting
        due = jnp.floor(total).astype(jnp.int32)
        state = self._prepared(state._replace(calls=state.calls + 1, credit=total - due), data)
        metrics: Metrics = {}
        pretrained = jnp.zeros((), jnp.int32)
        if self._model_learns:
            left = self.updates.pretraining - _PRETRAINING_BLOCK * (state.calls - 1)
            pretrained = jnp.where(acting, 0, jnp.clip(left, 0, _PRETRAINING_BLOCK))
            state, metrics = self._repeat(pretrained, self._train_model, state, data, pretrain_key)
        first = state.calls == self.pretraining
        state = self._sync_model(_sync_policy(state, first), first)
        state, updated = self._make_updates(due, state, data, update_key)
        metrics = {name: value + metrics.get(name, 0.0) for name, value in updated.items()}
        skipped = metrics.pop("value_skipped") * due
        if self.model is not None:
            skipped += metrics.pop("model_skipped", 0.0) * jnp.maximum(due, pretrained)
        counts = {"gradient_steps": due + pretrained, "skipped_steps": skipped, "policy_version": state.acting.version}
        return state, {**metrics, **{name: jnp.float32(value) for name, value in counts.items()}}

    def expand(self, key: Key[Array, ""], learner: LearnerState, model: Params, batch: Transitions) -> Frames:
        """Follow the policy in imagination from where real transitions led."""
        features = self.task.features

        def act(key: Key[Array, ""], obs: Array, t: Array) -> tuple[Array, tuple[Array, Array]]:
            del t
            action, bonus = self.learner.propose(learner, features(obs), key)
            return self.task.from_unit(action), (action, bonus)

        return imagine(
            key,
            self.expansion.horizon,
            batch,
            model=self.model,
            params=model,
            particles=self.model.particles if self.model else 1,
            act=act,
            value=lambda obs, action: self.learner.values(learner.target_critics, features(obs), action),
        )

    def horizon_weights(
        self, state: ValueExpansionState, batch: Transitions, key: Key[Array, ""]
    ) -> Float[Array, "frames batch"]:
        """The weight of every horizon in the target of each real transition."""
        imagined = self.expand(key, state.learner, self.model_params(state), batch)
        rows = candidates(imagined, discount=self.learner.discount, reward_scale=self.learner.reward_scale, sources=1)
        return self.expansion.reduce(rows[0])[1]

    def critic_data(
        self, state: ValueExpansionState, batch: Transitions, key: Key[Array, ""]
    ) -> tuple[
        Float[Array, "sources particles batch features"], Float[Array, "sources particles batch action"], Targets
    ]:
        """What critics learn from a batch: features and actions of real and imagined pairs, and their targets."""
        imagined = self.expand(key, state.learner, self.model_params(state), batch)
        targets = self.expansion.targets(imagined, self.learner.discount, self.learner.reward_scale)
        obs, action = self._pairs(batch, imagined, len(targets.target))
        return self.task.features(obs), action, targets

    def _repeat(
        self, count: Int[Array, ""], update: Any, state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """`update` so many times; its metrics are averaged."""
        update = partial(update, replay=replay)
        carry = state, _zeros_of(update, state, key=key)
        state, total = jax.lax.fori_loop(0, count, partial(_add_update, update, key), carry)
        return state, jax.tree.map(lambda a: a / jnp.maximum(count, 1), total)

    def _make_updates(
        self, count: Int[Array, ""], state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """So many updates of learner and model, and what is due between them.

        They are cut where something is due, so that there are no conditionals in the many updates in between.
        """
        update = partial(self._update, replay=replay)
        periods = (self.updates.sync_policy_every, self.updates.sync_model_every if self.model else 0)

        def cut(carry: tuple) -> tuple:
            done, state, total = carry
            number = state.learner.updates + 1
            state = _sync_policy(state, number % self.updates.sync_policy_every == 0)
            state = self._sync_model(state, number % self.updates.sync_model_every == 0)
            until = [period - number % period for period in periods if period]
            end = jnp.minimum(count, done + jnp.stack(until).min())
            state, total = jax.lax.fori_loop(done, end, partial(_add_update, update, key), (state, total))
            return end, state, total

        carry = jnp.zeros_like(count), state, _zeros_of(update, state, key=key)
        _, state, total = jax.lax.while_loop(lambda carry: carry[0] < count, cut, carry)
        return state, jax.tree.map(lambda a: a / jnp.maximum(count, 1), total)

    def _update(
        self, state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """One update of the learner, and one of the model."""
        value_key, model_key = jax.random.split(key)
        state, metrics = self._train_values(state, replay, value_key)
        if state.model is None:
            return state, metrics
        state, losses = self._train_model(state, replay, model_key)
        return state, {**metrics, **losses}

    def _train_values(
        self, state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        sample_key, imagine_key, update_key = jax.random.split(key, 3)
        batch = sample(replay, sample_key, self.learner.batch_size)
        features, action, targets = self.critic_data(state, batch, imagine_key)
        learner, metrics = self.learner.update(
            state.learner, update_key, features, action, targets.target, targets.weight
        )
        if self.model is not None:
            weights = {f"weight_{i}": weight for i, weight in enumerate(targets.horizon_weights)}
            metrics = {**metrics, "model_use": targets.model_use, **weights}
        return state._replace(learner=learner), metrics

    def _pairs(
        self, batch: Transitions, imagined: Frames, sources: int
    ) -> tuple[Float[Array, "sources particles batch obs"], Float[Array, "sources particles batch action"]]:
        """Where critics are trained: at the real pair, and with the TD-k trick at the imagined ones."""
        if sources == 1:
            return batch.obs[None, None], self.task.to_unit(batch.action)[None, None]
        real = (batch.obs, self.task.to_unit(batch.action))
        repeated = (jnp.broadcast_to(a, (1, *later.shape[1:])) for a, later in zip(real, imagined[:2], strict=True))
        obs, action = (
            jnp.concatenate([first, later[: sources - 1]]) for first, later in zip(repeated, imagined[:2], strict=True)
        )
        return obs, action

    def _train_model(
        self, state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        assert self.model is not None and state.model is not None
        trained, losses = self.model.update(state.model.trained, replay, key)
        return state._replace(model=state.model._replace(trained=trained)), losses

    def _prepared(self, state: ValueExpansionState, replay: Replay) -> ValueExpansionState:
        """With the statistics of the data that the model's updates need."""
        if self.model is None or state.model is None:
            return state
        return state._replace(model=state.model._replace(trained=self.model.prepare(state.model.trained, replay)))

    def _sync_model(self, state: ValueExpansionState, due: Bool[Array, ""]) -> ValueExpansionState:
        """Compute targets with the newest model from now on, if there is one and that is due."""
        if self.model is None or state.model is None:
            return state
        target = _either(due, self.model.params(state.model.trained), state.model.target)
        return state._replace(model=state.model._replace(target=target))


def _zeros_of(update: Any, *args: Any, **given: Any) -> Metrics:
    """Metrics of no update."""
    return jax.tree.map(lambda a: jnp.zeros(a.shape), jax.eval_shape(update, *args, **given)[1])


def _add_update(update: Any, key: Key[Array, ""], number: Int[Array, ""], carry: tuple) -> tuple:
    """The state after one more update, the `number`th of a call, and the metrics' sum."""
    state, total = carry
    state, metrics = update(state, key=jax.random.fold_in(key, number))
    return state, jax.tree.map(jnp.add, total, metrics)


def _sync_policy(state: ValueExpansionState, due: Bool[Array, ""]) -> ValueExpansionState:
    """Act with the newest policy from now on, if that is due."""
    network = _either(due, state.learner.policy, state.acting.network)
    return state._replace(acting=PolicyCopy(network, state.acting.version + due))


def _either(first: Bool[Array, ""], a: Any, b: Any) -> Any:
    """One of two trees. The whole state must not pass through a conditional, which would copy it."""
    return jax.lax.cond(first, lambda: a, lambda: b)
