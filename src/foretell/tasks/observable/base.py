"""What the robots of MVE (Feinberg et al. 2018) share: simulators whose observations hold their whole state.

Value expansion needs the reward as a function R(s, a, s') of observations, and the true model must be able to begin
from one. Gym's observations omit where a robot is along the floor, and more. Here they are complete.

Actions are in [-1, 1]. The models are Gymnasium's. A step depends on nothing but the observed state and the action,
which takes two departures from Gym: the solver of contacts does not start from the forces of the step before, and
positions and velocities of bodies are those at the end of the step, which in Gym are one of MuJoCo's steps older.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from foretell.tasks.base import TaskSpec
from foretell.tasks.mujoco import EditedMujocoEnv, MujocoTask, Step, set_state

HORIZON = 1000
TORSO = 1
"""Index of the root body."""
Inputs = Literal["invariant", "raw"]
"""What networks see, see `RunnerTask`."""


def spec_of(name: str, seen: tuple[str, ...], actions: int) -> TaskSpec:
    """The spec of a robot with actions in [-1, 1]."""
    return TaskSpec(f"foretell/Observable{name}-v0", seen, (-1.0,) * actions, (1.0,) * actions, HORIZON)


def with_velocities(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of coordinates, then those of their velocities."""
    return (*names, *(f"{name}_velocity" for name in names))


def view(distance: float, elevation: float = -20.0) -> dict[str, Any]:
    """A camera that follows the torso from this distance (m), looking down by this angle (degrees)."""
    return {"trackbodyid": TORSO, "distance": distance, "elevation": elevation, "azimuth": 90.0}


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The numbers of a robot that is to run along x: of its simulator and of its reward."""

    spec: TaskSpec
    model: str
    """Name of a file among Gymnasium's models."""
    frame_skip: int
    """Steps of MuJoCo per step."""
    dt: float
    """Seconds per step."""
    noise: float
    """Bound of the uniform noise on positions and velocities at reset, on either side of 0."""
    normal_velocities: bool = False
    """Whether the noise on velocities is normal, with `noise` as its standard deviation."""
    motor: float = 1.0
    """Motor command that the action 1 stands for."""
    weight: float = 1.0
    """Of the speed (m/s) in the reward."""
    bonus: float = 0.0
    """Constant part of the reward, paid at every step, also at one that terminates the episode."""
    action_cost: float
    """Cost per squared motor command."""
    first: int = 0
    """Index of the first joint position in an observation; the velocities follow the positions."""


class ObservableEnv(EditedMujocoEnv):
    """A simulator whose next state is a function of its observation and the action."""

    task: ClassVar[TaskSpec]
    motor: float = 1.0
    """Motor command that the action 1 stands for."""

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Put it into a state, contact forces included, which MuJoCo computes on request only."""
        super().set_state(qpos, qvel)
        mujoco.mj_rnePostConstraint(self.model, self.data)

    def advance(self, action: np.ndarray) -> None:
        """One step of the physics, from the present state alone."""
        self.data.qacc_warmstart[:] = 0.0
        self.simulate(self.motor * action)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_comVel(self.model, self.data)

    def _set_action_space(self) -> gymnasium.spaces.Box:
        low, high = (np.array(bound, np.float32) for bound in (self.task.action_low, self.task.action_high))
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        return self.action_space


class RunnerEnv(ObservableEnv):
    """A robot that is to run along x."""

    runner: ClassVar[Runner]

    def __init__(self, camera: dict[str, Any], **kwargs: Any) -> None:
        """Make the environment.

        Args:
            camera: see `EditedMujocoEnv`.
            kwargs: of `MujocoEnv`.
        """
        runner = self.runner
        super().__init__(runner.model, runner.spec, frame_skip=runner.frame_skip, camera=camera, **kwargs)

    def __init_subclass__(cls) -> None:
        cls.task, cls.motor = cls.runner.spec, cls.runner.motor

    def step(self, action: np.ndarray) -> Step:
        action = np.asarray(action, np.float64)
        start = self._place()
        self.advance(action)
        obs = self._observation()
        speed = (self._place() - start) / self.dt
        effort = self.runner.action_cost * np.square(self.motor * action).sum()
        reward = self.runner.weight * speed + self.runner.bonus - effort - self._contact_cost()
        return obs, np.float64(reward), self._fallen(obs), False, {}

    def reset_model(self) -> np.ndarray:
        rng, noise = self.np_random, self.runner.noise
        qpos = self.init_qpos + rng.uniform(-noise, noise, self.model.nq)
        mujoco.mj_normalizeQuat(self.model, qpos)
        if self.runner.normal_velocities:
            self.set_state(qpos, rng.normal(0.0, noise, self.model.nv))
        else:
            self.set_state(qpos, rng.uniform(-noise, noise, self.model.nv))
        return self._observation()

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])

    def _place(self) -> np.float64:
        """The position (m) whose speed is paid."""
        return self.data.qpos[0]

    def _contact_cost(self) -> float:
        return 0.0

    def _fallen(self, obs: np.ndarray) -> bool:
        return False

    def _contact_forces(self) -> np.ndarray:
        """Torques (N m) and forces (N) on all bodies, clipped to [-1, 1]; those on the floor are always 0."""
        return np.clip(self.data.cfrc_ext, -1.0, 1.0).ravel()


@dataclass(eq=False, kw_only=True)
class RunnerTask(MujocoTask):
    """What a model may know of a robot that is to run along x: the reward, and when it has fallen.

    Positions are stored in single precision. Far from the start their difference adds no error, so the speed errs by
    their rounding alone, at most `ulp(x) / dt`. At x = 100 m that is 0.00015 m/s with a step of 0.05 s, and 0.00095 m/s
    with one of 0.008 s.
    """

    inputs: Inputs = "invariant"
    """What networks see of an observation. `invariant`: all but positions along the floor, on which the dynamics do not
    depend. `raw`: all of it, as published; these positions then reach hundreds of metres."""

    any_horizon = True
    runner: ClassVar[Runner]

    def reward(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Float[Array, "*rows"]:
        """The mean speed along x over the step (m/s) times a weight, plus a bonus, minus effort and contact forces."""
        speed = self.progress(obs, next_obs) / self.runner.dt
        effort = self.runner.action_cost * jnp.square(self.runner.motor * action).sum(-1)
        return self.runner.weight * speed + self.runner.bonus - effort - self.contact_cost(next_obs)

    def restore(self, env: gymnasium.Env, obs: np.ndarray) -> None:
        """Put a bare simulator into the state of an observation."""
        first, nq, nv = self.runner.first, env.model.nq, env.model.nv  # type: ignore[attr-defined]
        set_state(env, obs[first : first + nq], obs[first + nq : first + nq + nv])

    def features(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """The observation, without positions along the floor unless `inputs` is `raw`."""
        return obs if self.inputs == "raw" else self.invariant(obs)

    def invariant(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """What of an observation does not change where the robot is moved along the floor."""
        return obs[..., 1:]

    def progress(self, obs: Float[Array, "*rows obs"], next_obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows"]:
        """How far (m) the robot has moved along x."""
        return next_obs[..., 0] - obs[..., 0]

    def contact_cost(self, next_obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows"] | float:
        """What is subtracted from the reward for contact forces; nothing unless overridden."""
        del next_obs
        return 0.0
