"""DDPG, TD3 and SAC, and what value expansion makes of them: MVE, STEVE and their ablations.

Buckman, Hafner, Tucker, Brevdo, Lee: "Sample-Efficient Reinforcement Learning with Stochastic Ensemble Value
Expansion", NeurIPS 2018. With `expansion.horizon` 0 there is no model: the learner alone.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from foretell.agents.base import Metrics, RunSettings
from foretell.nn import MLP
from foretell.replay import Replay, Transitions, sample
from foretell.settings import Settings
from foretell.tasks import Task
from foretell.values import Expansion, Rollout, candidates, rollout
from foretell.values.learners import AnyLearner, Learner, LearnerState
from foretell.worldmodel import NeuralSimulator, SimulatorSettings, SimulatorState

_PRETRAINING_BLOCK = 500
"""Model updates per call of `learn` before the agent acts: enough to be fast, few enough to show progress."""


class Updates(Settings):
    """When what is learned is learned and used. The defaults are the released STEVE's."""

    per_step: PositiveFloat = 4.0
    """Updates of the learner, and of the model, per environment step."""
    pretraining: NonNegativeInt = 10_000
    """Updates of the model before the agent acts, on random data alone."""
    publish_every: PositiveInt = 500
    """Let the newest policy act every so many updates, before update `u`, counted from 0, where `u + 1` is a multiple
    of it."""
    refresh_every: PositiveInt = 500
    """Likewise, compute targets with the newest model."""


class ValueExpansionSettings(RunSettings):
    """Everything a preset of DDPG, TD3, SAC, MVE or STEVE may set."""

    agent: Literal["value-expansion"] = "value-expansion"
    learner: AnyLearner
    simulator: SimulatorSettings = SimulatorSettings()
    """The model; not used where `expansion.horizon` is 0."""
    expansion: Expansion
    updates: Updates = Updates()

    @model_validator(mode="after")
    def _check(self) -> "ValueExpansionSettings":
        if self.train.steps_per_learning is None:
            raise ValueError(f"train.steps_per_learning must be given: '{self.agent}' learns within episodes")
        return self

    def build(self, task: Task) -> "ValueExpansion":
        simulator = NeuralSimulator(task, self.simulator) if self.expansion.horizon else None
        return ValueExpansion(task, self.learner, simulator, self.expansion, self.updates)


class ModelState(NamedTuple):
    """The model that is trained, and the copy of it that targets are computed with."""

    trained: SimulatorState
    used: SimulatorState
    opt: Any


class ValueExpansionState(NamedTuple):
    """What was learned, and how often."""

    learner: LearnerState
    model: ModelState | None
    published: MLP
    """The policy that acts."""
    epoch: Int[Array, ""]
    """Times a policy was published."""
    calls: Int[Array, ""]
    """Calls of `learn`."""
    credit: Float[Array, ""]
    """Fraction of an update that is due for steps already seen."""


@dataclass(frozen=True)
class ValueExpansion:
    """An actor-critic learner whose targets look ahead in imagination."""

    task: Task
    learner: Learner
    simulator: NeuralSimulator | None
    expansion: Expansion
    updates: Updates

    @property
    def pretraining(self) -> int:
        """Calls of `learn` before it acts."""
        return max(1, math.ceil(self.updates.pretraining / _PRETRAINING_BLOCK)) if self.simulator else 1

    def epoch(self, state: ValueExpansionState) -> Int[Array, ""]:
        """Times a policy was published."""
        return state.epoch

    def init(self, key: Key[Array, ""]) -> ValueExpansionState:
        learner_key, model_key = jax.random.split(key)
        learner = self.learner.init(learner_key, self.task.feature_size, self.task.spec.action_size)
        model = None
        if self.simulator is not None:
            networks = self.simulator.init(model_key)
            model = ModelState(networks, networks, self.simulator.start(networks))
        zero = jnp.zeros((), jnp.int32)
        return ValueExpansionState(learner, model, learner.policy, zero, zero, jnp.zeros(()))

    def start(self, batch: int) -> tuple[()]:
        """It remembers nothing within an episode."""
        return ()

    def act(
        self,
        state: ValueExpansionState,
        memory: tuple[()],
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], tuple[()]]:
        """Actions of the published policy."""
        action = self.learner.act(state.published, self.task.features(obs), key, explore=explore)
        return self.task.from_unit(action), memory

    def learn(
        self, state: ValueExpansionState, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[ValueExpansionState, Metrics]:
        """Before the agent acts, train the model alone; afterwards make the updates that are due for `new` steps.

        Metrics are means over the updates, of which there were `gradient_steps` and `model_steps`.
        """
        pretrain_key, update_key = jax.random.split(key)
        acting = state.calls >= self.pretraining
        total = state.credit + self.updates.per_step * new * acting
        due = jnp.floor(total).astype(jnp.int32)
        state = state._replace(calls=state.calls + 1, credit=total - due)
        metrics: Metrics = {}
        pretrained = jnp.zeros((), jnp.int32)
        if self.simulator is not None:
            left = self.updates.pretraining - _PRETRAINING_BLOCK * (state.calls - 1)
            pretrained = jnp.where(acting, 0, jnp.clip(left, 0, _PRETRAINING_BLOCK))
            state, metrics = self._repeat(pretrained, self._train_model, state, replay, pretrain_key)
        release = state.calls == self.pretraining
        state = _refresh(_publish(state, release), release)
        state, updated = self._make_updates(due, state, replay, update_key)
        metrics = {name: value + metrics.get(name, 0.0) for name, value in updated.items()}
        skipped = metrics.pop("value_skipped") * due
        if self.simulator is not None:
            skipped += metrics.pop("model_skipped") * jnp.maximum(due, pretrained)
        counts = {"gradient_steps": due + pretrained, "skipped_steps": skipped, "epoch": state.epoch}
        return state, {**metrics, **{name: jnp.float32(value) for name, value in counts.items()}}

    def expand(
        self, key: Key[Array, ""], learner: LearnerState, model: SimulatorState | None, batch: Transitions
    ) -> Rollout:
        """Follow the policy in imagination from where real transitions led."""
        features, simulator = self.task.features, self.simulator

        def step(obs: Array, action: Array) -> tuple[Array, Array, Array]:
            assert simulator is not None and model is not None
            return simulator.step(model, obs, self.task.from_unit(action))

        return rollout(
            key,
            self.expansion.horizon,
            simulator.settings.members if simulator else 1,
            batch.reward,
            batch.next_obs,
            batch.terminated,
            act=lambda key, obs: self.learner.propose(learner, features(obs), key),
            step=step,
            value=lambda obs, action: self.learner.values(learner.target_critics, features(obs), action),
        )

    def horizon_weights(
        self, state: ValueExpansionState, batch: Transitions, key: Key[Array, ""]
    ) -> Float[Array, "frames batch"]:
        """The weight of every horizon in the target of each real transition."""
        imagined = self.expand(key, state.learner, state.model.used if state.model else None, batch)
        rows = candidates(imagined, discount=self.learner.discount, reward_scale=self.learner.reward_scale, sources=1)
        return self.expansion.reduce(rows[0])[1]

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
        periods = (self.updates.publish_every, self.updates.refresh_every if self.simulator else 0)

        def cut(carry: tuple) -> tuple:
            done, state, total = carry
            number = state.learner.updates + 1
            state = _publish(state, number % self.updates.publish_every == 0)
            state = _refresh(state, number % self.updates.refresh_every == 0)
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
        imagined = self.expand(imagine_key, state.learner, state.model.used if state.model else None, batch)
        targets = self.expansion.targets(imagined, self.learner.discount, self.learner.reward_scale)
        obs, action = self._pairs(batch, imagined, len(targets.target))
        features = self.task.features(obs)
        learner, metrics = self.learner.update(
            state.learner, update_key, features, action, targets.target, targets.weight
        )
        if self.simulator is not None:
            weights = {f"weight_{i}": weight for i, weight in enumerate(targets.horizon_weights)}
            metrics = {**metrics, "model_use": targets.model_use, **weights}
        return state._replace(learner=learner), metrics

    def _pairs(
        self, batch: Transitions, imagined: Rollout, sources: int
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
        assert self.simulator is not None and state.model is not None
        sample_key, update_key = jax.random.split(key)
        batch = sample(replay, sample_key, self.simulator.settings.batch_size)
        trained, opt, losses = self.simulator.update(update_key, state.model.trained, state.model.opt, batch)
        return state._replace(model=state.model._replace(trained=trained, opt=opt)), losses


def _zeros_of(update: Any, *args: Any, **given: Any) -> Metrics:
    """Metrics of no update."""
    return jax.tree.map(lambda a: jnp.zeros(a.shape), jax.eval_shape(update, *args, **given)[1])


def _add_update(update: Any, key: Key[Array, ""], number: Int[Array, ""], carry: tuple) -> tuple:
    """The state after one more update, the `number`th of a call, and the metrics' sum."""
    state, total = carry
    state, metrics = update(state, key=jax.random.fold_in(key, number))
    return state, jax.tree.map(jnp.add, total, metrics)


def _publish(state: ValueExpansionState, due: Bool[Array, ""]) -> ValueExpansionState:
    """Act with the newest policy from now on, if that is due."""
    published = _either(due, state.learner.policy, state.published)
    return state._replace(published=published, epoch=state.epoch + due)


def _refresh(state: ValueExpansionState, due: Bool[Array, ""]) -> ValueExpansionState:
    """Imagine with the newest model from now on, if there is one and that is due."""
    if state.model is None:
        return state
    return state._replace(model=state.model._replace(used=_either(due, state.model.trained, state.model.used)))


def _either(first: Bool[Array, ""], a: Any, b: Any) -> Any:
    """One of two trees. The whole state must not pass through a conditional, which would copy it."""
    return jax.lax.cond(first, lambda: a, lambda: b)
