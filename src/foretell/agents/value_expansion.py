"""DDPG, TD3 and SAC, and what value expansion makes of them: MVE, STEVE and their ablations.

Buckman, Hafner, Tucker, Brevdo, Lee: "Sample-Efficient Reinforcement Learning with Stochastic Ensemble Value
Expansion", NeurIPS 2018. With `expansion.horizon` 0 there is no model: the learner alone.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import model_validator

from foretell import registry
from foretell.agents.base import Agent, Extras, Halves, Metrics, RunSettings
from foretell.agents.updates import (
    Half,
    ModelCopies,
    PolicyCopy,
    Sync,
    Updates,
    ValueExpansionState,
    check_spread,
    due_updates,
    either,
    repeat,
    repeat_with_syncs,
    sync_policy,
)
from foretell.errors import UserError
from foretell.models import Imagination, ModelSections, Params, TrainedModel, TrueModel, build_model
from foretell.models.stale import Validated, train_until_stale
from foretell.registry import register
from foretell.regression.ensemble import Ensemble
from foretell.replay import Replay, Transitions, sample
from foretell.settings import Section
from foretell.tasks import Task
from foretell.values import Expansion, Frames, Targets, candidates, imagine, pairs
from foretell.values.imagined_data import ImaginedData, ImaginedReplay
from foretell.values.learners import Learner, LearnerState, Visits, standardized

_PRETRAINING_BLOCK = 500
"""Model updates per call of `learn` before the agent acts: enough to be fast, few enough to show progress."""


@register("agent", "value-expansion")
class ValueExpansionSettings(ModelSections, RunSettings):
    """Everything a preset of DDPG, TD3, SAC, MVE or STEVE may set.

    The sections of the model are not used where nothing imagines: `expansion.horizon` is 0, and there is no
    `imagined_data`.
    """

    agent: str = "value-expansion"
    imagination: Imagination = Imagination(particles=None)
    reward_model: Ensemble | None = None
    learner: Annotated[Learner, Section("learner", "ddpg")]
    """The actor-critic learner."""
    expansion: Expansion
    updates: Updates = Updates()
    imagined_data: ImaginedData | None = None
    """Train the learner on imagined transitions in addition to real ones; null: on real ones only."""

    @property
    def needs_data(self) -> bool:
        return not self.updates.learner_after

    @property
    def imagines(self) -> bool:
        """Whether there is a world model."""
        return bool(self.expansion.horizon or self.imagined_data or self.updates.always_model)

    @property
    def _stops_early(self) -> bool:
        return bool(getattr(self.fit, "early_stopping", False))

    @model_validator(mode="after")
    def _check(self) -> "ValueExpansionSettings":
        steps = self.train.steps_per_learning
        if steps is None:
            raise ValueError(f"train.steps_per_learning must be given: '{self.agent}' learns within episodes")
        if self.imagined_data is not None:
            self.imagined_data.check(steps)
        if self._stops_early and self.updates.model_per_step is None:
            raise ValueError("fit.early_stopping needs updates.model_per_step: updates of the model on their own")
        if getattr(self.fit, "significance", None) is not None:
            raise ValueError(f"fit.significance must be null: '{self.agent}' does not keep the best weights")
        if self.imagines and not self.model.trains_stepwise:
            raise ValueError(
                f"model.kind={self.model.kind} cannot be trained by single gradient steps, as '{self.agent}' does; "
                f"choose one of: {', '.join(_stepwise_kinds())}"
            )
        return self

    def build(self, task: Task) -> "ValueExpansion":
        model = build_model(task, self) if self.imagines else None
        if model is not None and self.expansion.horizon:
            opinions = 1 if task.reward or self.reward_model else getattr(self.model, "reward_members", 1)
            check_spread(self.expansion.reduction, model.particles * opinions * self.learner.critics)
        if isinstance(model, TrueModel) and task.restore is None:
            raise UserError(
                f"model.kind=true-model cannot imagine from past observations of '{task.spec.env_id}', which do not "
                f"determine the simulator's state; choose one of: {', '.join(_stepwise_kinds(learned=True))}"
            )
        imagined = None
        if self.imagined_data is not None and model is not None:
            room = self.train.steps_per_learning or 1, self.train.capacity
            imagined = ImaginedReplay(self.imagined_data, task, model, self.learner, *room)
        return ValueExpansion(task, self.learner, model, self.expansion, self.updates, imagined, self._stops_early)


def _stepwise_kinds(*, learned: bool = False) -> list[str]:
    """The kinds of models that single gradient steps train, or only those that learn."""
    kinds = registry.kinds("model").items()
    return [kind for kind, model in kinds if model.trains_stepwise and (model.needs_data or not learned)]


@dataclass(frozen=True)
class ValueExpansion(Agent):
    """An actor-critic learner whose targets look ahead in imagination."""

    task: Task
    learner: Learner
    model: TrainedModel | None
    expansion: Expansion
    updates: Updates
    imagined: ImaginedReplay | None = None
    stops_early: bool = False
    """Whether the model is trained in epochs until the loss on held-out rows no longer falls."""
    trains: frozenset[Half] = frozenset(("values", "model"))
    """What `learn` trains; of the rest it counts the updates that are due."""

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
        zero, none = jnp.int32(0), jnp.zeros(())
        acting = PolicyCopy(learner.policy, self.learner.explorer(learner), zero)
        imagined = None if self.imagined is None else self.imagined.init()
        return ValueExpansionState(learner, model, acting, zero, none, none, imagined)

    def halves(self) -> Halves:
        def half(*names: Half) -> "ValueExpansion":
            return replace(self, trains=frozenset(names))

        values, model = (half("values"), half("model")) if self._model_learns else (self, None)
        return Halves(values, model, half())

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
        network = params.explorer if explore and params.explorer is not None else params.network
        action = self.learner.act(network, self.task.features(obs), key, explore=explore)
        return self.task.from_unit(action), carry, {"policy_version": jnp.broadcast_to(params.version, len(obs))}

    def learn(
        self, state: ValueExpansionState, data: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """Before the agent acts, train the model alone; afterwards make the updates that are due for the new steps.

        Metrics are means over the updates, of which there were `gradient_steps`.
        """
        pretrain_key, update_key = jax.random.split(key)
        updates, acting, left = self.updates, state.calls >= self.pretraining, _PRETRAINING_BLOCK * state.calls
        may, model_may = (acting & (data.size >= size) for size in (updates.learner_after, updates.model_after))
        credit, due = due_updates(state.credit, updates.per_step, data.new, may)
        model_credit, model_due = due_updates(state.model_credit, updates.model_per_step or 0.0, data.new, model_may)
        state = state._replace(calls=state.calls + 1, credit=credit, model_credit=model_credit)
        state = self._prepared(state, data)
        metrics: Metrics = {}
        trained = jnp.zeros((), jnp.int32)
        if self._model_learns:
            trained = jnp.where(acting, model_due, jnp.clip(updates.pretraining - left, 0, _PRETRAINING_BLOCK))
            state, metrics = self._train_model_alone(trained, state, data, pretrain_key)
        state = sync_policy(state, self.learner, first := state.calls == self.pretraining)
        state = self._sync_model(state, first | (self.updates.sync_model_every is None))
        state, updated = self._make_updates(due, state, data, update_key)
        metrics |= {name: value + metrics.get(name, 0.0) for name, value in updated.items()}
        if self.imagined is not None and "values" in self.trains:
            count = jnp.floor(self.imagined.settings.ratio * due).astype(jnp.int32)
            state, imagined = self._learn_from_imagined(count, state, data, jax.random.fold_in(key, 2))
            metrics |= {f"imagined_{name}": value for name, value in imagined.items() if name.endswith("loss")}
            skips = metrics["value_skipped"] * due + imagined["value_skipped"] * count
            due += count
            metrics["value_skipped"] = skips / jnp.maximum(due, 1)
        if updates.sync_policy_every is None:
            state = sync_policy(state, self.learner, jnp.ones((), bool))
        skipped = metrics.pop("value_skipped", 0.0) * due
        skipped += metrics.pop("model_skipped", 0.0) * jnp.maximum(due, trained)
        counts = {"gradient_steps": due + trained, "skipped_steps": skipped, "policy_version": state.acting.version}
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
            particles=self.model.particles if self.model and self.expansion.horizon else 1,
            act=act,
            value=lambda obs, action, bonus: self.learner.target_values(learner, features(obs), action, bonus),
            ends=self.expansion.ends == "model",
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
        Float[Array, "sources particles batch features"],
        Float[Array, "sources particles batch action"],
        Targets,
        Visits | None,
    ]:
        """What critics learn from a batch: features and actions of real and imagined pairs, their targets, and visits.

        The visits, with the TD-k trick, are for learners with a state-value function.
        """
        imagined = self.expand(key, state.learner, self.model_params(state), batch)
        targets = self.expansion.targets(imagined, self.learner.discount, self.learner.reward_scale)
        obs, action = pairs(batch.obs, self.task.to_unit(batch.action), imagined, len(targets.target))
        visits = self.expansion.visits(imagined, self.task.features(imagined.obs))
        return self.task.features(obs), action, targets, visits

    def _make_updates(
        self, count: Int[Array, ""], state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """So many updates of learner and model, and the copies that are due between them."""
        learner, policy_every, model_every = self.learner, self.updates.sync_policy_every, self.updates.sync_model_every
        syncs: list[Sync] = []
        if policy_every is not None:
            syncs.append((policy_every, lambda state, due: sync_policy(state, learner, due)))
        if model_every is not None and self.model is not None:
            syncs.append((model_every, self._sync_model))
        update = partial(self._update, replay=replay)
        return repeat_with_syncs(count, update, state, key, state.learner.updates, syncs)

    def _learn_from_imagined(
        self, count: Int[Array, ""], state: ValueExpansionState, data: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """Imagine what the policy does from replayed observations, and make so many updates of the learner by it."""
        assert self.imagined is not None and state.imagined is not None
        imagine_key, update_key = jax.random.split(key)
        params, policy = self.model_params(state), state.learner.policy
        imagined = self.imagined.renew(imagine_key, state.imagined, data, params, policy, count > 0)
        update = partial(self._train_values, replay=imagined)
        return repeat(count, update, state._replace(imagined=imagined), update_key)

    def _update(
        self, state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """One update of the learner, and one of the model unless those are apart."""
        value_key, model_key = jax.random.split(key)
        state, metrics = self._train_values(state, replay, value_key)
        if state.model is None or self.updates.model_per_step is not None or "model" not in self.trains:
            return state, metrics
        state, losses = self._train_model(state, replay, model_key)
        return state, {**metrics, **losses}

    def _train_values(
        self, state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        if "values" not in self.trains:
            return state._replace(learner=state.learner._replace(updates=state.learner.updates + 1)), {}
        sample_key, imagine_key, update_key = jax.random.split(key, 3)
        batch = sample(replay, sample_key, self.learner.batch_size)
        features, action, targets, visits = self.critic_data(state, batch, imagine_key)
        learner, metrics = self.learner.update(
            state.learner, update_key, features, action, targets.target, targets.weight, visits=visits
        )
        if self.expansion.horizon:
            weights = {f"weight_{i}": weight for i, weight in enumerate(targets.horizon_weights)}
            metrics = {**metrics, "model_use": targets.model_use, **weights}
        return state._replace(learner=learner), metrics

    def _train_model_alone(
        self, count: Int[Array, ""], state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """So many updates of the model, or epochs of so many until the loss on held-out rows no longer falls."""
        if "model" not in self.trains:
            return state, {}
        if not self.stops_early:
            return repeat(count, partial(self._train_model, replay=replay), state, key)
        assert state.model is not None
        online, metrics = train_until_stale(cast(Validated, self.model), state.model.online, replay, key, count)
        return state._replace(model=state.model._replace(online=online)), metrics

    def _train_model(
        self, state: ValueExpansionState, replay: Replay, key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        assert self.model is not None and state.model is not None
        online, losses = self.model.update(state.model.online, replay, key)
        return state._replace(model=state.model._replace(online=online)), losses

    def _prepared(self, state: ValueExpansionState, replay: Replay) -> ValueExpansionState:
        """With the statistics of the data that updates of learner and model need."""
        if "values" in self.trains:
            state = state._replace(learner=standardized(state.learner, replay, self.task.features))
        if self.model is None or state.model is None or "model" not in self.trains:
            return state
        return state._replace(model=state.model._replace(online=self.model.prepare(state.model.online, replay)))

    def _sync_model(self, state: ValueExpansionState, due: Bool[Array, ""]) -> ValueExpansionState:
        """Compute targets with the newest model from now on, if there is one and that is due."""
        if self.model is None or state.model is None:
            return state
        newest = self.model.params(state.model.online) if "model" in self.trains else state.model.online
        return state._replace(model=state.model._replace(target=either(due, newest, state.model.target)))
