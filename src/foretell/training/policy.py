"""A trained agent in use: `act` on one observation or a batch, and episodes to measure it."""

from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from foretell.agents import Agent, watcher, watching
from foretell.agents.base import Memory, State
from foretell.errors import UserError
from foretell.tasks import TaskSpec
from foretell.training.compilation import COMPILER_OPTIONS
from foretell.training.state import Stream, key_for, numpy_generator


class Outcome(NamedTuple):
    """One evaluation episode."""

    total: float
    length: int


class Policy:
    """Remembers what the agent remembers within an episode; call `reset` between episodes."""

    def __init__(self, agent: Agent, state: State, spec: TaskSpec, *, seed: int = 0) -> None:
        self.agent, self.state, self._spec, self._seed = agent, state, spec, seed
        self._calls, self._batch = 0, 0
        self._watcher = watcher(agent)
        self._memory = None
        self._start = jax.jit(agent.start, static_argnums=0)
        self._act = jax.jit(self._compiled_act, compiler_options=COMPILER_OPTIONS)

    def with_seed(self, seed: int) -> "Policy":
        """The same agent with other luck, at the start of an episode."""
        return Policy(self.agent, self.state, self._spec, seed=seed)

    def reset(self, where: ArrayLike | None = None) -> None:
        """New episodes begin: everywhere, or in the rows of the batch that `where` marks. Raises `UserError`."""
        if where is None or self._memory is None:
            self._memory, self._batch = None, 0
            return
        mask = np.asarray(where)
        if mask.dtype != bool or mask.shape != (self._batch,):
            raise UserError(
                f"the mask given to reset() must be of type bool and shape ({self._batch},), one entry per row, "
                f"not of type {mask.dtype} and shape {mask.shape}"
            )
        self._memory = restarted(self._memory, self._start(self._batch), mask)

    def act(self, obs: ArrayLike) -> Float[np.ndarray, "*batch action"]:
        """The action for one observation `[obs]`, or actions for a batch `[batch, obs]`, in the environment's units.

        Raises `UserError` for a wrong shape, a value that is not finite, or a batch that changes size mid-episode.
        """
        rows = self._checked(obs)
        if self._memory is None:
            self._memory, self._batch = self._start(len(rows)), len(rows)
        if len(rows) != self._batch:
            raise UserError(f"a batch of {len(rows)} observations follows one of {self._batch}; call reset() first")
        action, self._memory = self._act(self.state, self._memory, rows, np.int32(self._seed), np.int32(self._calls))
        self._calls += 1
        action = np.asarray(action)
        if self._watcher:
            self._watcher.check()
        return action if np.ndim(obs) == 2 else action[0]

    def play(self, env: gymnasium.Env, *, episode: int) -> Outcome:
        """One whole episode in `env`; the policy's seed and `episode` decide its start and all chance in acting."""
        self.reset()
        self._calls = episode * self._spec.horizon
        obs, _ = env.reset(seed=int(numpy_generator(self._seed, Stream.EVALUATION, episode).integers(2**31)))
        total, length, over = 0.0, 0, False
        with watching(self._watcher, env):
            while not over:
                obs, reward, terminated, truncated, _ = env.step(self.act(obs))
                if not np.isfinite(float(reward)):
                    raise UserError(f"'{self._spec.env_id}' returned the reward {reward} at step {length}")
                total, length = total + float(reward), length + 1
                over = terminated or truncated or length == self._spec.horizon
        return Outcome(total, length)

    def _compiled_act(
        self, state: State, memory: Memory, obs: Float[Array, "batch obs"], seed: Int[Array, ""], call: Int[Array, ""]
    ) -> tuple[Float[Array, "batch action"], Memory]:
        key = key_for(seed, Stream.EVALUATION, call)
        return self.agent.act(state, memory, obs, key, explore=False)

    def _checked(self, obs: ArrayLike) -> Float[np.ndarray, "batch obs"]:
        try:
            rows = np.asarray(obs, np.float32)
        except (TypeError, ValueError):
            raise UserError(f"an observation must be an array of numbers, not {type(obs).__name__}") from None
        size = self._spec.obs_size
        if rows.ndim not in (1, 2) or rows.shape[-1] != size or not rows.size:
            raise UserError(f"an observation must have shape ({size},) or (batch, {size}), not {rows.shape}")
        if not np.isfinite(rows).all():
            where = int(np.argwhere(~np.isfinite(rows))[0][-1])
            raise UserError(f"the observation is not finite in '{self._spec.obs_names[where]}'")
        return np.atleast_2d(rows)


def restarted(memory: Memory, fresh: Memory, where: Bool[Array | np.ndarray, "batch"]) -> Memory:
    """`memory` with the rows that `where` marks taken from `fresh`."""
    choose = lambda new, old: jnp.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old)  # noqa: E731
    return jax.tree.map(choose, fresh, memory)
