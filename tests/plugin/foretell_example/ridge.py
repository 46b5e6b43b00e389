"""Ridge regression on random cosines (Rahimi and Recht 2007): a world model with a closed solution."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from pydantic import PositiveFloat, PositiveInt

from foretell.errors import UserError
from foretell.models import ModelDefaults, ModelSettings, inputs_of, known_step
from foretell.nn import Normalizer, fit_normalizer, identity_normalizer
from foretell.registry import register
from foretell.replay import newest
from foretell.tasks import Task


@register("model", "ridge")
class Ridge(ModelSettings):
    """An ensemble of ridge regressions, each with random weights on the data (the Bayesian bootstrap)."""

    trains_stepwise = True

    kind: str = "ridge"
    members: PositiveInt = 5
    """Regressions in the ensemble. A particle follows one of them."""
    cosines: PositiveInt = 200
    """Random cosines of the standardised inputs, on which the regression is linear."""
    wavelength: PositiveFloat = 3.0
    """About how far inputs must move for a cosine to change, in standard deviations."""
    ridge: PositiveFloat = 1e-4
    """Penalty on squared weights, where the squared error is a mean over transitions."""
    rows: PositiveInt = 5000
    """Newest transitions of the replay that it is fitted to."""

    def build(self, task, *, fit, imagination, unknown):
        if any(unknown):
            raise UserError(f"model.kind={self.kind} learns the dynamics alone; set reward_model.members=2")
        return RidgeModel(task, self, imagination.particles or self.members)


class RidgeState(NamedTuple):
    """The frequencies of the cosines, and what is learned."""

    frequencies: jax.Array  # [inputs + 1, cosines]
    inputs: Normalizer
    weights: jax.Array  # [members, cosines, target]
    std: jax.Array  # [target]


@dataclass(frozen=True)
class RidgeModel(ModelDefaults):
    """Predicts what the task asks for, mostly the change of the observation, with the noise of the residuals."""

    task: Task
    settings: Ridge
    particles: int

    def init(self, key):
        size = self.task.feature_size + self.task.spec.action_size
        frequencies = jax.random.normal(key, (size + 1, self.settings.cosines)) / self.settings.wavelength
        weights = jnp.zeros((self.settings.members, self.settings.cosines, self.task.target_size))
        return RidgeState(frequencies, identity_normalizer(size), weights, jnp.zeros(self.task.target_size))

    def step(self, params, carry, action, key):
        weights = params.weights[jnp.arange(len(carry)) % self.settings.members]
        mean = jnp.einsum("pbc,pct->pbt", self._cosines(params, carry, action), weights)
        next_obs = self.task.advance(carry, mean + params.std * jax.random.normal(key, mean.shape))
        return next_obs, known_step(self.task, carry, action, next_obs)

    def fit(self, state, replay, key):
        count = min(self.settings.rows, replay.capacity)
        data, valid = newest(replay, count), jnp.arange(count) < replay.size
        inputs = fit_normalizer(inputs_of(self.task, data.obs, data.action), valid, min_std=1e-5)
        state = state._replace(inputs=inputs)
        x, y = self._cosines(state, data.obs, data.action), self.task.target(data.obs, data.next_obs)
        share = valid / jnp.maximum(valid.sum(), 1)
        weight = share * jax.random.exponential(key, (self.settings.members, count))
        gram = jnp.einsum("mr,rc,rd->mcd", weight, x, x) + self.settings.ridge * jnp.eye(x.shape[-1])
        weights = jnp.linalg.solve(gram, jnp.einsum("mr,rc,rt->mct", weight, x, y))
        mse = share @ jnp.square(x @ weights.mean(0) - y)
        return state._replace(weights=weights, std=jnp.sqrt(mse)), {"train_mse": mse.mean()}

    def prepare(self, state, replay):
        return self.fit(state, replay, jax.random.key(0))[0]

    def _cosines(self, params, obs, action):
        x = params.inputs.normalize(inputs_of(self.task, obs, action))
        return jnp.cos(jnp.concatenate([x, jnp.ones_like(x[..., :1])], -1) @ params.frequencies)
