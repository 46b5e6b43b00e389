"""The 7-DOF pusher of PETS (Chua et al. 2018): push a cylinder on a table to a fixed place with a PR2's arm.

State: seven joint angles (rad), seven joint velocities, the positions (m) of the arm's tip and of the object. Actions
are torques (N m) in [-2, 2]. One step is 0.04 s; an episode is 150 steps; nothing terminates it.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from foretell.registry import register
from foretell.tasks.base import TaskSpec
from foretell.tasks.mujoco import EditedMujocoEnv, MujocoTask, Step, drawing

JOINTS = ("shoulder_pan", "shoulder_lift", "upper_arm_roll", "elbow_flex", "forearm_roll", "wrist_flex", "wrist_roll")
"""Of the PR2's right arm, from the shoulder on."""
TIP, OBJECT = slice(14, 17), slice(17, 20)
"""Indices of the positions in an observation."""
GOAL = (0.45, -0.05, -0.323)
"""Target position of the object's centre (m). It is not reachable: the object moves in a plane 0.048 m above it."""
NEAR_COST, GOAL_COST, ACTION_COST = 0.5, 1.25, 0.1
OBJECT_MEAN, OBJECT_STD = (-0.25, 0.15), 0.025
"""Mean and standard deviation of the object's position at reset (m), along y and along x, from the goal."""
VELOCITY_RANGE = 0.005
"""Bound of the arm's joint velocities at reset (rad/s), on either side of zero."""
OBJECT_MASS = 0.04
"""In kg, equivalent to an armature of 0.04 on both of the object's joints."""

SPEC = TaskSpec(
    env_id="foretell/Pusher-v0",
    obs_names=(
        *JOINTS,
        *(f"{name}_velocity" for name in JOINTS),
        *(f"{body}_{axis}" for body in ("tip", "object") for axis in "xyz"),
    ),
    action_low=(-2.0,) * 7,
    action_high=(2.0,) * 7,
    horizon=150,
)


class PusherEnv(EditedMujocoEnv):
    """The simulator, as a Gymnasium environment.

    As published, the reward of a step is that of the state it starts from. Positions of bodies are those at the start
    of the last of MuJoCo's four steps, 0.01 s older than the joint angles.
    """

    metadata = drawing(25)

    def __init__(self, *, wrist_tip: bool = False, original_object: bool = False, **kwargs: Any) -> None:
        """Make the published task; the object has an equivalent mass, so that it can be pushed.

        Args:
            wrist_tip: the arm's tip is the wrist, as in ports to later versions of Gym. In the published task it is the
                middle between the fork's tips.
            original_object: the object has no mass, and its joints have an armature instead, as published. Since
                version 3 MuJoCo computes no contact forces for such an object, and the arm passes through it.
            kwargs: of `EditedMujocoEnv`.
        """
        self._wrist_tip, self._original_object = wrist_tip, original_object
        camera = {"trackbodyid": -1, "distance": 4.0}
        super().__init__("pusher.xml", SPEC, frame_skip=4, camera=camera, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """The published limit of the shoulder, and an object of the same inertia that can be pushed."""
        model.joint("r_shoulder_pan_joint").range[1] = 2.0
        if not self._original_object:
            make_pushable(model)

    def step(self, action: np.ndarray) -> Step:
        reward = self._reward(action)
        self.simulate(action)
        return self._observation(), reward, False, False, {}

    def reset_model(self) -> np.ndarray:
        qpos, qvel = self.init_qpos.copy(), self.init_qvel.copy()
        qpos[7:9] = self.np_random.normal(OBJECT_MEAN, OBJECT_STD)
        qvel[:7] = self.np_random.uniform(-VELOCITY_RANGE, VELOCITY_RANGE, 7)
        self.set_state(qpos, qvel)
        return self._observation()

    def _reward(self, action: np.ndarray) -> np.float64:
        thing = self._position("object")
        near, far = np.abs(thing - self._tip()).sum(), np.abs(thing - self._position("goal")).sum()
        return np.float64(-NEAR_COST * near - GOAL_COST * far - ACTION_COST * np.square(action).sum())

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.data.qpos[:7], self.data.qvel[:7], self._tip(), self._position("object")])

    def _tip(self) -> np.ndarray:
        return self.data.body("tips_arm").xpos if self._wrist_tip else self._position("tips_arm")

    def _position(self, body: str) -> np.ndarray:
        """Centre of mass (m) of a body and its children, which Gym then returned as the position of a body."""
        return self.data.body(body).subtree_com


def make_pushable(model: mujoco.MjSpec) -> None:
    """Give the object a mass of the same inertia in place of its joints' armature, on which no contact acts."""
    for joint in model.body("object").joints:
        joint.armature = 0
    for geom in model.body("object").geoms:
        geom.mass = OBJECT_MASS if geom.type == mujoco.mjtGeom.mjGEOM_CYLINDER else 0


@register("task", "pusher")
@dataclass(eq=False, kw_only=True)
class Pusher(MujocoTask):
    """What a model may know: the reward, of the state after a step instead of the state before it."""

    wrist_tip: bool = False
    original_object: bool = False
    """Both as for `PusherEnv`."""

    spec = SPEC
    any_horizon = True

    @property
    def env_options(self) -> dict[str, Any]:
        return {"wrist_tip": self.wrist_tip, "original_object": self.original_object}

    def reward(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Float[Array, "*rows"]:
        """`-0.5 |tip - object|_1 - 1.25 |goal - object|_1 - 0.1 |action|^2` (Chua et al. 2018)."""
        tip, thing = next_obs[..., TIP], next_obs[..., OBJECT]
        near, far = jnp.abs(tip - thing).sum(-1), jnp.abs(jnp.array(GOAL) - thing).sum(-1)
        return -NEAR_COST * near - GOAL_COST * far - ACTION_COST * jnp.square(action).sum(-1)
