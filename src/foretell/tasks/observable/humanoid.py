"""MVE's humanoid: a body that is to run upright, with inertias, forces and centres of mass in the observation.

The observation has all joint positions (m, quaternion, rad), all velocities (m/s, rad/s), inertia (10 numbers) and
velocity (6) of each of the 14 bodies, the motors' torques (N m) on all 23 coordinates, torque and force of contacts on
each body, clipped to [-1, 1], and the position (m) of each body's centre of mass. The first body is the floor; its
numbers, and the torques on the six coordinates without a motor, are always 0. Actions stand for motor commands in
[-0.4, 0.4]. One step is 0.015 s. A fall or jump terminates the episode.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import gymnasium.envs.mujoco
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float

from foretell.registry import register
from foretell.tasks.mujoco import drawing
from foretell.tasks.observable.ant import AXES, BODIES, ROOT, ROOT_VELOCITY
from foretell.tasks.observable.base import Runner, RunnerEnv, RunnerTask, spec_of, view

HEIGHT = 2
"""Index of the torso's height in an observation."""
FORCES, CENTRES = slice(294, 378), slice(378, 420)
"""Indices of contact forces and of centres of mass in an observation."""
HEIGHTS = (1.0, 2.0)
"""Heights (m) of the torso that do not terminate the episode."""
CONTACT_COST, MAX_CONTACT_COST = 0.5e-6, 10.0
"""Cost per squared contact force, and its limit."""

_HIP = ("hip_x", "hip_z", "hip_y", "knee")
_ARM = ("shoulder1", "shoulder2", "elbow")
_SIDES = ("right", "left")
_JOINTS = (
    *("abdomen_z", "abdomen_y", "abdomen_x"),
    *(f"{side}_{joint}" for side in _SIDES for joint in _HIP),
    *(f"{side}_{joint}" for side in _SIDES for joint in _ARM),
)
_SPEEDS = (*ROOT_VELOCITY, *(f"{joint}_velocity" for joint in _JOINTS))


def _each_body(name: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}_{body}_{part}" for body in range(BODIES) for part in parts)


HUMANOID = Runner(
    spec=spec_of(
        "Humanoid",
        (
            *(*ROOT, *_JOINTS, *_SPEEDS),
            *_each_body("inertia", tuple(map(str, range(10)))),
            *_each_body("velocity", ("spin_x", "spin_y", "spin_z", "x", "y", "z")),
            *(f"motor_{speed.removesuffix('_velocity')}" for speed in _SPEEDS),
            *_each_body("contact", AXES),
            *_each_body("com", ("x", "y", "z")),
        ),
        17,
    ),
    model="humanoid.xml",
    frame_skip=5,
    dt=0.015,
    noise=0.005,
    motor=0.4,
    weight=1.25,
    bonus=5.0,
    action_cost=0.1,
)


class HumanoidEnv(RunnerEnv):
    """The simulator, as a Gymnasium environment."""

    runner = HUMANOID
    metadata = drawing(67)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(view(4.0), **kwargs)

    def _observation(self) -> np.ndarray:
        data = self.data
        bodies = (data.cinert.ravel(), data.cvel.ravel(), data.qfrc_actuator, self._contact_forces())
        return np.concatenate([data.qpos, data.qvel, *bodies, data.xipos.ravel()])

    def _place(self) -> np.float64:
        """The centre of mass of the whole body."""
        mass = self.model.body_mass
        return mass @ self.data.xipos[:, 0] / mass.sum()

    def _contact_cost(self) -> float:
        return min(CONTACT_COST * np.square(self._contact_forces()).sum(), MAX_CONTACT_COST)

    def _fallen(self, obs: np.ndarray) -> bool:
        lowest, highest = HEIGHTS
        return not lowest <= obs[HEIGHT] <= highest


@register("task", "mve-humanoid")
@dataclass(eq=False, kw_only=True)
class Humanoid(RunnerTask):
    """What a model may know of the humanoid. Its reward is `0.25 / 0.003` times the way of its centre of mass, as
    published: 0.003 s is one of MuJoCo's five steps."""

    spec = HUMANOID.spec
    runner: ClassVar = HUMANOID

    def terminated(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Bool[Array, "*rows"]:
        """Whether the torso is too low or too high."""
        (lowest, highest), height = HEIGHTS, next_obs[..., HEIGHT]
        return ~((height >= lowest) & (height <= highest))

    def progress(self, obs: Float[Array, "*rows obs"], next_obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows"]:
        """How far (m) the centre of mass has moved along x.

        It is the mean of the bodies' ways, whose rounding is less than that of the difference of two means.
        """
        return (jnp.asarray(shares()) * (next_obs - obs)[..., CENTRES][..., ::3]).sum(-1)

    def contact_cost(self, next_obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows"]:
        """`0.0000005 |contact forces|^2`, at most 10."""
        return jnp.minimum(CONTACT_COST * jnp.square(next_obs[..., FORCES]).sum(-1), MAX_CONTACT_COST)

    def invariant(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """Without x and y; centres of mass, but for the floor's, are relative to them."""
        centres = obs[..., CENTRES].reshape(*obs.shape[:-1], BODIES, 3)[..., 1:, :]
        moved = centres - obs[..., None, :3] * jnp.array([1.0, 1.0, 0.0])
        return jnp.concatenate([obs[..., 2 : CENTRES.start], moved.reshape(*obs.shape[:-1], -1)], -1)


@cache
def shares() -> Float[np.ndarray, "bodies"]:
    """The share of each body in the whole mass."""
    path = Path(gymnasium.envs.mujoco.__file__).parent / "assets" / HUMANOID.model
    mass = mujoco.MjModel.from_xml_path(str(path)).body_mass
    return mass / mass.sum()
