"""A world model that is a regression: an ensemble or a Gaussian process from observation and action to what changes.

Chua et al. 2018 (PETS), section 4; Nagabandi et al. 2018 (MB-MPC), section IV.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell import registry
from foretell.models.base import Metrics, ModelDefaults, Step, TrainedModel
from foretell.models.noise import hashed_normal
from foretell.models.propagation import MATCHING_STREAM, Noise, Propagated, Propagation, rematch
from foretell.models.settings import Imagination, ModelSettings, Unknown
from foretell.models.supervised import fit_rows, step_rows, validation_loss
from foretell.models.unchanging import Unchanging, unknown_columns
from foretell.registry import register
from foretell.regression.divergence import disagreement
from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Fit
from foretell.regression.gp import GP, GPFit
from foretell.regression.prediction import Prediction, Predictor, Rows, mean_square_error
from foretell.replay import Replay, Transitions
from foretell.tasks.base import Task

_PARTICLES = 20
"""The paper's number of particles."""

register("fit", "adam")(Fit)
register("fit", "lbfgs")(GPFit)


class RegressionSettings(ModelSettings):
    """What ensembles and Gaussian processes share."""

    def check(self, fit: Any, imagination: Imagination) -> None:
        """Raises `ValueError` where the model does not go with the propagation (the rules of the released PETS)."""
        regressor: Any = self
        name, members = imagination.propagation, regressor.serving
        if name.startswith("TS") and members < 2:
            raise ValueError(
                f"imagination.propagation={name} needs a model of several networks, not {regressor.name}; "
                f"choose one of: {'E' if regressor.name == 'D' else 'E, DS, MM'}"
            )
        if regressor.name == "D" and name != "E":
            raise ValueError(
                f"imagination.propagation={name} needs a model with uncertainty, which D does not have; choose E"
            )
        if name == "E" and imagination.particles not in (1, None):
            raise ValueError(
                f"imagination.propagation=E has one particle, not {imagination.particles}; set imagination.particles=1"
            )
        count = particles_of(imagination, members)
        if name == "MM" and count == 1:
            raise ValueError("imagination.propagation=MM needs several particles to match, not 1")
        if name in ("TS1", "TSinf") and count % members:
            near = max(1, round(count / members)) * members
            which = "members" if members == regressor.members else "elites"
            raise ValueError(
                f"imagination.particles ({imagination.particles}) must be a multiple of model.{which} ({members}) "
                f"with {name}; the nearest is {near}"
            )

    def build(self, task: Task, *, fit: Any, imagination: Imagination, unknown: Unknown) -> TrainedModel:
        return LearnedModel(task, self, fit, imagination, unknown)


@register("model", "ensemble")
class EnsembleModel(Ensemble, RegressionSettings):
    """An ensemble of networks, probabilistic (PE, P) or deterministic (DE, D)."""

    trains_stepwise = True

    kind: str = "ensemble"

    def check(self, fit: Any, imagination: Imagination) -> None:
        if fit.kind != "adam":
            raise ValueError(f"model.kind=ensemble is trained with fit.kind=adam, not {fit.kind}")
        if self.elites is not None and fit.snapshots != "member":
            raise ValueError("model.elites needs fit.snapshots=member: the error of each member on held-out rows")
        self.check_batches("fit", fit.batch_size)
        super().check(fit, imagination)


@register("model", "gp")
class GPModel(GP, RegressionSettings):
    """A sparse Gaussian process."""

    predicts_termination = False

    kind: str = "gp"

    def check(self, fit: Any, imagination: Imagination) -> None:
        if fit.kind != "lbfgs":
            raise ValueError(f"model.kind=gp is trained with fit.kind=lbfgs, not {fit.kind}")
        super().check(fit, imagination)


class DrawnNoise(NamedTuple):
    """The noise of a step, or of all steps of a rollout with a leading time axis."""

    key: Key[Array, "*time"]
    """For all noise that was not drawn."""
    normals: Float[Array, "*time particles _rows out"] | None
    """One for each output."""


class LearnedState(NamedTuple):
    """What was learned, and what training carries on."""

    regressor: Any
    training: Any
    columns: Unchanging | None = None
    """What is known of the columns of observations; None: nothing."""


class LearnedParams(NamedTuple):
    """What imagination needs of these."""

    regressor: Any
    columns: Unchanging | None


@dataclass(frozen=True)
class LearnedModel(ModelDefaults):
    """Dynamics learned by regression; reward and termination are known, or further outputs of the same regression.

    Its carry is the observation of every particle. Which member a particle follows is its place among the particles.
    """

    task: Task
    regressor: Any
    """An `Ensemble`, or a `GP`."""
    training: Any
    """A `Fit`, or a `GPFit`: the one that goes with the regressor."""
    imagination: Imagination
    unknown: Unknown

    @property
    def particles(self) -> int:
        return particles_of(self.imagination, self.regressor.serving)

    @property
    def followed(self) -> int:
        return self.regressor.serving if self.imagination.propagation == "TSinf" else 1

    def init(self, key: Key[Array, ""]) -> LearnedState:
        task = self.task
        sizes = (task.feature_size + task.spec.action_size, task.target_size + self.unknown.reward)
        regressor = self.regressor.init(key, *sizes, int(self.unknown.termination))
        return LearnedState(regressor, self.training.start(regressor), unknown_columns(task.spec.obs_size))

    def params(self, state: LearnedState) -> LearnedParams:
        return LearnedParams(self.regressor.ready(state.regressor), state.columns)

    def step(
        self,
        params: LearnedParams,
        carry: Float[Array, "particles batch obs"],
        action: Float[Array, "particles batch action"],
        key: Key[Array, ""] | DrawnNoise,
    ) -> tuple[Float[Array, "particles batch obs"], Step]:
        """One step; its noise follows from a key, or is one step of what `noise` has drawn."""
        drawn = key if isinstance(key, DrawnNoise) else DrawnNoise(key, None)
        task, noise = self.task, Noise(drawn.key, self.imagination.shared_noise, drawn.normals)
        inputs = inputs_of(task, carry, action)
        outputs, flags = self._propagate(self._predictor(params), inputs, noise)
        next_obs = task.advance(carry, outputs[..., : task.target_size])
        if self._matches_state:
            next_obs = rematch(next_obs, noise.normals(next_obs.shape, MATCHING_STREAM))
        if params.columns is not None:
            next_obs = params.columns.keep(carry, next_obs)
        learned = outputs[..., -1] if self.unknown.reward else None
        ends = flags[..., 0] if self.unknown.termination else None
        return next_obs, known_step(task, carry, action, next_obs, learned, ends)

    def noise(self, key: Key[Array, ""], horizon: int, particles: int, batch: int) -> DrawnNoise:
        """The noise of a whole rollout, time first."""
        draw_key, step_key = jax.random.split(key)
        size = self.task.target_size + self.unknown.reward
        shape = (horizon, particles, 1 if self.imagination.shared_noise else batch, size)
        normals = None if self.imagination.propagation == "E" else hashed_normal(draw_key, shape)
        return DrawnNoise(jax.random.split(step_key, horizon), normals)

    def rows(self, data: Transitions) -> Rows:
        """The regression problem that transitions pose; they may have any leading axes."""
        y = self.task.target(data.obs, data.next_obs)
        if self.unknown.reward:
            y = jnp.concatenate([y, data.reward[..., None]], -1)
        ends = data.terminated[..., None]
        return Rows(inputs_of(self.task, data.obs, data.action), y, ends[..., : int(self.unknown.termination)])

    def fit(self, state: LearnedState, replay: Replay, key: Key[Array, ""]) -> tuple[LearnedState, Metrics]:
        rows = self.rows(replay.data)
        actions = action_columns(self.task)
        fitted = fit_rows(key, self.training, self.regressor, state.regressor, state.training, rows, replay, actions)
        columns = None if state.columns is None else state.columns.after(replay)
        return LearnedState(fitted.state, fitted.carried, columns), fitted.metrics

    def prepare(self, state: LearnedState, replay: Replay) -> LearnedState:
        rows = self.rows(replay.data)
        regressor = self.training.standardized(self.regressor, state.regressor, state.training, rows, replay.valid)
        columns = None if state.columns is None else state.columns.after(replay)
        return state._replace(regressor=regressor, columns=columns)

    def update(self, state: LearnedState, replay: Replay, key: Key[Array, ""]) -> tuple[LearnedState, Metrics]:
        fitted = step_rows(key, self.training, self.regressor, state.regressor, state.training, self.rows, replay)
        return LearnedState(fitted.state, fitted.carried, state.columns), fitted.metrics

    def validation_loss(self, state: LearnedState, replay: Replay, key: Key[Array, ""]) -> Float[Array, ""]:
        """An ensemble's error on held-out rows; see `foretell.models.supervised.validation_loss`."""
        return validation_loss(key, self.training, self.regressor, state.regressor, self.rows, replay)

    def error(self, params: LearnedParams, data: Transitions, weight: Float[Array, "rows"]) -> Float[Array, ""]:
        return mean_square_error(self._predictor(params), self.regressor.serving, self.rows(data), weight)

    def disagreement(
        self, params: LearnedParams, obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"]
    ) -> Float[Array, "*rows"]:
        """How far the networks of an ensemble disagree on a step, see `foretell.regression.divergence`."""
        x = inputs_of(self.task, obs, action).reshape(-1, self.task.feature_size + self.task.spec.action_size)
        found = self.regressor.predictor(params.regressor)(jnp.broadcast_to(x, (self.regressor.serving, *x.shape)))
        return disagreement(found).reshape(obs.shape[:-1])

    def _predictor(self, params: LearnedParams) -> Predictor:
        predictor = self.regressor.predictor(params.regressor)
        return _certain(predictor) if self.imagination.ignore_variance else predictor

    def _propagate(self, predictor: Predictor, inputs: Float[Array, "particles batch in"], noise: Noise) -> Propagated:
        name, ignored = self.imagination.propagation, self.imagination.ignore_variance
        name = "E" if ignored and name in ("DS", "MM") else "DS" if self._matches_state else name
        propagation: Propagation = registry.find("propagation", name)
        return propagation(predictor, self.regressor.serving, inputs, noise)

    @property
    def _matches_state(self) -> bool:
        wanted = self.imagination.propagation == "MM" and self.imagination.moment_matching == "state"
        return wanted and not self.imagination.ignore_variance


def particles_of(imagination: Imagination, members: int) -> int:
    """Particles of each candidate."""
    if imagination.particles is not None:
        return imagination.particles
    return 1 if imagination.propagation == "E" else -(-_PARTICLES // members) * members


def inputs_of(
    task: Task, obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"]
) -> Float[Array, "*rows in"]:
    """What networks see of an observation and an action."""
    return jnp.concatenate([task.features(obs), action], -1)


def action_columns(task: Task) -> slice:
    """Where the actions are in `inputs_of`."""
    return slice(task.feature_size, task.feature_size + task.spec.action_size)


def known_step(
    task: Task,
    obs: Float[Array, "particles batch obs"],
    action: Float[Array, "particles batch action"],
    next_obs: Float[Array, "particles batch obs"],
    reward: Float[Array, "particles batch"] | None = None,
    terminated: Float[Array, "particles batch"] | None = None,
) -> Step:
    """A step whose reward and termination are the task's where it knows them, else as given, else 0."""
    none = jnp.zeros(obs.shape[:2])
    if task.reward is not None:
        reward = task.reward(obs, action, next_obs)
    if task.terminated is not None:
        terminated = 1.0 * task.terminated(obs, action, next_obs)
    return Step(next_obs, (none if reward is None else reward)[None], none if terminated is None else terminated)


def _certain(predictor: Predictor) -> Predictor:
    """The same means, without variance."""

    def means(x: Float[Array, "members rows in"]) -> Prediction:
        prediction = predictor(x)
        return prediction._replace(variance=jnp.zeros_like(prediction.variance))

    return means
