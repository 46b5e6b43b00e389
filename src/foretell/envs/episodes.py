"""The episodes under way in a batch of environments, as arrays that change in place."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from foretell.tasks import TaskSpec

UNSAID = -1


class Episodes(NamedTuple):
    """One episode per environment, with room for its whole horizon."""

    obs: np.ndarray
    """`[environments, horizon + 1, obs]`"""
    actions: np.ndarray
    """`[environments, horizon, action]`"""
    rewards: np.ndarray
    """`[environments, horizon]`"""
    number: np.ndarray
    """Of the episode in each environment; -1 where none has begun."""
    length: np.ndarray
    """Steps taken."""
    terminated: np.ndarray
    """1 where the last step has ended the episode for good; a time limit does not."""
    success: np.ndarray
    """1 where the last step has reached the goal, 0 where not, `UNSAID` where the environment does not say."""
    over: np.ndarray
    """1 where no further step is to be taken."""
    clock: np.ndarray
    """Steps of all environments since the episode in the first one began."""

    @property
    def running(self) -> list[int]:
        """Indices of the environments that go on."""
        return np.flatnonzero((self.number >= 0) & (self.over == 0)).tolist()

    @property
    def latest(self) -> Float[np.ndarray, "environments obs"]:
        """The observation that each environment has shown last."""
        return self.obs[np.arange(len(self.length)), self.length].astype(np.float32)

    def clear(self, row: int) -> None:
        """No episode has begun in this environment."""
        for array in (self.obs, self.actions, self.rewards, self.length, self.terminated, self.over):
            array[row] = 0
        self.number[row], self.success[row] = -1, UNSAID


def empty_episodes(spec: TaskSpec, count: int) -> Episodes:
    """Room for the episodes of `count` environments, none of which has begun."""
    return Episodes(
        obs=np.zeros((count, spec.horizon + 1, spec.obs_size)),
        actions=np.zeros((count, spec.horizon, spec.action_size)),
        rewards=np.zeros((count, spec.horizon)),
        number=np.full(count, -1, np.int64),
        length=np.zeros(count, np.int64),
        terminated=np.zeros(count, np.int64),
        success=np.full(count, UNSAID, np.int64),
        over=np.zeros(count, np.int64),
        clock=np.zeros((), np.int64),
    )
