"""Reward and termination learned apart from the dynamics, by a small ensemble of their own.

They are predicted from the observations on both sides of a step: mostly they are simple functions of where a step has
led, which need not be learned together with how it led there. So any model of the dynamics goes with them.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell.models.base import Carry, Disagrees, Metrics, ModelState, Params, Step, TrainedModel, noise_of
from foretell.models.learned import action_columns, inputs_of, known_step
from foretell.models.propagation import everyone
from foretell.models.settings import Unknown
from foretell.models.stale import Validated
from foretell.models.supervised import fit_rows, step_rows
from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Fit
from foretell.regression.prediction import Rows
from foretell.replay import Replay, Transitions
from foretell.tasks.base import Task


class RewardState(NamedTuple):
    """The model of the dynamics, the reward model, and what the latter's training carries on."""

    dynamics: ModelState
    networks: Any
    training: Any


class RewardParams(NamedTuple):
    """What imagination needs of both."""

    dynamics: Params
    networks: Any


class RewardCarry(NamedTuple):
    """What the model of the dynamics carries, and the observation it has come to."""

    dynamics: Carry
    obs: Float[Array, "particles batch obs"]


@dataclass(frozen=True)
class WithRewardModel:
    """A world model whose reward and termination, where the task does not know them, are an ensemble's mean."""

    task: Task
    dynamics: TrainedModel
    networks: Ensemble
    training: Fit
    unknown: Unknown

    @property
    def needs_data(self) -> bool:
        return True

    @property
    def particles(self) -> int:
        return self.dynamics.particles

    @property
    def followed(self) -> int:
        return getattr(self.dynamics, "followed", 1)

    def init(self, key: Key[Array, ""]) -> RewardState:
        task, unknown = self.task, self.unknown
        in_size = 2 * task.feature_size + task.spec.action_size
        networks = self.networks.init(_own_key(key), in_size, int(unknown.reward), int(unknown.termination))
        return RewardState(self.dynamics.init(key), networks, self.training.start(networks))

    def params(self, state: RewardState) -> RewardParams:
        return RewardParams(self.dynamics.params(state.dynamics), self.networks.ready(state.networks))

    def begin(
        self, params: RewardParams, obs: Float[Array, "batch obs"], key: Key[Array, ""], particles: int
    ) -> RewardCarry:
        carry = self.dynamics.begin(params.dynamics, obs, key, particles)
        return RewardCarry(carry, jnp.broadcast_to(obs, (particles, *obs.shape)))

    def step(
        self,
        params: RewardParams,
        carry: RewardCarry,
        action: Float[Array, "particles batch action"],
        key: Any,
    ) -> tuple[RewardCarry, Step]:
        inner, step = self.dynamics.step(params.dynamics, carry.dynamics, action, key)
        x = jnp.concatenate([inputs_of(self.task, carry.obs, action), self.task.features(step.obs)], -1)
        mean, _, logits = everyone(self.networks.predictor(params.networks), self.networks.serving, x)
        reward = mean[..., 0].mean(0) if self.unknown.reward else None
        ends = jax.nn.sigmoid(logits[..., 0]).mean(0) if self.unknown.termination else None
        return RewardCarry(inner, step.obs), known_step(self.task, carry.obs, action, step.obs, reward, ends)

    def noise(self, key: Key[Array, ""], horizon: int, particles: int, batch: int) -> Any:
        return noise_of(self.dynamics, key, horizon, particles, batch)

    def rows(self, data: Transitions) -> Rows:
        """The regression problem that unknown rewards and terminations pose; any leading axes."""
        x = jnp.concatenate([inputs_of(self.task, data.obs, data.action), self.task.features(data.next_obs)], -1)
        reward, ends = data.reward[..., None], data.terminated[..., None]
        return Rows(x, reward[..., : int(self.unknown.reward)], ends[..., : int(self.unknown.termination)])

    def fit(self, state: RewardState, replay: Replay, key: Key[Array, ""]) -> tuple[RewardState, Metrics]:
        dynamics, metrics = self.dynamics.fit(state.dynamics, replay, key)
        rows = self.rows(replay.data)
        actions = action_columns(self.task)
        own = _own_key(key)
        fitted = fit_rows(own, self.training, self.networks, state.networks, state.training, rows, replay, actions)
        metrics |= {f"reward_model_{name}": value for name, value in fitted.metrics.items()}
        return RewardState(dynamics, fitted.state, fitted.carried), metrics

    def prepare(self, state: RewardState, replay: Replay) -> RewardState:
        rows = self.rows(replay.data)
        networks = self.training.standardized(self.networks, state.networks, state.training, rows, replay.valid)
        return state._replace(dynamics=self.dynamics.prepare(state.dynamics, replay), networks=networks)

    def update(self, state: RewardState, replay: Replay, key: Key[Array, ""]) -> tuple[RewardState, Metrics]:
        dynamics, metrics = self.dynamics.update(state.dynamics, replay, key)
        own = _own_key(key)
        fitted = step_rows(own, self.training, self.networks, state.networks, state.training, self.rows, replay)
        metrics["reward_model_loss"] = fitted.metrics["model_loss"]
        metrics["model_skipped"] = jnp.maximum(metrics.get("model_skipped", 0.0), fitted.metrics["model_skipped"])
        return RewardState(dynamics, fitted.state, fitted.carried), metrics

    def validation_loss(self, state: RewardState, replay: Replay, key: Key[Array, ""]) -> Float[Array, ""]:
        """That of the dynamics."""
        return cast(Validated, self.dynamics).validation_loss(state.dynamics, replay, key)

    def disagreement(
        self, params: RewardParams, obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"]
    ) -> Float[Array, "*rows"]:
        """That of the dynamics."""
        return cast(Disagrees, self.dynamics).disagreement(params.dynamics, obs, action)

    def error(self, params: RewardParams, data: Transitions, weight: Float[Array, "rows"]) -> Float[Array, ""]:
        return self.dynamics.error(params.dynamics, data, weight)


def _own_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """A key that is none of those that splitting `key` gives: `fold_in(key, i)` is `split(key, n)[i]` for i < n."""
    return jax.random.fold_in(key, 2**31 - 1)
