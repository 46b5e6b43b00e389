"""The simulators of MB-MPC (Nagabandi et al. 2018): swimmer, half-cheetah, hopper and ant, as in rllab.

The models are Gymnasium's; `edit` changes what is different in rllab, on which the released code is built. Bodies,
joints and their ranges agree. Actions are in [-1, 1], scaled to torques between the motors' bounds, and are clipped.
Observations have positions (m, rad) and velocities (m/s, rad/s) of the joints, then position and velocity of the centre
of mass of the whole robot. All are those at the end of the step, as is the velocity in the reward.
"""

from typing import Any, Literal

import mujoco
import numpy as np

from foretell.tasks.base import TaskSpec
from foretell.tasks.halfcheetah import CAMERA, JOINTS, draw_floor
from foretell.tasks.mujoco import EditedMujocoEnv, Step, drawing

Reset = Literal["released", "collection", "gym", "paper"]
"""Noise on the initial state, see `NagabandiEnv`."""

COLLECTING = {"collecting": True}
"""Options of `reset` for an episode of random actions that collects the first data."""
TORSO = 1
"""Index of the root body."""
NOISE = {"collection": (0.01, 0.1), "paper": (0.001**0.5, 0.001**0.5)}
"""Standard deviations of the normal noise on positions and on velocities at reset, in their units."""
GYM_NOISE = 0.1
"""As in Gym: bound of the uniform noise on positions, standard deviation of the normal noise on velocities."""
SWEEP_STD = 0.5
"""Standard deviation of a swimmer's initial positions (m, rad) in the collection of data for following paths."""

SWIMMER_TORQUE = 50.0
HOPPER_JOINTS = ("thigh", "leg", "foot")
HOPPER_POSITIONS, HOPPER_VELOCITIES = [1, 2, 3, 4, 5], [1, 0, 2, 3, 4, 5]
"""Indices in Gymnasium's hopper, in rllab's order: height first, and no position along x."""
VELOCITY_LIMIT = 10.0
"""Limit of the velocities (m/s, rad/s) in a hopper's observation."""
HOPPER_LIMIT = 100.0
"""Limit of a hopper's joint angles and velocities."""
MAX_PITCH, MIN_HEIGHT = 0.3, 0.7
"""Limits for the torso of a hopper that has not fallen (rad, m)."""
ANT_HEIGHTS = (0.3, 1.0)
"""Allowed heights (m) of the centre of mass of an ant."""
ANT_SOLIMP = (0.8, 0.8, 0.01)
"""Impedance of the contacts of rllab's ant; Gymnasium's has MuJoCo's own."""

_COM = tuple(f"com_{axis}" for axis in "xyz")
_COM_VELOCITY = tuple(f"com_{axis}_velocity" for axis in "xyz")


def _spec(name: str, seen: tuple[str, ...], actions: int, horizon: int) -> TaskSpec:
    return TaskSpec(f"foretell/MBMF{name}-v0", seen, (-1.0,) * actions, (1.0,) * actions, horizon)


def _with_velocities(names: tuple[str, ...]) -> tuple[str, ...]:
    return (*names, *(f"{name}_velocity" for name in names))


SWIMMER = _spec(
    "Swimmer", (*_with_velocities(("x", "y", "heading", "joint1", "joint2")), *_COM, *_COM_VELOCITY), 2, 333
)
CHEETAH = _spec("HalfCheetah", (*_with_velocities(("x", "z", "pitch", *JOINTS)), *_COM, *_COM_VELOCITY), 6, 1000)
HOPPER = _spec(
    "Hopper",
    (
        *("z", "pitch", *HOPPER_JOINTS),
        *(f"{name}_velocity" for name in ("z", "x", "pitch", *HOPPER_JOINTS)),
        *_COM,
        *_COM_VELOCITY,
    ),
    3,
    1000,
)
_ANT_JOINTS = tuple(f"{joint}_{leg}" for leg in (1, 2, 3, 4) for joint in ("hip", "ankle"))
ANT = _spec(
    "Ant",
    (
        *("x", "y", "z", "quat_w", "quat_x", "quat_y", "quat_z", *_ANT_JOINTS),
        *(f"{name}_velocity" for name in ("x", "y", "z", "spin_x", "spin_y", "spin_z", *_ANT_JOINTS)),
        *_COM,
        *(f"{function}_{angle}" for angle in ("yaw", "pitch", "roll") for function in ("cos", "sin")),
        *_COM_VELOCITY,
    ),
    8,
    1000,
)


class NagabandiEnv(EditedMujocoEnv):
    """What the four share: initial states, the centre of mass at the same instant as the joints, and the reward.

    `env.reset(options=COLLECTING)` begins an episode of random actions. Its initial state, and whether a fall
    terminates it, can differ from other episodes.
    """

    bonus = 0.0
    """Constant part of the reward."""
    action_cost: float
    """Cost per `|action|^2`."""

    def __init__(
        self, model: str, task: TaskSpec, *, frame_skip: int, camera: dict[str, Any], reset: Reset, **kwargs: Any
    ) -> None:
        """Make the environment.

        Args:
            model: the name of a file among Gymnasium's models.
            task: has the sizes.
            frame_skip: steps of MuJoCo per step.
            camera: see `EditedMujocoEnv`.
            reset: the noise on initial states. `collection`: normal, with a standard deviation of 0.01 on positions and
                0.1 on velocities. `gym`: uniform within 0.1 on positions, normal with a standard deviation of 0.1 on
                velocities. `released`: the first in episodes that collect data, the second in all others. `paper`:
                normal with a variance of 0.001 on both.
            kwargs: of `EditedMujocoEnv`.
        """
        self._style, self._collecting = reset, False
        super().__init__(model, task, frame_skip=frame_skip, camera=camera, **kwargs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self._collecting = bool((options or {}).get("collecting"))
        return super().reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> Step:
        action = np.clip(action, -1.0, 1.0)
        self.simulate(action)
        self._look()
        speed = self.data.subtree_linvel[TORSO][0]
        reward = speed + self.bonus - self.action_cost * np.square(action).sum()
        return self._observation(), np.float64(reward), self._fallen(), False, {}

    def reset_model(self) -> np.ndarray:
        qpos, qvel = self._start()
        mujoco.mj_normalizeQuat(self.model, qpos)
        self.set_state(qpos, qvel)
        self._look()
        return self._observation()

    @property
    def _noise(self) -> str:
        """The kind of noise of the episode that begins."""
        return ("collection" if self._collecting else "gym") if self._style == "released" else self._style

    def _start(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities at the start of an episode."""
        rng, nq, nv = self.np_random, self.model.nq, self.model.nv
        if self._noise == "gym":
            return self.init_qpos + rng.uniform(-GYM_NOISE, GYM_NOISE, nq), rng.normal(0.0, GYM_NOISE, nv)
        position, velocity = NOISE[self._noise]
        return self.init_qpos + rng.normal(0.0, position, nq), rng.normal(0.0, velocity, nv)

    def _look(self) -> None:
        """Update positions and velocities of bodies to the end of the step, without changing contact forces."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_comVel(self.model, self.data)
        mujoco.mj_subtreeVel(self.model, self.data)

    def _whole(self) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity of the centre of mass of the whole robot."""
        return self.data.subtree_com[TORSO], self.data.subtree_linvel[TORSO]

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel, *self._whole()])

    def _fallen(self) -> bool:
        return False


class SwimmerEnv(NagabandiEnv):
    """A chain of three links that swims in a plane, 0.15 s per step."""

    metadata = drawing(7)
    action_cost = 0.005

    def __init__(self, *, reset: Reset = "released", sweep: bool = False, heading: float = 0.0, **kwargs: Any) -> None:
        """Make the environment.

        Args:
            reset: see `NagabandiEnv`.
            sweep: begin episodes that collect data with any heading, and far from the origin.
            heading: initial heading (rad) of all other episodes. With the noise of `gym` it is exact, and velocities
                are uniform within 0.1 on either side of 0.
            kwargs: of `EditedMujocoEnv`.
        """
        self._sweep, self._heading = sweep, heading
        camera = {"trackbodyid": TORSO, "distance": 8.0, "elevation": -60.0, "azimuth": 90.0}
        super().__init__("swimmer.xml", SWIMMER, frame_skip=150, camera=camera, reset=reset, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """As in rllab: steps of 0.001 s by Euler's method, weaker motors, and joints without armature."""
        model.option.timestep, model.option.integrator = 0.001, mujoco.mjtIntegrator.mjINT_EULER
        for joint in model.joints:
            joint.armature = 0
        for motor in model.actuators:
            motor.gear[0] = SWIMMER_TORQUE

    def _start(self) -> tuple[np.ndarray, np.ndarray]:
        qpos, qvel = super()._start()
        rng, kind = self.np_random, self._noise
        if kind == "gym":
            qpos[2], qvel = self._heading, rng.uniform(-GYM_NOISE, GYM_NOISE, self.model.nv)
        elif self._sweep and (self._collecting or kind == "collection"):
            if kind == "collection":
                qpos = rng.normal(0.0, SWEEP_STD, self.model.nq)
            qpos[2] = rng.uniform(-np.pi, np.pi)
        else:
            qpos[2] += self._heading
        return qpos, qvel


class HalfCheetahEnv(NagabandiEnv):
    """Gymnasium's half-cheetah, which is the same in rllab, 0.01 s per step."""

    metadata = drawing(100)
    action_cost = 0.05

    def __init__(self, *, reset: Reset = "released", **kwargs: Any) -> None:
        super().__init__("half_cheetah.xml", CHEETAH, frame_skip=1, camera=CAMERA, reset=reset, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """A longer floor."""
        draw_floor(model)


class HopperEnv(NagabandiEnv):
    """A leg that hops in a plane, 0.02 s per step. A fall does not terminate episodes that collect random data."""

    metadata = drawing(50)
    bonus = 1.0
    action_cost = 0.005

    def __init__(self, *, reset: Reset = "released", **kwargs: Any) -> None:
        camera = {"trackbodyid": TORSO, "distance": 3.0, "elevation": -20.0, "azimuth": 90.0}
        super().__init__("hopper.xml", HOPPER, frame_skip=1, camera=camera, reset=reset, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """As in rllab: steps of 0.02 s, ten times Gymnasium's, by the Runge-Kutta method. The motors agree, 200 N m."""
        model.option.timestep, model.option.integrator = 0.02, mujoco.mjtIntegrator.mjINT_RK4

    def _observation(self) -> np.ndarray:
        velocity = np.clip(self.data.qvel[HOPPER_VELOCITIES], -VELOCITY_LIMIT, VELOCITY_LIMIT)
        return np.concatenate([self.data.qpos[HOPPER_POSITIONS], velocity, *self._whole()])

    def _fallen(self) -> bool:
        height, pitch = self.data.qpos[1:3]
        rest = np.concatenate([self.data.qpos[3:], self.data.qvel])
        stands = abs(pitch) < MAX_PITCH and height > MIN_HEIGHT and (np.abs(rest) < HOPPER_LIMIT).all()
        return not (stands or self._collecting)


class AntEnv(NagabandiEnv):
    """A torso on four legs, 0.02 s per step."""

    metadata = drawing(50)
    bonus = 0.05
    action_cost = 0.005

    def __init__(self, *, reset: Reset = "released", released_angles: bool = False, **kwargs: Any) -> None:
        """`released_angles`: compute the yaw as the released code did, see `angles`."""
        self._released_angles = released_angles
        camera = {"trackbodyid": TORSO, "distance": 5.0, "elevation": -30.0, "azimuth": 90.0}
        super().__init__("ant.xml", ANT, frame_skip=1, camera=camera, reset=reset, **kwargs)
        self.init_qpos = np.array(self.model.numeric("init_qpos").data)  # legs bent; Gymnasium does not read it

    def edit(self, model: mujoco.MjSpec) -> None:
        """As in rllab: steps of 0.02 s, twice Gymnasium's, and the impedance of contacts. The motors agree, 150 N m."""
        model.option.timestep, model.option.integrator = 0.02, mujoco.mjtIntegrator.mjINT_RK4
        for geom in model.geoms:
            geom.solimp[:3] = ANT_SOLIMP

    def _observation(self) -> np.ndarray:
        turned = angles(self.data.xmat[TORSO].reshape(3, 3), released=self._released_angles)
        waves = np.column_stack([np.cos(turned), np.sin(turned)]).ravel()
        position, velocity = self._whole()
        return np.concatenate([self.data.qpos, self.data.qvel, position, waves, velocity])

    def _fallen(self) -> bool:
        lowest, highest = ANT_HEIGHTS
        return not lowest <= self.data.subtree_com[TORSO][2] <= highest


def angles(rotation: np.ndarray, *, released: bool = False) -> np.ndarray:
    """Yaw, pitch and roll (rad) of a rotation.

    Args:
        rotation: the matrix `[3, 3]`.
        released: use the wrong element for the yaw, [0, 1] instead of [0, 0], as the released code did. An upright
            robot then has only two possible yaws.
    """
    yaw = np.arctan2(rotation[1, 0], rotation[0, 1] if released else rotation[0, 0])
    pitch = np.arctan2(-rotation[2, 0], np.hypot(rotation[2, 1], rotation[2, 2]))
    return np.array([yaw, pitch, np.arctan2(rotation[2, 1], rotation[2, 2])])
