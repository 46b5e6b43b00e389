"""Augmented random search: try changes of a linear policy, and move its weights along those that earned more.

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
    """How the weights are changed and moved."""

    noise: PositiveFloat = 0.3
    """Standard deviation of the changes."""
    step_size: PositiveFloat = 0.3
    """How far the weights move along the mean of the changes, each times its standardised return."""


@register("agent", "random-search")
class RandomSearchSettings(RunSettings):
    """Everything that a preset of random search may set."""

    agent: str = "random-search"
    search: Search = Search()

    @property
    def needs_data(self):
        return False  # it acts before it has learned anything

    @model_validator(mode="after")
    def _check(self):
        if self.train.environments % 2:
            raise ValueError(f"train.environments ({self.train.environments}) must be even: changes are tried in pairs")
        return self

    def build(self, task):
        return RandomSearch(task, self.search, self.train.environments // 2)


class SearchState(NamedTuple):
    """What is learned, and what each environment tries next."""

    weights: jax.Array  # [features + 1, action]
    changes: jax.Array  # [environments, features + 1, action]


@dataclass(frozen=True)
class RandomSearch(Agent):
    """Each environment tries one change for an episode; those of the second half are opposite to the first half's."""

    data = "trajectories"

    task: Task
    search: Search
    pairs: int

    def init(self, key):
        return self._with_changes(jnp.zeros((self.task.feature_size + 1, self.task.spec.action_size)), key)

    def policy(self, state):
        return state

    def act(self, params, carry, obs, key, *, explore):
        features = jnp.concatenate([self.task.features(obs), jnp.ones((len(obs), 1))], -1)
        changes = self.search.noise * params.changes if explore else jnp.zeros((len(obs), 1, 1))
        action = jnp.einsum("bf,bfa->ba", features, params.weights + changes)
        return self.task.from_unit(jnp.clip(action, -1.0, 1.0)), carry, {}

    def learn(self, state, data, key):
        returns = jnp.where(data.valid, data.reward, 0.0).sum(0)  # of every environment's episode
        standardised = (returns - returns.mean()) / (returns.std() + 1e-8)
        step = jnp.einsum("e,efa->fa", standardised, state.changes) / len(returns)
        metrics = {"mean_return": returns.mean(), "std_return": returns.std()}
        return self._with_changes(state.weights + self.search.step_size * step, key), metrics

    def _with_changes(self, weights, key):
        changes = jax.random.normal(key, (self.pairs, *weights.shape))
        return SearchState(weights, jnp.concatenate([changes, -changes]))
