"""MVE's pusher: push a cylinder on a table to a goal with a PR2's arm. Nothing terminates an episode.

The observation has the positions of all joints (rad; m) and their velocities: the arm's seven, the object's two (y, x)
and the goal's two; then the positions (m) of the arm's tip, the object and the goal. Actions stand for torques in
[-2, 2] N m. One step is 0.05 s.
"""

from typing import Any

import gymnasium
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from foretell.registry import register
from foretell.tasks.mujoco import MujocoTask, Step, drawing, set_state
from foretell.tasks.observable.base import ObservableEnv, spec_of, with_velocities
from foretell.tasks.pusher import JOINTS, make_pushable

POSITIONS = 11
"""Joint positions, and as many velocities, in an observation."""
TIP, OBJECT, GOAL = slice(22, 25), slice(25, 28), slice(28, 31)
"""Indices of the positions in an observation."""
TORQUE = 2.0
"""Of the action 1 (N m)."""
NEAR_COST, ACTION_COST = 0.5, 0.1
OBJECT_LOW, OBJECT_HIGH = (-0.3, -0.2), (0.0, 0.2)
"""Bounds of the object's position at reset (m), along y and along x, from the goal."""
LEAST_GAP = 0.17
"""Distance (m) from the goal at reset that the object must exceed."""
VELOCITY_RANGE = 0.005
"""Bound of the arm's joint velocities at reset (rad/s), on either side of zero."""

SPEC = spec_of(
    "Pusher",
    (
        *with_velocities((*JOINTS, "object_slide_y", "object_slide_x", "goal_slide_y", "goal_slide_x")),
        *(f"{body}_{axis}" for body in ("tip", "object", "goal") for axis in "xyz"),
    ),
    len(JOINTS),
)


class PusherEnv(ObservableEnv):
    """The simulator, as a Gymnasium environment. The reward of a step is that of the state it starts from, as in Gym.

    The object has a mass, as in the pusher of PETS. In Gymnasium its inertia is an armature of its joints, and since
    version 3 of MuJoCo the arm passes through it.
    """

    task = SPEC
    motor = TORQUE
    metadata = drawing(20)

    def __init__(self, **kwargs: Any) -> None:
        camera = {"trackbodyid": -1, "distance": 4.0}
        super().__init__("pusher_v5.xml", SPEC, frame_skip=5, camera=camera, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """An object of the same inertia that can be pushed."""
        make_pushable(model)

    def step(self, action: np.ndarray) -> Step:
        action = np.asarray(action, np.float64)
        reward = self._reward(action)
        self.advance(action)
        return self._observation(), reward, False, False, {}

    def reset_model(self) -> np.ndarray:
        qpos, qvel, rng = self.init_qpos.copy(), self.init_qvel.copy(), self.np_random
        while np.linalg.norm(place := rng.uniform(OBJECT_LOW, OBJECT_HIGH)) <= LEAST_GAP:
            pass
        qpos[-4:] = (*place, 0.0, 0.0)
        qvel[:-4] = rng.uniform(-VELOCITY_RANGE, VELOCITY_RANGE, len(JOINTS))
        self.set_state(qpos, qvel)
        return self._observation()

    def _reward(self, action: np.ndarray) -> np.float64:
        tip, thing, goal = self._places()
        far, near = np.linalg.norm(thing - goal), np.linalg.norm(thing - tip)
        return np.float64(-far - NEAR_COST * near - ACTION_COST * np.square(TORQUE * action).sum())

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel, *self._places()])

    def _places(self) -> list[np.ndarray]:
        """Positions (m) of the tip, the object and the goal."""
        return [self.data.body(name).xpos for name in ("tips_arm", "object", "goal")]


@register("task", "mve-pusher")
class Pusher(MujocoTask):
    """What a model may know: the reward."""

    spec = SPEC
    any_horizon = True

    def reward(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Float[Array, "*rows"]:
        """`-|object - goal| - 0.5 |object - tip| - 0.1 |torque|^2`, of the state before the step."""
        thing = obs[..., OBJECT]
        far, near = (jnp.linalg.norm(thing - obs[..., other], axis=-1) for other in (GOAL, TIP))
        return -far - NEAR_COST * near - ACTION_COST * jnp.square(TORQUE * action).sum(-1)

    def restore(self, env: gymnasium.Env, obs: np.ndarray) -> None:
        """Put a bare simulator into the state of an observation."""
        set_state(env, obs[:POSITIONS], obs[POSITIONS : 2 * POSITIONS])
