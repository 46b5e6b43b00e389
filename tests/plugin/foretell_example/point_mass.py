"""A mass on a rail, to be brought to rest in the middle."""

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from foretell.registry import register
from foretell.tasks import Task, TaskSpec

SECONDS = 0.2
"""Of one step."""


class PointMassEnv(gymnasium.Env):
    """The simulator. The action is the acceleration."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.velocity = self.np_random.uniform(-1.0, 1.0, 2)
        return self._observation(), {}

    def step(self, action):
        self.velocity += SECONDS * float(action[0])
        self.position += SECONDS * self.velocity
        reward = -(self.position**2) - 0.1 * self.velocity**2
        return self._observation(), reward, False, False, {}

    def _observation(self):
        return np.array([self.position, self.velocity], np.float32)


@register("task", "point-mass")
class PointMass(Task):
    """Its reward is known."""

    spec = TaskSpec(
        env_id="example/PointMass-v0",
        obs_names=("position", "velocity"),
        action_low=(-1.0,),
        action_high=(1.0,),
        horizon=25,
    )
    any_horizon = True

    def simulator(self, *, render_mode=None):
        return PointMassEnv()

    def reward(self, obs, action, next_obs):
        return -jnp.square(next_obs[..., 0]) - 0.1 * jnp.square(next_obs[..., 1])
