"""MVE's ant: a torso on four legs, with contact forces in the observation.

The observation has the torso's position along x (m), all joint positions (m, quaternion, rad), all velocities (m/s,
rad/s), and torque and force of contacts on each of the 14 bodies, clipped to [-1, 1]. The first body is the floor, on
which MuJoCo counts none; its six numbers are always 0. One step is 0.05 s. A fall or jump terminates the episode.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from foretell.registry import register
from foretell.tasks.mujoco import drawing
from foretell.tasks.observable.base import TORSO, Runner, RunnerEnv, RunnerTask, spec_of, view

BODIES = 14
HEIGHT = 3
"""Index of the torso's height in an observation."""
STATE, FORCES = slice(1, 30), slice(30, 114)
"""Indices of positions and velocities of the joints, and of contact forces, in an observation."""
HEIGHTS = (0.2, 1.0)
"""Heights (m) of the torso that do not terminate the episode."""
CONTACT_COST = 0.5e-3
"""Cost per squared contact force."""

_JOINTS = tuple(f"{joint}_{leg}" for leg in (1, 2, 3, 4) for joint in ("hip", "ankle"))
AXES = tuple(f"{kind}_{axis}" for kind in ("torque", "force") for axis in "xyz")
ROOT = ("x", "y", "z", "quat_w", "quat_x", "quat_y", "quat_z")
ROOT_VELOCITY = ("x_velocity", "y_velocity", "z_velocity", "spin_x", "spin_y", "spin_z")
"""Names of the coordinates of a body that moves freely, and of their velocities."""

ANT = Runner(
    spec=spec_of(
        "Ant",
        (
            *("torso_x", *ROOT, *_JOINTS),
            *(*ROOT_VELOCITY, *(f"{joint}_velocity" for joint in _JOINTS)),
            *(f"contact_{body}_{axis}" for body in range(BODIES) for axis in AXES),
        ),
        8,
    ),
    model="ant.xml",
    frame_skip=5,
    dt=0.05,
    noise=0.1,
    normal_velocities=True,
    bonus=1.0,
    action_cost=0.5,
    first=1,
)


class AntEnv(RunnerEnv):
    """The simulator, as a Gymnasium environment."""

    runner = ANT
    metadata = drawing(20)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(view(5.0, elevation=-30.0), **kwargs)

    def _observation(self) -> np.ndarray:
        x = self.data.xpos[TORSO, :1]
        return np.concatenate([x, self.data.qpos, self.data.qvel, self._contact_forces()])

    def _contact_cost(self) -> float:
        return CONTACT_COST * np.square(self._contact_forces()).sum()

    def _fallen(self, obs: np.ndarray) -> bool:
        lowest, highest = HEIGHTS
        return not (np.isfinite(obs[STATE]).all() and lowest <= obs[HEIGHT] <= highest)


@register("task", "mve-ant")
@dataclass(eq=False, kw_only=True)
class Ant(RunnerTask):
    """What a model may know of the ant."""

    spec = ANT.spec
    runner: ClassVar = ANT

    def terminated(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Bool[Array, "*rows"]:
        """Whether the torso is too low or too high, or the state is not finite."""
        (lowest, highest), height = HEIGHTS, next_obs[..., HEIGHT]
        return ~(jnp.isfinite(next_obs[..., STATE]).all(-1) & (height >= lowest) & (height <= highest))

    def contact_cost(self, next_obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows"]:
        """`0.0005 |contact forces|^2`."""
        return CONTACT_COST * jnp.square(next_obs[..., FORCES]).sum(-1)

    def invariant(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """The observation without the torso's x, and without x and y of its joint."""
        return obs[..., 3:]
