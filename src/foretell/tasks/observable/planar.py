"""MVE's planar robots: half-cheetah, walker, hopper and swimmer. Observations are all joint positions and velocities.

Positions are in m and rad, velocities in m/s and rad/s. Those of walker and hopper are clipped to [-10, 10].
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float

from foretell.registry import register
from foretell.tasks.halfcheetah import CAMERA, JOINTS, draw_floor
from foretell.tasks.mujoco import drawing
from foretell.tasks.observable.base import Runner, RunnerEnv, RunnerTask, spec_of, view, with_velocities

_LEG = ("thigh", "leg", "foot")
VELOCITY_LIMIT = 10.0
"""Limit of the velocities (m/s, rad/s) in the observations of walker and hopper."""
WALKER_HEIGHTS, WALKER_PITCH = (0.8, 2.0), 1.0
"""Heights (m) and greatest pitch (rad) of the torso of a walker that has not fallen."""
HOPPER_HEIGHT, HOPPER_PITCH, HOPPER_LIMIT = 0.7, 0.2, 100.0
"""Least height (m) and greatest pitch (rad) of the torso of a hopper that has not fallen, and the limit of the rest."""

HALF_CHEETAH = Runner(
    spec=spec_of("HalfCheetah", with_velocities(("x", "z", "pitch", *JOINTS)), 6),
    model="half_cheetah.xml",
    frame_skip=5,
    dt=0.05,
    noise=0.1,
    normal_velocities=True,
    action_cost=0.1,
)
WALKER = Runner(
    spec=spec_of("Walker2d", with_velocities(("x", "z", "pitch", *_LEG, *(f"left_{name}" for name in _LEG))), 6),
    model="walker2d_v5.xml",
    frame_skip=4,
    dt=0.008,
    noise=0.005,
    bonus=1.0,
    action_cost=1e-3,
)
HOPPER = Runner(
    spec=spec_of("Hopper", with_velocities(("x", "z", "pitch", *_LEG)), 3),
    model="hopper.xml",
    frame_skip=4,
    dt=0.008,
    noise=0.005,
    bonus=1.0,
    action_cost=1e-3,
)
SWIMMER = Runner(
    spec=spec_of("Swimmer", with_velocities(("x", "y", "heading", "joint1", "joint2")), 2),
    model="swimmer.xml",
    frame_skip=4,
    dt=0.04,
    noise=0.1,
    action_cost=1e-4,
)


class HalfCheetahEnv(RunnerEnv):
    """The half-cheetah, 0.05 s per step. Nothing terminates an episode."""

    runner = HALF_CHEETAH
    metadata = drawing(20)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(CAMERA, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """A longer floor."""
        draw_floor(model)


class Walker2dEnv(RunnerEnv):
    """Two legs, 0.008 s per step. A fall terminates the episode."""

    runner = WALKER
    metadata = drawing(125)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(view(4.0), **kwargs)

    def _observation(self) -> np.ndarray:
        return _clipped(self)

    def _fallen(self, obs: np.ndarray) -> bool:
        (lowest, highest), height, pitch = WALKER_HEIGHTS, obs[1], obs[2]
        return not (lowest < height < highest and abs(pitch) < WALKER_PITCH)


class HopperEnv(RunnerEnv):
    """One leg, 0.008 s per step. A fall terminates the episode.

    In Gym a velocity of 100 does so too. As observed, velocities are at most 10, and so this must not end an episode.
    """

    runner = HOPPER
    metadata = drawing(125)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(view(4.0), **kwargs)

    def _observation(self) -> np.ndarray:
        return _clipped(self)

    def _fallen(self, obs: np.ndarray) -> bool:
        height, pitch = obs[1:3]
        sane = np.isfinite(obs).all() and (np.abs(obs[2:]) < HOPPER_LIMIT).all()
        return not (sane and height > HOPPER_HEIGHT and abs(pitch) < HOPPER_PITCH)


class SwimmerEnv(RunnerEnv):
    """A chain of three links that swims in a plane, 0.04 s per step. Nothing terminates an episode."""

    runner = SWIMMER
    metadata = drawing(25)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(view(8.0, elevation=-60.0), **kwargs)


def _clipped(env: RunnerEnv) -> np.ndarray:
    return np.concatenate([env.data.qpos, np.clip(env.data.qvel, -VELOCITY_LIMIT, VELOCITY_LIMIT)])


@register("task", "mve-cheetah")
@dataclass(eq=False, kw_only=True)
class HalfCheetah(RunnerTask):
    """The half-cheetah. The released code has a second one, `hc2`, of the same physics in another language."""

    spec = HALF_CHEETAH.spec
    runner: ClassVar = HALF_CHEETAH


@register("task", "mve-walker2d")
@dataclass(eq=False, kw_only=True)
class Walker2d(RunnerTask):
    """Two legs. Velocities beyond 10 cannot be restored, since they are not observed."""

    spec = WALKER.spec
    runner: ClassVar = WALKER

    def terminated(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Bool[Array, "*rows"]:
        """Whether the torso is too low, too high or tilted too far."""
        (lowest, highest), height, pitch = WALKER_HEIGHTS, next_obs[..., 1], next_obs[..., 2]
        return ~((height > lowest) & (height < highest) & (jnp.abs(pitch) < WALKER_PITCH))


@register("task", "mve-hopper")
@dataclass(eq=False, kw_only=True)
class Hopper(RunnerTask):
    """One leg. Velocities beyond 10 cannot be restored, since they are not observed."""

    spec = HOPPER.spec
    runner: ClassVar = HOPPER

    def terminated(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Bool[Array, "*rows"]:
        """Whether the torso is too low or tilted too far, or a joint's angle is absurd."""
        height, pitch = next_obs[..., 1], next_obs[..., 2]
        sane = jnp.isfinite(next_obs).all(-1) & (jnp.abs(next_obs[..., 2:]) < HOPPER_LIMIT).all(-1)
        return ~(sane & (height > HOPPER_HEIGHT) & (jnp.abs(pitch) < HOPPER_PITCH))


@register("task", "mve-swimmer")
@dataclass(eq=False, kw_only=True)
class Swimmer(RunnerTask):
    """A chain of three links."""

    spec = SWIMMER.spec
    runner: ClassVar = SWIMMER

    def invariant(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """The observation without x and y."""
        return obs[..., 2:]
