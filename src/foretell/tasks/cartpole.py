"""The cartpole swing-up of PETS (Chua et al. 2018): bring the pole's tip above the rail and hold it there.

State: cart position (m), pole angle (rad; 0 hangs down, unbounded), and their velocities. The action is a motor
command in [-3, 3], worth 100 N a unit. One step is 0.04 s; an episode is 200 steps; nothing terminates it.
"""

from pathlib import Path
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from foretell.registry import register
from foretell.tasks.base import TaskSpec
from foretell.tasks.mujoco import EditedMujocoEnv, MujocoTask, Step, drawing, set_state

POLE_LENGTH = 0.6
ACTION_COST = 0.01
RESET_STD = 0.1

SPEC = TaskSpec(
    env_id="foretell/Cartpole-v0",
    obs_names=("x", "theta", "x_velocity", "theta_velocity"),
    action_low=(-3.0,),
    action_high=(3.0,),
    horizon=200,
)


class CartpoleEnv(EditedMujocoEnv):
    """The simulator, as a Gymnasium environment."""

    metadata = drawing(25)

    def __init__(self, **kwargs: Any) -> None:
        model = Path(__file__).parent / "assets" / "cartpole.xml"
        camera = {"trackbodyid": 0, "distance": 3.6, "elevation": -8.0, "azimuth": 90.0}
        super().__init__(model, SPEC, frame_skip=2, camera=camera, **kwargs)

    def step(self, action: np.ndarray) -> Step:
        self.simulate(action)
        obs = self._observation()
        x, theta = obs[:2]
        gap = np.array([x - POLE_LENGTH * np.sin(theta), -POLE_LENGTH * np.cos(theta) - POLE_LENGTH])
        reward = np.exp(-(gap @ gap) / POLE_LENGTH**2) - ACTION_COST * np.square(action).sum()
        return obs, np.float64(reward), False, False, {}

    def reset_model(self) -> np.ndarray:
        noise = self.np_random.normal(0.0, RESET_STD, self.model.nq + self.model.nv)
        self.set_state(noise[: self.model.nq], noise[self.model.nq :])
        return self._observation()

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])


@register("task", "cartpole")
class Cartpole(MujocoTask):
    """What a model may know: the reward, and that the dynamics depend on the angle's sine and cosine."""

    spec = SPEC
    any_horizon = True

    def reward(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Float[Array, "*rows"]:
        """`exp(-|tip - goal|^2 / 0.36) - 0.01 |action|^2`, at most 1 (Chua et al. 2018)."""
        tip_x, tip_z = tip(next_obs)
        gap = jnp.square(tip_x) + jnp.square(tip_z - POLE_LENGTH)
        return jnp.exp(-gap / POLE_LENGTH**2) - ACTION_COST * jnp.square(action).sum(-1)

    def restore(self, env: gymnasium.Env, obs: np.ndarray) -> None:
        """Put a bare simulator into the state of an observation."""
        set_state(env, obs[:2], obs[2:])

    def features(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """`(sin theta, cos theta, x, x', theta')`."""
        x, theta, x_velocity, theta_velocity = jnp.moveaxis(obs, -1, 0)
        return jnp.stack([jnp.sin(theta), jnp.cos(theta), x, x_velocity, theta_velocity], -1)


def tip(obs: Float[Array, "*rows obs"]) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
    """Horizontal and vertical position (m) of the pole's tip."""
    return obs[..., 0] - POLE_LENGTH * jnp.sin(obs[..., 1]), -POLE_LENGTH * jnp.cos(obs[..., 1])
