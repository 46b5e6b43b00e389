"""A trained agent in use: `act` on one observation or a batch, and whole episodes to measure it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from foretell.agents import Agent
from foretell.agents.base import Carry, PolicyParams, State
from foretell.compilation import COMPILER_OPTIONS, check_not_forked, traced_once
from foretell.envs import succeeded
from foretell.envs.live import served, serving
from foretell.errors import UserError
from foretell.keys import Stream, numpy_generator
from foretell.tasks import TaskSpec
from foretell.tasks.spaces import real_array
from foretell.training.actor import begin_and_act

_WARM_CALLS = 10
"""Calls after which Python, too, runs the code at its full speed."""


class EvaluationResult(NamedTuple):
    """One evaluation episode."""

    total: float
    """Its return."""
    length: int
    success: bool | None = None
    """Whether its last step reached the goal; None if the environment does not say."""


class Programs:
    """Acting from one policy's parameters, compiled once for each batch size.

    `jax.jit` would compile again whenever the carry moves from the host to the device, or from one device to another.
    """

    def __init__(self, agent: Agent, policy: PolicyParams) -> None:
        self._agent, self._policy = agent, policy
        self._compiled: dict[tuple[int, bool], Callable] = {}
        self._carries: dict[int, Carry] = {}

    def no_carry(self, rows: Float[np.ndarray, "batch obs"]) -> Carry:
        """Zeros in the structure of a carry: every row begins an episode."""
        if len(rows) not in self._carries:
            shapes = jax.eval_shape(self._agent.begin, self._policy, rows, jax.random.key(0))
            self._carries[len(rows)] = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
        return self._carries[len(rows)]

    def __call__(
        self,
        carry: Carry,
        rows: Float[np.ndarray, "batch obs"],
        fresh: Bool[np.ndarray, "batch"],
        *numbers: np.int32,
        explore: bool,
    ) -> tuple[Float[np.ndarray, "batch action"], Carry]:
        """Actions on the host and the next carry; the other arguments are those of `begin_and_act`."""
        arguments = self._policy, carry, rows, fresh, *numbers
        key = len(rows), explore
        if key not in self._compiled:
            act = partial(begin_and_act, self._agent, Stream.EVALUATION, explore=explore)
            self._compiled[key] = jax.jit(act, compiler_options=COMPILER_OPTIONS).lower(*arguments).compile()
        with serving(served()):  # what fails within the program is raised here
            action, carry, _ = self._compiled[key](*arguments)
            return np.asarray(action), carry


class Controller:
    """Acts from a policy's parameters, by default without exploration. Call `reset` between episodes."""

    def __init__(
        self, agent: Agent, state: State, spec: TaskSpec, *, seed: int = 0, programs: Programs | None = None
    ) -> None:
        """Begin an episode.

        Args:
            agent: the agent.
            state: what it has learned.
            spec: that of its task.
            seed: decides the noise in acting, if there is any.
            programs: those of the same agent and state, if they are compiled already.
        """
        self.agent, self.state, self._spec, self._seed = agent, state, spec, seed
        self._programs = programs or Programs(*agent.deployed(traced_once(agent.policy)(state)))
        self._calls = 0
        self._carry: Carry = None
        self._fresh = np.ones(0, bool)

    def with_seed(self, seed: int) -> "Controller":
        """The same agent with another random seed, at the start of an episode."""
        return Controller(self.agent, self.state, self._spec, seed=seed, programs=self._programs)

    def warm_up(self, batch: int = 1, *, explore: bool = False) -> None:
        """Compile what acting needs for so many observations, and act a few times; the episode is not affected.

        Raises `UserError` if acting fails.
        """
        spare, rows = self.with_seed(self._seed), np.zeros((batch, self._spec.obs_size), np.float32)
        for _ in range(_WARM_CALLS):
            spare.act(rows, explore=explore)

    def reset(self, where: ArrayLike | None = None) -> None:
        """New episodes begin: everywhere, or in the rows of the batch that `where` marks. Raises `UserError`."""
        if where is None or not self._fresh.size:
            self._fresh = np.ones(0, bool)
            return
        mask = np.asarray(where)
        if mask.dtype != bool or mask.shape != self._fresh.shape:
            raise UserError(
                f"the mask given to reset() must be of type bool and shape {self._fresh.shape}, one entry per row, "
                f"not of type {mask.dtype} and shape {mask.shape}"
            )
        self._fresh = self._fresh | mask

    def act(self, obs: ArrayLike, *, explore: bool = False) -> Float[np.ndarray, "*batch action"]:
        """The action for one observation `[obs]`, or actions for a batch `[batch, obs]`, in the environment's units.

        With `explore`, the agent acts as it does to collect data.

        Raises:
            UserError: for a wrong shape, a value that is not finite, or a batch that changes size within an episode.
        """
        check_not_forked()
        rows = self._checked(obs)
        if not self._fresh.size:
            self._fresh, self._carry = np.ones(len(rows), bool), self._programs.no_carry(rows)
        if len(rows) != len(self._fresh):
            raise UserError(
                f"a batch of {len(rows)} observations follows one of {len(self._fresh)}; call reset() first"
            )
        numbers = np.int32(self._seed), np.int32(self._calls)
        action, self._carry = self._programs(self._carry, rows, self._fresh, *numbers, explore=explore)
        self._calls += 1
        self._fresh = np.zeros(len(rows), bool)
        return action if np.ndim(obs) == 2 else action[0]

    def play(self, env: gymnasium.Env, *, episode: int) -> EvaluationResult:
        """One whole episode in `env`, as its task makes it.

        The controller's seed and `episode` decide its start and all noise in acting.
        """
        self.reset()
        self._calls = episode * self._spec.horizon
        obs, _ = env.reset(seed=int(numpy_generator(self._seed, Stream.EVALUATION, episode).integers(2**31)))
        total, length, over = 0.0, 0, False
        info: dict[str, Any] = {}
        with serving([env]):
            while not over:
                obs, reward, terminated, truncated, info = env.step(self.act(obs))
                total, length = total + float(reward), length + 1
                over = terminated or truncated or length == self._spec.horizon
        return EvaluationResult(total, length, succeeded(info))

    def _checked(self, obs: ArrayLike) -> Float[np.ndarray, "batch obs"]:
        try:
            with np.errstate(over="ignore"):
                rows = np.asarray(obs if _is_plain(obs) else real_array(obs), np.float32)
        except Exception:  # whatever an object raises that is asked for its numbers
            raise UserError(f"an observation must be an array of numbers, not {type(obs).__name__}") from None
        size = self._spec.obs_size
        if rows.ndim not in (1, 2) or rows.shape[-1] != size or not rows.size:
            raise UserError(f"an observation must have shape ({size},) or (batch, {size}), not {rows.shape}")
        if not np.isfinite(rows).all():
            where = int(np.argwhere(~np.isfinite(rows))[0][-1])
            raise UserError(f"the observation is not finite in '{self._spec.obs_names[where]}'")
        return np.atleast_2d(rows)


def _is_plain(obs: Any) -> bool:
    """Whether it is an array of NumPy's whose numbers are real."""
    return type(obs) is np.ndarray and obs.dtype.kind in "biuf"
