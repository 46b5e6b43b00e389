"""Augmented random search: try a linear policy with its weights changed, and move them towards what earned more.

Mania, Guy, Recht: "Simple random search of static linear policies is competitive for reinforcement learning", 2018.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from pydantic import PositiveFloat, model_validator

from foretell.agents import Agent, RunSettings
from foretell.registry import register
from foretell.settings import Settings
from foretell.tasks import Task


class Search(Settings):
    """The section `search` of a preset."""

    noise: PositiveFloat = 0.3
    """Standard deviation of the changes that are tried."""
    step_size: PositiveFloat = 0.3
    """How far the weights move: this, times the mean change weighted by what it earned, in standard deviations."""


@register("agent", "random-search")
class RandomSearchSettings(RunSettings):
    """Everything that a preset of this agent may set."""

    agent: str = "random-search"
    search: Search = Search()

    @property
    def needs_data(self):
        return False  # it can act before it has learned

    @model_validator(mode="after")
    def _check(self):
        if self.train.environments % 2:
            raise ValueError(f"train.environments must be even with '{self.agent}', which tries changes in pairs")
        return self

    def build(self, task):
        return RandomSearch(task, self.search, self.train.environments // 2)


class SearchState(NamedTuple):
    """What is learned, and what is tried next: each change, and its opposite in the second half."""

    weights: jax.Array  # [features + 1, action]
    changes: jax.Array  # [environments, features + 1, action]


@dataclass(frozen=True)
class RandomSearch(Agent):
    """Every environment tries a change of the weights for one episode."""

    data = "trajectories"

    task: Task
    search: Search
    pairs: int

    def init(self, key):
        return self._next(jnp.zeros((self.task.feature_size + 1, self.task.spec.action_size)), key)

    def policy(self, state):
        return state

    def act(self, params, carry, obs, key, *, explore):
        features = jnp.concatenate([self.task.features(obs), jnp.ones((len(obs), 1))], -1)
        weights = params.weights + self.search.noise * params.changes if explore else params.weights[None]
        action = jnp.einsum("bf,bfa->ba", features, jnp.broadcast_to(weights, (len(obs), *weights.shape[1:])))
        return self.task.from_unit(jnp.clip(action, -1.0, 1.0)), carry, {}

    def learn(self, state, data, key):
        returns = jnp.where(data.valid, data.reward, 0.0).sum(0)  # of each environment's episode
        score = (returns - returns.mean()) / (returns.std() + 1e-8)
        step = jnp.einsum("e,efa->fa", score, state.changes) / len(score)
        metrics = {"mean_return": returns.mean(), "std_return": returns.std()}
        return self._next(state.weights + self.search.step_size * step, key), metrics

    def _next(self, weights, key):
        changes = jax.random.normal(key, (self.pairs, *weights.shape))
        return SearchState(weights, jnp.concatenate([changes, -changes]))
