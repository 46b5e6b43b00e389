"""What an agent's model predicts for action sequences, beside what the simulator, or a recording, says of them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from foretell.agents import Agent
from foretell.agents.base import State
from foretell.compilation import COMPILER_OPTIONS
from foretell.diagnostics.critics import WithCritics
from foretell.diagnostics.open_loop import OpenLoop, std_of
from foretell.diagnostics.play import TargetPolicy
from foretell.diagnostics.prediction import Track
from foretell.envs.live import raise_reported
from foretell.envs.slots import prototype_of
from foretell.errors import UserError
from foretell.models import TrueDynamics, TrueModel, open_loop, rollout, start
from foretell.tasks import Task

_CHUNK, _CHUNK_OF_PLANS = 32, 8
"""Starts of one call; those of a planner need much memory."""


class Imagined(NamedTuple):
    """Of a chunk of starts; `b` is a start, `k` a step after it, `p` a particle, `d` and `a` dimensions."""

    obs: Float[Array, "b k p d"]
    reward: Float[Array, "b k"]
    action: Float[Array, "b k a"]


class Replayed(NamedTuple):
    """What the simulator made of the actions."""

    obs: Float[Array, "b k d"]
    reward: Float[Array, "b k"]
    terminated: Float[Array, "b k"]


def imagine_plan(agent: Agent, horizon: int, state: State, obs: Float[Array, "b d"], key: Key[Array, ""]) -> Imagined:
    """Act in imagination from each observation, and note the actions and what the model predicts for them.

    An agent that plans acts as its first plan says, which may be shorter than `horizon`. Any other agent acts on the
    mean of the particles at every step, so that all particles of a start have the same actions. Agents with critics
    follow the policy of their targets, see `TargetPolicy`.
    """
    plan_key, key = jax.random.split(key)
    acting = _acting(agent)
    policy = acting.policy(state)

    def act(key: Key[Array, ""], obs: Float[Array, "b d"]) -> tuple[Array, dict[str, Any]]:
        action, _, extras = acting.act(policy, acting.begin(policy, obs, key), obs, key, explore=False)
        return action, extras

    if "plan" in jax.eval_shape(act, plan_key, obs)[1]:
        return imagine(agent, state, obs, act(plan_key, obs)[1]["plan"][:, :horizon], key)

    def on_mean(key: Key[Array, ""], obs: Float[Array, "p b d"], t: Int[Array, ""]) -> tuple[Array, tuple]:
        action = act(jax.random.fold_in(plan_key, t), obs.mean(0))[0]
        return jnp.broadcast_to(action, (len(obs), *action.shape)), ()

    return _follow(agent, state, obs, on_mean, horizon, key)


def imagine(
    agent: Agent, state: State, obs: Float[Array, "b d"], action: Float[Array, "b k a"], key: Key[Array, ""]
) -> Imagined:
    """What the model predicts for given actions."""
    assert agent.model is not None
    return _follow(agent, state, obs, open_loop(action, agent.model.particles), action.shape[1], key)


def _follow(agent: Agent, state: State, obs: Array, act: Any, horizon: int, key: Key[Array, ""]) -> Imagined:
    model, params, (begin_key, roll_key) = agent.model, agent.model_params(state), jax.random.split(key)
    assert model is not None
    found = rollout(model, params, start(model, params, obs, begin_key, model.particles), act, horizon, roll_key)
    reward = found.reward.mean((1, 2)).T
    return Imagined(jnp.moveaxis(found.obs[1:], 2, 0), reward, jnp.moveaxis(found.action[:, 0], 1, 0))


def replay(truth: TrueModel, obs: Float[Array, "b d"], action: Float[Array, "b k a"], key: Key[Array, ""]) -> Replayed:
    """Take the actions in the simulator, from the states that the observations describe."""
    begin_key, roll_key = jax.random.split(key)
    begin = start(truth, (), obs, begin_key, 1)
    found = rollout(truth, (), begin, open_loop(action, 1), action.shape[1], roll_key)
    return Replayed(jnp.moveaxis(found.obs[1:, 0], 1, 0), found.reward[:, 0, 0].T, found.terminated[:, 0].T)


def _acting(agent: Agent) -> Agent:
    return TargetPolicy(agent) if isinstance(agent, WithCritics) else agent


def can_replay(task: Task) -> bool:
    """Whether the simulator can be put where an observation is."""
    if task.restore is None:
        return False
    try:
        prototype_of(task)
    except UserError:
        return False
    return True


class Imaginer:
    """Makes open-loop predictions of an agent; its programs are compiled once.

    Where the simulator can be put where an observation is, the agent acts in imagination and its actions are replayed
    there. Elsewhere the actions are recorded ones, and what they led to is recorded too.
    """

    def __init__(self, agent: Agent, task: Task, horizon: int) -> None:
        """`horizon` is the number of steps to look ahead, K."""
        self._horizon, self._chunk = horizon, _CHUNK_OF_PLANS if hasattr(agent, "planner") else _CHUNK
        self.replays = can_replay(task)
        self._truth = TrueModel(task, TrueDynamics().count())
        self._plan = _compiled(partial(imagine_plan, agent, horizon))
        self._imagine = _compiled(partial(imagine, agent))
        self._replay = _compiled(partial(replay, self._truth))

    def look(self, state: State, tracks: Sequence[Track], count: int, rng: np.random.Generator) -> OpenLoop | None:
        """Predictions from `count` starts, drawn uniformly from the steps of some episodes.

        Args:
            state: what the agent has learned.
            tracks: the episodes. Where actions are recorded, K is at most the steps of the longest.
            count: starts.
            rng: draws the starts, and keys.

        Returns:
            The predictions; None if there are no episodes.

        Raises:
            UserError: if the simulator fails.
        """
        if not tracks:
            return None
        key, std = jax.random.key(int(rng.integers(2**31))), std_of(np.concatenate([track.obs for track in tracks]))
        if self.replays:
            obs = draw(np.concatenate([track.obs[:-1] for track in tracks]), count, rng)
            return self._replayed(state, obs, key, std)
        steps = min(self._horizon, max(len(track.actions) for track in tracks))
        windows = [(track, t) for track in tracks for t in range(len(track.actions) - steps + 1)]
        return self._recorded(state, [windows[i] for i in rng.integers(len(windows), size=count)], steps, key, std)

    def _replayed(self, state: State, obs: np.ndarray, key: Key[Array, ""], std: np.ndarray) -> OpenLoop:
        def one(rows: np.ndarray, key: Key[Array, ""]) -> tuple[Imagined, Replayed]:
            first, second = jax.random.split(key)
            planned = self._plan(state, obs[rows], first)
            real = self._replay(obs[rows], planned.action, second)
            return planned, jax.block_until_ready(real)

        planned, real = chunked(one, len(obs), self._chunk, key)
        return OpenLoop(planned.obs, real.obs, planned.reward, real.reward, real.terminated > 0, std, True, obs)

    def _recorded(
        self, state: State, windows: list[tuple[Track, int]], steps: int, key: Key[Array, ""], std: np.ndarray
    ) -> OpenLoop:
        obs = np.stack([track.obs[t : t + steps + 1] for track, t in windows])
        action = np.stack([track.actions[t : t + steps] for track, t in windows])
        reward = np.stack([track.rewards[t : t + steps] for track, t in windows])
        last = [track.terminated and t + steps == len(track.actions) for track, t in windows]
        terminated = np.zeros(reward.shape, bool)
        terminated[:, -1] = last

        def one(rows: np.ndarray, key: Key[Array, ""]) -> Imagined:
            return self._imagine(state, obs[rows, 0], action[rows], key)

        planned = chunked(one, len(windows), self._chunk, key)
        return OpenLoop(planned.obs, obs[:, 1:], planned.reward, reward, terminated, std, False, obs[:, 0])


def chunked(function: Callable[..., Any], count: int, size: int, key: Key[Array, ""]) -> Any:
    """A function of rows and a key, for `count` rows in chunks of one size; the last is filled up by repeating rows.

    Args:
        function: called with the numbers of the rows of a chunk, and a key; it returns a tree of arrays.
        count: rows in all.
        size: of a chunk.
        key: for the noise of all chunks.

    Returns:
        The arrays of all chunks, joined on the host.

    Raises:
        UserError: if the simulator fails.
    """
    size = min(size, count)
    keys = jax.random.split(key, -(-count // size))
    rows = [np.minimum(np.arange(first, first + size), count - 1) for first in range(0, count, size)]
    parts = [jax.tree.map(np.asarray, function(*pair)) for pair in zip(rows, keys, strict=True)]
    raise_reported()
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)


def draw(rows: Any, count: int, rng: np.random.Generator) -> Any:
    """`count` of these rows, with replacement; a tree of arrays."""
    index = rng.integers(len(jax.tree.leaves(rows)[0]), size=count)
    return jax.tree.map(lambda a: a[index], rows)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, compiler_options=COMPILER_OPTIONS)
