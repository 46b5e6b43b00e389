"""A world model in which a path is followed: a reward that depends on how far along the path one has come.

Nagabandi et al. 2018, section IV-E.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell.models.base import Carry, Params, Start, Step, WorldModel, noise_of
from foretell.tasks.base import Follows
from foretell.tasks.waypoints import Progress


class PathCarry(NamedTuple):
    """What the model carries, the observation it has come to, and how far along the path that is."""

    dynamics: Carry
    obs: Float[Array, "particles batch obs"]
    progress: Progress


@dataclass(frozen=True)
class PathModel:
    """A world model whose reward is that of following a path."""

    dynamics: WorldModel
    task: Follows

    def begin(self, params: Params, obs: Float[Array, "batch obs"], key: Key[Array, ""], particles: int) -> PathCarry:
        """As at the start of an episode; see `with_progress`."""
        everywhere = jnp.broadcast_to(obs, (particles, *obs.shape))
        carry = self.dynamics.begin(params, obs, key, particles)
        return PathCarry(carry, everywhere, self.task.start_progress(everywhere))

    def noise(self, key: Key[Array, ""], horizon: int, particles: int, batch: int) -> Any:
        return noise_of(self.dynamics, key, horizon, particles, batch)

    def step(
        self, params: Params, carry: PathCarry, action: Float[Array, "particles batch action"], key: Any
    ) -> tuple[PathCarry, Step]:
        inner, step = self.dynamics.step(params, carry.dynamics, action, key)
        reward, progress = self.task.follow(carry.progress, carry.obs, action, step.obs)
        return PathCarry(inner, step.obs, progress), step._replace(reward=reward[None])


def with_progress(start: Start, progress: Progress) -> Start:
    """The start of a rollout for which an episode has come as far along the path as `progress` says."""
    rows = start.obs.shape[:2]
    everywhere = Progress(*(jnp.broadcast_to(a, (*rows, *a.shape)) for a in progress))
    return start._replace(carry=start.carry._replace(progress=everywhere))
