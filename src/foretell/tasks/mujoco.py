"""What the MuJoCo tasks share: environments whose model is a file that is edited in memory, and their tasks."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv

from foretell.tasks.base import Task, TaskSpec

Step = tuple[np.ndarray, np.float64, bool, bool, dict[str, np.float64]]
"""What `step` returns: observation, reward, terminated, truncated, information."""

FOLLOWING = "follow"
"""Name of the camera that follows a body."""


class EditedMujocoEnv(MujocoEnv):
    """A MuJoCo environment whose model is a file, changed by `edit` before it is compiled."""

    def __init__(
        self, model: str | Path, task: TaskSpec, *, frame_skip: int, camera: dict[str, Any], **kwargs: Any
    ) -> None:
        """Load, edit and compile the model.

        Args:
            model: a path, or the name of a file among Gymnasium's own models.
            task: has the size of observations.
            frame_skip: steps of MuJoCo per step of the environment.
            camera: Gymnasium's `default_camera_config`; unlike Gymnasium's, the camera follows a positive
                `trackbodyid`.
            kwargs: of `MujocoEnv`.
        """
        space = gymnasium.spaces.Box(-np.inf, np.inf, (task.obs_size,), np.float64)
        self._camera = camera
        if camera["trackbodyid"] > 0:
            camera = {"type": mujoco.mjtCamera.mjCAMERA_TRACKING, **camera}
            kwargs = {"camera_name": None if "camera_id" in kwargs else FOLLOWING, **kwargs}
        super().__init__(str(model), frame_skip, observation_space=space, default_camera_config=camera, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """Change the parsed model in place; nothing unless overridden. Runs before the constructor returns.

        Defaults are resolved when the file is parsed, so a property of all elements must be set on each of them.
        """

    def simulate(self, action: np.ndarray) -> None:
        """Advance the physics by one step, and draw it if there is a window."""
        self.do_simulation(action, self.frame_skip)
        if self.render_mode == "human":
            self.render()

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        parsed = mujoco.MjSpec.from_file(self.fullpath)
        self.edit(parsed)
        if self._camera["trackbodyid"] > 0:
            _add_camera(parsed.bodies[self._camera["trackbodyid"]], self._camera)
        with warnings.catch_warnings():
            # Of the half-cheetah's file, which is Gymnasium's.
            warnings.filterwarnings("ignore", "compiler attribute 'settotalmass' is deprecated")
            model = parsed.compile()
        screen = model.vis.global_
        screen.offwidth, screen.offheight = max(screen.offwidth, self.width), max(screen.offheight, self.height)
        return model, mujoco.MjData(model)


class MujocoTask(Task):
    """A task whose environment this package registers with Gymnasium."""

    @property
    def env_options(self) -> dict[str, Any]:
        """Arguments of the environment, other than those for rendering."""
        return {}

    def simulator(self, *, render_mode: str | None = None) -> gymnasium.Env:
        env = gymnasium.make(self.spec.env_id, render_mode=render_mode, disable_env_checker=True, **self.env_options)
        if render_mode:
            without_end(env.unwrapped.model)  # type: ignore[attr-defined]
        return env


def set_state(env: gymnasium.Env, qpos: np.ndarray, qvel: np.ndarray) -> None:
    """Put a bare MuJoCo environment into a state; nothing of its last state remains.

    Args:
        env: the environment.
        qpos: positions of the joints (m, rad).
        qvel: velocities of the joints (m/s, rad/s).
    """
    env.data.qacc_warmstart[:] = 0.0  # type: ignore[attr-defined]
    env.set_state(qpos, qvel)  # type: ignore[attr-defined]


def drawing(fps: int) -> dict[str, Any]:
    """Gymnasium's metadata of an environment with `fps` steps per second."""
    return {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": fps}


def without_end(model: mujoco.MjModel) -> None:
    """Draw floors without an edge, as they are in the physics; in Gymnasium's models they are drawn with one."""
    for floor in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        size, material = model.geom_size[floor, :2], model.geom_matid[floor]
        if size.all() and material >= 0:
            model.mat_texrepeat[material] /= 2.0 * size  # from repeats over the whole floor to repeats per metre
        size[:] = 0.0


def _add_camera(body: mujoco.MjsBody, view: dict[str, Any]) -> None:
    """Add a camera that moves with a body, does not turn with it, and looks at the origin of its frame."""
    elevation, azimuth = np.radians([view["elevation"], view["azimuth"]])
    heading = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    forward = np.cos(elevation) * heading + [0, 0, np.sin(elevation)]
    right = np.cross(heading, [0, 0, 1])
    axes = [*right, *np.cross(right, forward)]
    mode = mujoco.mjtCamLight.mjCAMLIGHT_TRACK
    body.add_camera(name=FOLLOWING, mode=mode, pos=-view["distance"] * forward, xyaxes=axes)
