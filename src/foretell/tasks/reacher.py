"""The 7-DOF reacher of PETS (Chua et al. 2018): bring the hand of a PR2's arm to a point in space.

State: seven joint angles (rad), the goal's position (m), seven joint velocities. The goal is drawn at reset and stands
still. Actions are torques (N m) in [-20, 20]. One step is 0.02 s; an episode is 150 steps; nothing terminates it.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import gymnasium
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from foretell.registry import register
from foretell.tasks.base import TaskSpec
from foretell.tasks.mujoco import EditedMujocoEnv, MujocoTask, Step, drawing, set_state

JOINTS = ("shoulder_pan", "shoulder_lift", "upper_arm_roll", "elbow_flex", "forearm_roll", "wrist_flex", "wrist_roll")
"""Of the PR2's right arm, from the shoulder on."""
GOAL = slice(7, 10)
"""Indices of the goal in an observation."""
UPPER_ARM, FOREARM, HAND = 0.4, 0.321, 0.16828
"""Lengths (m) of the links that the shoulder, the elbow and the wrist turn."""
TORQUE = 20.0
ACTION_COST = 0.01
GOAL_MEAN = (0.0, 0.25, 0.0)
GOAL_STD = 0.1

SPEC = TaskSpec(
    env_id="foretell/Reacher3D-v0",
    obs_names=(*JOINTS, "goal_x", "goal_y", "goal_z", *(f"{name}_velocity" for name in JOINTS)),
    action_low=(-TORQUE,) * 7,
    action_high=(TORQUE,) * 7,
    horizon=150,
)


class ReacherEnv(EditedMujocoEnv):
    """The simulator, as a Gymnasium environment. The arm is that of Gymnasium's pusher, with a gripper."""

    metadata = drawing(50)

    def __init__(self, *, original_kinematics: bool = False, **kwargs: Any) -> None:
        """`original_kinematics`: compute the hand's position as Chua et al. (2018) did, see `hand`."""
        self._original_kinematics = original_kinematics
        camera = {"trackbodyid": 1, "distance": 2.5, "elevation": -30.0, "azimuth": 270.0}
        super().__init__("pusher.xml", SPEC, frame_skip=2, camera=camera, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """Turn the pusher's arm into the reacher's, as published by Chua et al. (2018)."""
        model.option.integrator = mujoco.mjtIntegrator.mjINT_RK4
        _remove_what_is_pushed(model)
        _change_the_arm(model)
        _add_gripper(model.body("r_wrist_roll_link"))
        _add_target(model.worldbody)
        for geom in model.geoms:
            geom.friction, geom.density = [0.5, 0.1, 0.1], 1000
        for motor in model.actuators:
            motor.ctrlrange = [-TORQUE, TORQUE]

    def step(self, action: np.ndarray) -> Step:
        self.simulate(action)
        obs = self._observation()
        gap = hand(obs, original=self._original_kinematics) - obs[GOAL]
        reward = -(gap @ gap) - ACTION_COST * np.square(action).sum()
        return obs, np.float64(reward), False, False, {}

    def reset_model(self) -> np.ndarray:
        qpos = self.init_qpos.copy()
        qpos[GOAL] = self.np_random.normal(GOAL_MEAN, GOAL_STD)
        self.set_state(qpos, self.init_qvel)
        return self._observation()

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel[:7]])


@register("task", "reacher")
@dataclass(eq=False, kw_only=True)
class Reacher(MujocoTask):
    """What a model may know: the reward.

    The goal is part of the observation. By default its change is predicted like that of any other number, as published.
    The reward is then computed with the imagined goal, which prediction errors move a little in the course of a
    rollout. The published planner used the true goal.
    """

    original_kinematics: bool = False
    """Compute the hand's position as published, in the reward and in the simulator; see `hand`."""
    predicts_goal: bool = True
    """Whether the model's predictions move the goal in imagination; else it stands still."""

    spec = SPEC
    any_horizon = True

    @property
    def env_options(self) -> dict[str, Any]:
        return {"original_kinematics": self.original_kinematics}

    def reward(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Float[Array, "*rows"]:
        """`-|hand - goal|^2 - 0.01 |action|^2` (Chua et al. 2018): the next hand, the present goal."""
        gap = hand(next_obs, original=self.original_kinematics) - obs[..., GOAL]
        return -jnp.square(gap).sum(-1) - ACTION_COST * jnp.square(action).sum(-1)

    def restore(self, env: gymnasium.Env, obs: np.ndarray) -> None:
        """Put a bare simulator into the state of an observation; the goal stands still."""
        set_state(env, obs[: GOAL.stop], np.concatenate([obs[GOAL.stop :], np.zeros(3)]))

    def advance(
        self, obs: Float[Array, "*rows obs"], output: Float[Array, "*rows target"]
    ) -> Float[Array, "*rows obs"]:
        if not self.predicts_goal:
            output = output.at[..., GOAL].set(0.0)
        return obs + output


def hand(
    angles: Float[Array | np.ndarray, "*rows angles"], *, original: bool = False
) -> Float[Array | np.ndarray, "*rows 3"]:
    """Position (m) of the point between the fingers.

    Each link turns about the axis of its hinge, a perpendicular `side` that the preceding roll has turned.

    Args:
        angles: joint angles (rad); the first six are those from shoulder to wrist.
        original: compute the next `side` by a cross product of the link's directions before and after the hinge, as
            published (Chua et al. 2018). For angles below zero, which the limits of elbow and wrist demand, the result
            is the same. Above zero its sign is wrong, and at zero it loses the roll. A learned model may predict both.
    """
    xp: ModuleType = angles.__array_namespace__()
    joints = xp.moveaxis(angles[..., :6], -1, 0)  # x, y and z are the first axis from here on: long rows are fast
    turns = xp.stack([xp.cos(joints), xp.sin(joints)], axis=1)
    (cos_pan, sin_pan), (cos_lift, sin_lift), roll, elbow, forearm_roll, wrist = turns
    zero = xp.zeros_like(cos_pan)
    axis = xp.stack([cos_lift * cos_pan, cos_lift * sin_pan, -sin_lift])
    side = xp.stack([-sin_pan, cos_pan, zero])
    point = xp.stack([0.1 * cos_pan, 0.1 * sin_pan - 0.188, zero]) + UPPER_ARM * axis
    for length, hinge, turn in ((FOREARM, elbow, roll), (HAND, wrist, forearm_roll)):
        axis, side = _bend(xp, axis, side, hinge, turn, original)
        point = point + length * axis
    return xp.moveaxis(point, 0, -1)


def _bend(xp: ModuleType, axis: Any, side: Any, hinge: Any, roll: Any, original: bool) -> tuple[Any, Any]:
    """Direction and perpendicular of a link, from those of the previous link; angles are (cosine, sine)."""
    (cos_hinge, sin_hinge), (cos_roll, sin_roll) = hinge, roll
    up = xp.cross(axis, side, axis=0)
    bent = cos_hinge * axis + sin_hinge * (sin_roll * side - cos_roll * up)
    if not original:
        return bent, cos_roll * side + sin_roll * up
    turned = xp.cross(bent, axis, axis=0)
    norm = xp.sqrt(xp.square(turned).sum(0))
    straight = norm < 1e-30
    return bent, xp.where(straight, side, turned / xp.where(straight, 1.0, norm))


def _remove_what_is_pushed(model: mujoco.MjSpec) -> None:
    fork = model.body("r_wrist_roll_link").geoms
    for element in (model.geom("table"), *(model.body(name) for name in ("object", "goal", "tips_arm")), *fork):
        model.delete(element)


def _change_the_arm(model: mujoco.MjSpec) -> None:
    model.body("r_shoulder_pan_link").pos = [0, -0.188, 0]
    model.geom("fa").fromto = [0, 0, 0, 0.321, 0, 0]
    for name in ("shoulder_pan", "shoulder_lift", "elbow_flex"):
        joint = model.joint(f"r_{name}_joint")
        joint.damping = 10 * joint.damping
    for name in ("forearm_roll", "wrist_roll"):
        model.joint(f"r_{name}_joint").limited = mujoco.mjtLimited.mjLIMITED_FALSE
    model.joint("r_upper_arm_roll_joint").range = [-3.9, 0.8]
    model.joint("r_wrist_flex_joint").range = [-2.094, 0]


def _add_gripper(wrist: mujoco.MjsBody) -> None:
    _add_capsule(wrist, "wr", 0.01, [-0.02, 0, 0, 0.02, 0, 0])
    palm = wrist.add_body(name="r_gripper_palm_link")
    _add_capsule(palm, "pl", 0.05, [0.05, 0, -0.02, 0.05, 0, 0.02])
    for name, sign in (("l", 1), ("r", -1)):
        bend = [0.09137, sign * 0.00495, 0]
        finger = palm.add_body(name=f"r_gripper_{name}_finger_link", pos=[0.07691, sign * 0.03, 0])
        _add_capsule(finger, f"{name}f", 0.01, [0, 0, 0, *bend])
        tip = finger.add_body(name=f"r_gripper_{name}_finger_tip_link", pos=bend)
        _add_capsule(tip, f"{name}ft", 0.01, [0, 0, 0, 0.09137, 0, 0])


def _add_capsule(body: mujoco.MjsBody, name: str, radius: float, ends: list[int | float]) -> None:
    body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[radius, 0, 0], fromto=ends)


def _add_target(world: mujoco.MjsBody) -> None:
    """A ball at the goal. Its joints' references make their positions those in the world."""
    body = world.add_body(name="target", pos=GOAL_MEAN)
    body.add_geom(name="target", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.035, 0, 0], rgba=[0.9, 0.2, 0.15, 1])
    for axis, name in enumerate("xyz"):
        joint = body.add_joint(name=f"target_{name}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=np.eye(3)[axis])
        joint.limited = mujoco.mjtLimited.mjLIMITED_FALSE
        joint.armature, joint.damping, joint.ref = 0, 0 * joint.damping, GOAL_MEAN[axis]
