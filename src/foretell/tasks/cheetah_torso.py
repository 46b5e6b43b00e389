"""The half-cheetah of the homework on MB-MPC (Berkeley's CS294-112, fall 2017 and 2018), which observes its position.

State: height (m), pitch (rad), six joint angles, the nine velocities of position, height, pitch and joints, and the
position (m) of its centre of mass, whose first number is the progress that the planner uses. Actions are motor commands
in [-1, 1]. One step is 0.01 s; an episode is 1000 steps unless set otherwise; nothing terminates it.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from foretell.registry import register
from foretell.tasks.base import TaskSpec
from foretell.tasks.halfcheetah import CAMERA, JOINTS, draw_floor
from foretell.tasks.mujoco import EditedMujocoEnv, MujocoTask, Step, drawing, set_state

Signal = Literal["com-lagged", "com", "torso"]
"""Which position is at the end of an observation."""

DT = 0.01
"""Seconds per step."""
FRONT_LEG = slice(5, 8)
"""Indices of the angles of front thigh, shin and foot in an observation."""
X = 17
"""Index of the position along the track in an observation."""
FOLDED = (0.2, 0.0, 0.0)
"""Least angles (rad) of front thigh, shin and foot that count as folded back."""
FOLDED_COST = 10.0
ACTION_COST = 0.1
POSITION_RANGE, VELOCITY_STD = 0.1, 0.1
"""Noise at reset: bound of the uniform noise on positions, standard deviation of the normal noise on velocities."""

SPEC = TaskSpec(
    env_id="foretell/HalfCheetahTorso-v0",
    obs_names=(
        *("z", "pitch", *JOINTS),
        *(f"{name}_velocity" for name in ("x", "z", "pitch", *JOINTS)),
        *(f"com_{axis}" for axis in "xyz"),
    ),
    action_low=(-1.0,) * 6,
    action_high=(1.0,) * 6,
    horizon=1000,
)


class HalfCheetahTorsoEnv(EditedMujocoEnv):
    """The simulator, as a Gymnasium environment. The model is Gymnasium's own, with one step of MuJoCo per step."""

    metadata = drawing(100)

    def __init__(self, *, progress: Signal = "com-lagged", **kwargs: Any) -> None:
        """`progress`: which position ends an observation, see `CheetahTorso`."""
        self._progress = progress
        super().__init__("half_cheetah.xml", SPEC, frame_skip=1, camera=CAMERA, **kwargs)

    def edit(self, model: mujoco.MjSpec) -> None:
        """A longer floor."""
        draw_floor(model)

    def step(self, action: np.ndarray) -> Step:
        start = self.data.qpos[0]
        self.simulate(action)
        if self._progress == "com":
            # No more than this, so that the solver's warm start, and with it the episode, stays the same.
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
        reward = (self.data.qpos[0] - start) / DT - ACTION_COST * np.square(action).sum()
        return self._observation(), np.float64(reward), False, False, {}

    def reset_model(self) -> np.ndarray:
        position = self.np_random.uniform(-POSITION_RANGE, POSITION_RANGE, self.model.nq)
        velocity = self.np_random.normal(0.0, VELOCITY_STD, self.model.nv)
        self.set_state(self.init_qpos + position, self.init_qvel + velocity)
        return self._observation()

    def _observation(self) -> np.ndarray:
        torso = self.data.body("torso")
        where = torso.xpos if self._progress == "torso" else torso.subtree_com
        return np.concatenate([self.data.qpos[1:], self.data.qvel, where])


@register("task", "cheetah-torso")
@dataclass(eq=False, kw_only=True)
class CheetahTorso(MujocoTask):
    """What a model may know: the cost that the homework plans with, which is not the environment's reward.

    The environment's reward is the speed of the torso's joint, minus effort (`HalfCheetahTorsoEnv`); returns are sums
    of it. The planner's objective is `reward`: the progress of the position in the observation, minus a penalty for a
    front leg that is folded back, without effort. The difference is deliberate, as published: the penalty keeps the
    cheetah from tipping over, which a plan of 0.15 s cannot foresee. The two also use different positions x.
    """

    progress: Signal = "com-lagged"
    """Which position ends an observation. `com-lagged`: the centre of mass of the whole robot at the start of the step,
    0.01 s older than the joint angles. Gym returned it as the position of the torso in fall 2017, when the scores of
    1400 were reached. `com`: the same at the end of the step. `torso`: the origin of the torso's frame, again at the
    start of the step, as Gym returned in fall 2018. A plan can easily throw the torso forward for a moment, but not the
    centre of mass: with `torso` the cheetah runs half as fast."""

    spec = SPEC
    any_horizon = True

    @property
    def env_options(self) -> dict[str, Any]:
        return {"progress": self.progress}

    def restore(self, env: gymnasium.Env, obs: np.ndarray) -> None:
        """Put a bare simulator into the state of an observation.

        The position along the track follows from the position at the end of the observation. If that is of the start of
        the step, it belongs to the joint positions before the step, or, at the start of an episode, to those now.
        """
        qpos, qvel, seen = np.concatenate([[0.0], obs[:8]]), obs[8:X], obs[X:]
        states = [qpos] if self.progress == "com" else [qpos, qpos - DT * qvel]
        gap = min((seen - _position(env, state, qvel) for state in states), key=lambda gap: abs(gap[2]))
        qpos[0] += gap[0]
        set_state(env, qpos, qvel)

    def reward(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Float[Array, "*rows"]:
        """Progress (m/s) minus 10 for each part of the front leg that was folded back before the step.

        It is the negated cost of the homework (Nagabandi et al. 2018 have the same penalties for following paths).
        """
        return (next_obs[..., X] - obs[..., X]) / DT - FOLDED_COST * folded(obs[..., FRONT_LEG])


def _position(env: Any, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    """The position (m) at the end of an observation of a state."""
    set_state(env, qpos, qvel)
    return env._observation()[X:]


def folded(front_leg: Float[Array, "*rows 3"]) -> Float[Array, "*rows"]:
    """How many of front thigh, shin and foot are folded back, given their angles (rad); at the limit counts too."""
    return 1.0 * (front_leg >= jnp.array(FOLDED)).sum(-1)
