"""Policy search by the cross-entropy method: try linear policies side by side, and move towards the best of them."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from pydantic import PositiveFloat, PositiveInt, model_validator

from foretell.agents import Agent, RunSettings
from foretell.registry import register
from foretell.settings import Settings
from foretell.tasks import Task


class Search(Settings):
    """The section `search` of a preset."""

    elites: PositiveInt = 4
    """Best candidates that the next ones are drawn around."""
    initial_std: PositiveFloat = 1.0
    """Standard deviation of the first candidates' weights."""
    min_std: PositiveFloat = 0.05
    """Least standard deviation of later ones."""


@register("agent", "policy-search")
class PolicySearchSettings(RunSettings):
    """Everything that a preset of this agent may set. The environments try one candidate each."""

    agent: str = "policy-search"
    search: Search = Search()

    @property
    def needs_data(self):
        return False  # it can act before it has learned anything

    @model_validator(mode="after")
    def _check(self):
        if self.search.elites >= self.train.environments:
            raise ValueError(f"train.environments must be more than search.elites ({self.search.elites})")
        return self

    def build(self, task):
        return PolicySearch(task, self.search, self.train.environments)


class SearchState(NamedTuple):
    """What is learned: weights `[features + 1, action]`, and the candidates `[environments, features + 1, action]`."""

    mean: jax.Array
    std: jax.Array
    candidates: jax.Array


@dataclass(frozen=True)
class PolicySearch(Agent):
    """Each environment acts by its own candidate for an episode; then all are replaced."""

    data = "trajectories"

    task: Task
    search: Search
    candidates: int

    def init(self, key):
        shape = (self.task.feature_size + 1, self.task.spec.action_size)
        return self._draw(jnp.zeros(shape), jnp.full(shape, self.search.initial_std), key)

    def policy(self, state):
        return state

    def act(self, params, carry, obs, key, *, explore):
        features = jnp.concatenate([self.task.features(obs), jnp.ones((len(obs), 1))], -1)
        weights = params.candidates if explore else jnp.broadcast_to(params.mean, (len(obs), *params.mean.shape))
        action = jnp.clip(jnp.einsum("bf,bfa->ba", features, weights), -1.0, 1.0)
        return self.task.from_unit(action), carry, {}

    def learn(self, state, data, key):
        returns = jnp.where(data.valid, data.reward, 0.0).sum(0)  # of each environment
        best_returns, best = jax.lax.top_k(returns, self.search.elites)
        elites = state.candidates[best]
        std = jnp.maximum(elites.std(0), self.search.min_std)
        metrics = {"best_return": best_returns[0], "std": std.mean()}
        return self._draw(elites.mean(0), std, key), metrics

    def _draw(self, mean, std, key):
        noise = jax.random.normal(key, (self.candidates, *mean.shape))
        return SearchState(mean, std, mean + std * noise)
