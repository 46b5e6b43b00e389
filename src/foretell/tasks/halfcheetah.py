"""The half-cheetah of PETS (Chua et al. 2018): run forward as fast as possible.

State: forward velocity over the last step (m/s), height (m), pitch (rad), six joint angles, and the nine velocities
of position, height, pitch and joints. Actions are motor commands in [-1, 1]. One step is 0.05 s; an episode is 1000
steps; nothing terminates it.
"""

from typing import Any

import gymnasium
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from foretell.registry import register
from foretell.tasks.base import TaskSpec
from foretell.tasks.mujoco import EditedMujocoEnv, MujocoTask, Step, drawing, set_state

JOINTS = ("back_thigh", "back_shin", "back_foot", "front_thigh", "front_shin", "front_foot")
ACTION_COST = 0.1
RESET_STD = 0.001
CAMERA = {"trackbodyid": 1, "distance": 3.0, "elevation": -55.0, "azimuth": 90.0}
"""The camera of all half-cheetahs."""

SPEC = TaskSpec(
    env_id="foretell/HalfCheetah-v0",
    obs_names=("speed", "z", "pitch", *JOINTS, *(f"{name}_velocity" for name in ("x", "z", "pitch", *JOINTS))),
    action_low=(-1.0,) * 6,
    action_high=(1.0,) * 6,
    horizon=1000,
)


class HalfCheetahEnv(EditedMujocoEnv):
    """The simulator, as a Gymnasium environment. The model is Gymnasium's own."""

    metadata = drawing(20)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("half_cheetah.xml", SPEC, frame_skip=5, camera=CAMERA, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """A longer floor."""
        draw_floor(model)

    def step(self, action: np.ndarray) -> Step:
        start = self.data.qpos[0]
        self.simulate(action)
        speed = (self.data.qpos[0] - start) / self.dt
        reward = speed - ACTION_COST * np.square(action).sum()
        return self._observation(speed), np.float64(reward), False, False, {}

    def reset_model(self) -> np.ndarray:
        noise = self.np_random.normal(0.0, RESET_STD, self.model.nq + self.model.nv)
        self.set_state(self.init_qpos + noise[: self.model.nq], noise[self.model.nq :])
        return self._observation(0.0)

    def _observation(self, speed: float) -> np.ndarray:
        return np.concatenate([[speed], self.data.qpos[1:], self.data.qvel])


def draw_floor(model: mujoco.MjSpec) -> None:
    """Draw the floor, which has no edge in the physics, as far as a cheetah can run."""
    model.geom("floor").size[0] *= 25
    model.material("MatPlane").texrepeat[0] *= 25
    model.stat.extent = 8


@register("task", "halfcheetah")
class HalfCheetah(MujocoTask):
    """What a model may know: the reward, and that the dynamics depend on the pitch's sine and cosine."""

    spec = SPEC
    any_horizon = True

    def reward(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Float[Array, "*rows"]:
        """Speed (m/s) `- 0.1 |action|^2` (Chua et al. 2018)."""
        return next_obs[..., 0] - ACTION_COST * jnp.square(action).sum(-1)

    def restore(self, env: gymnasium.Env, obs: np.ndarray) -> None:
        """Put a bare simulator into the state of an observation, at the start of the track."""
        set_state(env, np.concatenate([[0.0], obs[1:9]]), obs[9:])

    def features(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """`(z, sin pitch, cos pitch, ...)`, without the speed over the last step."""
        height, pitch, rest = obs[..., 1:2], obs[..., 2:3], obs[..., 3:]
        return jnp.concatenate([height, jnp.sin(pitch), jnp.cos(pitch), rest], -1)

    def target(
        self, obs: Float[Array, "*rows obs"], next_obs: Float[Array, "*rows obs"]
    ) -> Float[Array, "*rows target"]:
        """The next speed, and the change of everything else."""
        return next_obs - obs.at[..., 0].set(0.0)

    def advance(
        self, obs: Float[Array, "*rows obs"], output: Float[Array, "*rows target"]
    ) -> Float[Array, "*rows obs"]:
        return obs.at[..., 0].set(0.0) + output
