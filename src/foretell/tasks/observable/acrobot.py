"""MVE's acrobot: swing two links up with a motor at the joint between them (Sutton and Barto, section 11.3).

The state is the angle of the first link (rad; 0 hangs down), that of the second relative to the first, and both
velocities (rad/s); an observation has cosine and sine of the angles. The action is three preferences in [-1, 1]; the
greatest decides whether the torque is -1, 0 or 1 N m. One step is 0.2 s. An episode terminates when the tip is more
than 1 m above the pivot; until then each step costs 1.
"""

from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnasium.envs import classic_control
from jaxtyping import Array, Bool, Float

from foretell.registry import register
from foretell.tasks.base import Task
from foretell.tasks.observable.base import spec_of

DT = 0.2
MASS = LENGTH = INERTIA = 1.0
"""Of each link: kg, m, kg m^2."""
CENTRE, GRAVITY = 0.5, 9.8
"""Distance (m) of a link's centre of mass from its upper end; m/s^2."""
MAX_VELOCITIES = (4.0 * np.pi, 9.0 * np.pi)
GOAL_HEIGHT = 1.0

SPEC = spec_of("Acrobot", ("cos_1", "sin_1", "cos_2", "sin_2", "velocity_1", "velocity_2"), 3)


class AcrobotEnv(classic_control.AcrobotEnv):
    """The simulator, as a Gymnasium environment, which draws itself as Gymnasium's."""

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 5}  # noqa: RUF012
    state: Any

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (SPEC.obs_size,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (SPEC.action_size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.state = np.asarray(self.state, np.float64)
        return self._get_ob(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.state = advance(np.asarray(self.state), np.argmax(action) - 1.0)
        obs = self._get_ob()
        terminated = bool(height(obs) > GOAL_HEIGHT)
        if self.render_mode == "human":
            self.render()
        return obs, 0.0 if terminated else -1.0, terminated, False, {}

    def _get_ob(self) -> np.ndarray:
        first, second, *velocities = np.asarray(self.state)
        return np.array([np.cos(first), np.sin(first), np.cos(second), np.sin(second), *velocities])


@register("task", "mve-acrobot")
class Acrobot(Task):
    """What a model may know: reward and termination."""

    spec = SPEC
    any_horizon = True

    def simulator(self, *, render_mode: str | None = None) -> gymnasium.Env:
        return gymnasium.make(self.spec.env_id, render_mode=render_mode, disable_env_checker=True)

    def reward(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Float[Array, "*rows"]:
        """-1, or 0 if the tip is up."""
        return jnp.where(self.terminated(obs, action, next_obs), 0.0, -1.0)

    def terminated(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Bool[Array, "*rows"]:
        """Whether the tip is up."""
        return height(next_obs) > GOAL_HEIGHT

    def restore(self, env: gymnasium.Env, obs: np.ndarray) -> None:
        """Put a bare simulator into the state of an observation."""
        angles = np.arctan2(obs[1], obs[0]), np.arctan2(obs[3], obs[2])
        env.state = np.array([*angles, *obs[4:]])  # type: ignore[attr-defined]


def height(obs: Any) -> Any:
    """Height (m) of the tip above the pivot, of observations `[*rows, obs]` of NumPy or JAX."""
    cos_both = obs[..., 0] * obs[..., 2] - obs[..., 1] * obs[..., 3]
    return -obs[..., 0] - cos_both


def advance(
    state: Float[np.ndarray, "*rows 4"], torque: Float[np.ndarray, "*rows"] | float
) -> Float[np.ndarray, "*rows 4"]:
    """The states after one step by the Runge-Kutta method: angles in [-pi, pi], velocities within their limits."""
    first = rates(state, torque)
    second = rates(state + DT / 2 * first, torque)
    third = rates(state + DT / 2 * second, torque)
    fourth = rates(state + DT * third, torque)
    after = state + DT / 6 * (first + 2 * second + 2 * third + fourth)
    angles = (after[..., :2] + np.pi) % (2 * np.pi) - np.pi
    velocities = np.clip(after[..., 2:], np.negative(MAX_VELOCITIES), MAX_VELOCITIES)
    return np.concatenate([angles, velocities], -1)


def rates(
    state: Float[np.ndarray, "*rows 4"], torque: Float[np.ndarray, "*rows"] | float
) -> Float[np.ndarray, "*rows 4"]:
    """Derivatives of states: velocities and accelerations (Sutton and Barto, figure 11.4)."""
    one, two, speed, turn = np.moveaxis(state, -1, 0)
    arm, sine = MASS * LENGTH * CENTRE, np.sin(two)
    d2 = MASS * CENTRE**2 + arm * np.cos(two) + INERTIA
    d1 = MASS * (CENTRE**2 + LENGTH**2 + CENTRE**2) + 2 * arm * np.cos(two) + 2 * INERTIA
    phi2 = MASS * CENTRE * GRAVITY * np.cos(one + two - np.pi / 2)
    weight = (MASS * CENTRE + MASS * LENGTH) * GRAVITY * np.cos(one - np.pi / 2)
    phi1 = -arm * turn**2 * sine - 2 * arm * turn * speed * sine + weight + phi2
    pushed = torque + d2 / d1 * phi1 - arm * speed**2 * sine - phi2
    second = pushed / (MASS * CENTRE**2 + INERTIA - d2**2 / d1)
    return np.stack([speed, turn, -(d2 * second + phi1) / d1, second], -1)
