"""Whole episodes without exploration, many side by side, and what was noted at each step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from foretell.agents import Agent
from foretell.agents.base import Carry, Extras, PolicyParams, State
from foretell.compilation import COMPILER_OPTIONS
from foretell.diagnostics.critics import WithCritics, features_of
from foretell.diagnostics.prediction import Track
from foretell.envs import Environments, empty_episodes
from foretell.envs.live import serving
from foretell.keys import Stream
from foretell.models import TrueModel
from foretell.nn import Normalizer
from foretell.tasks import Task
from foretell.training.actor import begin_and_act
from foretell.values.learners import LearnerState

NOTED = ("value", "bonus")
"""What is kept of what acting returns: the planned return, and the entropy bonus of the action."""


class Played(NamedTuple):
    """Episodes; `e` is an episode, `t` a step. Arrays go on beyond the lengths, with zeros."""

    obs: Float[np.ndarray, "e t+1 obs"]
    action: Float[np.ndarray, "e t action"]
    reward: Float[np.ndarray, "e t"]
    length: Int[np.ndarray, "e"]
    terminated: Bool[np.ndarray, "e"]
    noted: dict[str, Float[np.ndarray, "e t"]]
    """See `NOTED`."""

    @property
    def tracks(self) -> list[Track]:
        """The same episodes one by one."""
        parts = zip(self.obs, self.action, self.reward, self.length, self.terminated, strict=True)
        return [
            Track(_single(obs[: n + 1]), _single(action[:n]), _single(reward[:n]), bool(ended))
            for obs, action, reward, n, ended in parts
        ]


class Followed(NamedTuple):
    """What following the policy of targets needs."""

    learner: LearnerState
    inputs: Normalizer | None
    """Standardises features, where the agent does that apart from its networks."""


@dataclass(frozen=True)
class TargetPolicy(Agent):
    """Acts as the policy that the targets of an agent's critics follow, see `Learner.propose`.

    This is the target policy where there is one. SAC draws from its policy, and TD3 smooths its actions with noise.
    """

    agent: WithCritics

    def policy(self, state: State) -> Followed:
        return Followed(state.learner, getattr(state, "inputs", None))

    def act(
        self, params: Followed, carry: Carry, obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], Carry, Extras]:
        """Actions, and their entropy bonus in the units of values."""
        del explore
        task = self.agent.task
        features = features_of(task, params.inputs, obs)
        action, bonus = self.agent.learner.propose(params.learner, features[None], key)
        return task.from_unit(action[0]), carry, {"bonus": bonus[0]}


class Player:
    """Plays episodes of one task; which starts they have is up to `seed` and to their numbers. Close it."""

    def __init__(self, agent: Agent, task: Task, episodes: int, seed: int, workers: int = 1) -> None:
        """Make the environments.

        Args:
            agent: whose policy is to act.
            task: the task.
            episodes: how many are played together.
            seed: of their starts, and of the noise in acting.
            workers: processes that step the environments.
        """
        self._agent, self._spec, self._seed, self._count = agent, task.spec, np.int32(seed), episodes
        # The true model plans in a copy of the one environment that is acted in, unless observations tell its state.
        alone = isinstance(getattr(agent, "model", None), TrueModel) and task.restore is None
        self._envs = Environments(task, 1 if alone else episodes, seed, workers)
        self._act = jax.jit(
            partial(begin_and_act, agent, Stream.DIAGNOSE, explore=False), compiler_options=COMPILER_OPTIONS
        )

    def close(self) -> None:
        self._envs.close()

    def play(self, policy: PolicyParams, first: int = 0, played: Callable[[int], object] = lambda n: None) -> Played:
        """Episodes of numbers from `first` on.

        Args:
            policy: what acting needs.
            first: number of the first episode.
            played: called with the number of steps taken together so far.
        """
        width = len(self._envs.copies)
        rounds = [self._round(policy, first + start, played) for start in range(0, self._count, width)]
        noted = {name: np.concatenate([one.noted[name] for one in rounds]) for name in rounds[0].noted}
        found: Any = [np.concatenate(parts) for parts in zip(*(one[:-1] for one in rounds), strict=True)]
        obs, action, reward, length, terminated = found
        return Played(obs, action, reward, length, terminated, noted)

    def _round(self, policy: PolicyParams, first: int, played: Callable[[int], object]) -> Played:
        """As many episodes as there are environments, to the end of the longest."""
        spec, count = self._spec, len(self._envs.copies)
        episodes, notes = empty_episodes(spec, count), []
        self._envs.begin(episodes, {row: first + row for row in range(count)})
        carry = self._no_carry(policy, episodes.latest)
        while episodes.running:
            fresh, numbers = episodes.length == 0, (np.int32(first), np.int32(episodes.clock))
            with serving(self._envs.copies):
                actions, carry, extras = self._act(policy, carry, episodes.latest, fresh, self._seed, *numbers)
                actions = np.asarray(actions)
            notes.append({name: np.asarray(extras[name]) for name in NOTED if name in extras})
            self._envs.step(episodes, actions, spec.horizon)
            played(len(notes))
        noted = {name: _padded(np.stack([note[name] for note in notes], 1), spec.horizon) for name in notes[0]}
        ended = episodes.terminated > 0
        return Played(episodes.obs, episodes.actions, episodes.rewards, episodes.length, ended, noted)

    def _no_carry(self, policy: PolicyParams, obs: Float[np.ndarray, "e obs"]) -> Carry:
        shapes = jax.eval_shape(self._agent.begin, policy, obs, jax.random.key(0))
        return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)


def _single(rows: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return rows.astype(np.float32)


def _padded(rows: Float[np.ndarray, "e t"], steps: int) -> Float[np.ndarray, "e steps"]:
    return np.pad(rows, ((0, 0), (0, steps - rows.shape[1])))
