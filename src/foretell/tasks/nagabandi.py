"""The robots of MB-MPC (Nagabandi et al. 2018): swimmer, half-cheetah, hopper and ant, which run or follow paths.

`foretell.tasks.nagabandi_simulators` has their simulators and documents steps and observations. The planner's objective
is a high velocity with little effort or, if a path is given, to follow it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from foretell.errors import UserError
from foretell.registry import register
from foretell.tasks import nagabandi_simulators as simulators
from foretell.tasks import waypoints
from foretell.tasks.cheetah_torso import folded
from foretell.tasks.mujoco import MujocoTask, set_state
from foretell.tasks.nagabandi_simulators import Reset
from foretell.tasks.waypoints import Path, PathCost, Route

Cost = Literal["released", "paper"]
"""The planner's objective, see `NagabandiTask.reward`."""
Routes = Mapping[str, tuple[Path, PathCost]]

BEND = jnp.pi / 3
"""Least angle (rad) between path and heading at which a swimmer's heading is wrong, and greatest bend of a joint."""
WRONG_HEADING_COST, BEND_COST = 20.0, 2.0
ANT_PATH_HEIGHTS = (0.3, 0.67)
"""Allowed heights (m) of the centre of mass of an ant that follows a path."""
ANT_HEIGHT_COST = 40.0
"""Cost of an ant outside of these, as a multiple of the weight of posture."""

SWIMMER_ROUTES: Routes = {
    "straight": (waypoints.STRAIGHT, PathCost(4.0, 500.0, 2.0)),
    "left": (waypoints.LEFT, PathCost(0.7, 200.0, 0.9)),
    "right": (waypoints.RIGHT, PathCost(0.1, 250.0, 0.9)),
}
CHEETAH_ROUTES: Routes = {
    "straight": (waypoints.STRAIGHT, PathCost(0.0, 40.0, 10.0)),
    "backward": (waypoints.BACKWARD, PathCost(0.0, 20.0, 10.0)),
    "forward-backward": (waypoints.FORWARD_BACKWARD, PathCost(0.0, 20.0, 10.0)),
}
ANT_ROUTES: Routes = {
    "straight": (waypoints.STRAIGHT, PathCost(3.5, 85.0, 100.0, far=10.0)),
    "left": (waypoints.ANT_LEFT, PathCost(4.0, 85.0, 100.0, far=10.0)),
    "right": (waypoints.ANT_RIGHT, PathCost(3.0, 50.0, 100.0, far=10.0)),
    "u-turn": (waypoints.U_TURN, PathCost(3.0, 50.0, 100.0, far=10.0)),
}


@dataclass(eq=False, kw_only=True)
class NagabandiTask(MujocoTask):
    """What the four share: the planner's objective."""

    reset: Reset = "released"
    """Noise on the initial state, see `NagabandiEnv`."""
    cost: Cost = "released"
    """The planner's objective, see `reward`."""

    any_horizon = True
    collecting_reset = simulators.COLLECTING
    speed: ClassVar[int]
    """Index of the velocity along x in an observation."""
    bonus: ClassVar[float] = 0.0
    """Constant part of the reward."""
    action_cost: ClassVar[Mapping[Cost, float]]
    """Cost per `|action|^2`."""

    @property
    def env_options(self) -> dict[str, Any]:
        return {"reset": self.reset}

    def reward(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Float[Array, "*rows"]:
        """The velocity along x of the next state (m/s), plus a bonus, minus effort; may differ from the real reward.

        `paper`: as in the text of Nagabandi et al. (2018). `released`: as in their code, which differs in two ways.
        Effort costs next to nothing for all but the half-cheetah, since actions in [-1, 1] are divided by the greatest
        torque once more (in the hopper's squared actions only once, by a misplaced bracket). And the reward is 0 for a
        state in which the robot has fallen, and for all later ones (`terminated`).

        The released code also sums over the present state, and pairs each state with the action taken in it. That is
        the same sum except for a constant of all candidates, and for the last action, whose effort it counts twice.
        """
        gain = next_obs[..., self.speed] + self.bonus
        if self.cost == "released" and self.terminated is not None:
            gain = jnp.where(self.terminated(obs, action, next_obs), 0.0, gain)
        return gain - self.action_cost[self.cost] * jnp.square(action).sum(-1)


@dataclass(eq=False, kw_only=True)
class FollowingTask(NagabandiTask):
    """A robot that may be given a path: the task then `Follows` it, which is the planner's objective."""

    path: str | None = None
    """Name of one of `routes`; null: run forward."""
    segments: int = waypoints.LEGS
    """An episode that follows a path is cut when the robot has moved on from this many segments."""

    routes: ClassVar[Routes]
    position: ClassVar[tuple[int, int]]
    """Indices of x and y of the centre of mass in an observation."""

    def __post_init__(self) -> None:
        if self.segments < 1:
            raise UserError(f"task.options.segments must be at least 1, not {self.segments}")
        if self.path is None:
            return
        path, self.path_cost = self.routes[self.path]
        route = Route(path, self.path_cost, self.position, self.extra)
        # Not as methods, since a task without a path must not have them.
        for name in ("start_progress", "plan_progress", "follow"):
            setattr(self, name, getattr(route, name))
        self.terminated = None  # for candidates that follow a path falling is no termination, as released

    def simulator(self, *, render_mode: str | None = None) -> gymnasium.Env:
        env = super().simulator(render_mode=render_mode)
        if self.path is None:
            return env
        return waypoints.EndOfPath(env, self.routes[self.path][0], self.position, self.segments)

    def restore(self, env: gymnasium.Env, obs: np.ndarray) -> None:
        """Put a bare simulator into the state of an observation."""
        nq, nv = env.model.nq, env.model.nv  # type: ignore[attr-defined]
        set_state(env, obs[:nq], obs[nq : nq + nv])

    def extra(self, obs: Float[Array, "*rows obs"], angle: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """Cost of a posture on a segment with direction `angle` (rad), as released."""
        raise NotImplementedError


@register("task", "mbmf-swimmer")
@dataclass(eq=False, kw_only=True)
class Swimmer(FollowingTask):
    """Two joints, no legs. Observations end with the centre of mass; x is its 10th number, its velocity the 13th."""

    path: Literal["straight", "left", "right"] | None = None

    spec = simulators.SWIMMER
    speed = 13
    position = (10, 11)
    routes = SWIMMER_ROUTES
    action_cost: ClassVar = {"released": 0.5 / 50**2, "paper": 0.5}

    @property
    def env_options(self) -> dict[str, Any]:
        heading = jnp.pi / 2 if self.path == "right" else 0.0
        return {"reset": self.reset, "sweep": self.path is not None, "heading": heading}

    def extra(self, obs: Float[Array, "*rows obs"], angle: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """Cost of the angle between heading and segment, constant from 60 degrees on, and of each joint bent as far."""
        error = jnp.abs((obs[..., 2] - angle + jnp.pi) % (2 * jnp.pi) - jnp.pi)
        heading = jnp.where(error < BEND, self.path_cost.posture * error, WRONG_HEADING_COST)
        return heading + BEND_COST * (jnp.abs(obs[..., 3:5]) > BEND).sum(-1)


@register("task", "mbmf-cheetah")
@dataclass(eq=False, kw_only=True)
class HalfCheetah(FollowingTask):
    """The half-cheetah; observations begin with its position. It follows paths along x; its y is 0."""

    path: Literal["straight", "backward", "forward-backward"] | None = None

    spec = simulators.CHEETAH
    speed = 21
    position = (18, 19)  # released: 20, the height, which has no weight
    routes = CHEETAH_ROUTES
    action_cost: ClassVar = {"released": 0.05, "paper": 0.05}

    def extra(self, obs: Float[Array, "*rows obs"], angle: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """Cost of each part of the front leg that is folded back."""
        return self.path_cost.posture * folded(obs[..., 6:9])


@register("task", "mbmf-hopper")
@dataclass(eq=False, kw_only=True)
class Hopper(NagabandiTask):
    """One leg. A fall terminates the episode, but not while random data are collected."""

    spec = simulators.HOPPER
    speed = 14
    bonus = 1.0
    action_cost: ClassVar = {"released": 0.005 / 200, "paper": 0.005}

    def terminated(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Bool[Array, "*rows"]:
        """Whether the torso is too low or tilted too far.

        The simulator also ends an episode at a velocity or joint angle of 100, which an observation does not show.
        """
        height, pitch = next_obs[..., 0], next_obs[..., 1]
        return ~((jnp.abs(pitch) < simulators.MAX_PITCH) & (height > simulators.MIN_HEIGHT))


@register("task", "mbmf-ant")
@dataclass(eq=False, kw_only=True)
class Ant(FollowingTask):
    """Four legs. Falling or jumping too high terminates the episode, also while random data are collected."""

    path: Literal["straight", "left", "right", "u-turn"] | None = None
    released_angles: bool = False
    """Compute the yaw from the wrong element of the rotation matrix, as released."""

    spec = simulators.ANT
    speed = 38
    height: ClassVar[int] = 31
    position = (29, 30)
    routes = ANT_ROUTES
    bonus = 0.5
    action_cost: ClassVar = {"released": 0.005 / 150**2, "paper": 0.005}

    @property
    def env_options(self) -> dict[str, Any]:
        return {"reset": self.reset, "released_angles": self.released_angles}

    def terminated(
        self,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> Bool[Array, "*rows"]:
        """Whether the centre of mass is too low or too high."""
        return ~_within(next_obs[..., self.height], simulators.ANT_HEIGHTS)

    def extra(self, obs: Float[Array, "*rows obs"], angle: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """Cost of a centre of mass that is too low or too high, with narrower bounds than those of termination."""
        outside = ~_within(obs[..., self.height], ANT_PATH_HEIGHTS)
        return ANT_HEIGHT_COST * self.path_cost.posture * outside


def _within(value: Float[Array, "*rows"], bounds: tuple[float, float]) -> Bool[Array, "*rows"]:
    return (value >= bounds[0]) & (value <= bounds[1])
