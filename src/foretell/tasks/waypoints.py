"""Following a path of line segments: progress along it, distance from it, and the cost of both.

Nagabandi et al. 2018, section IV-E; waypoints, weights and details are those of the released code. Positions are in
metres, angles in radians. Every function accepts any leading axes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Numbers = Array | np.ndarray
"""Of JAX or of NumPy; results are of the same kind."""
Points = Sequence[tuple[float | int, float | int]]
ExtraCost = Callable[[Float[Array, "*rows obs"], Float[Array, "*rows"]], Float[Array, "*rows"]]
"""(observation, direction of its segment in rad) -> further cost."""

LEGS = 6
"""Number of segments after which episodes end."""
FAR = 1.0
"""Distance (m) from the path beyond which it costs an ant more."""


class Path(NamedTuple):
    """Consecutive segments. The last is the end point alone, where no further progress is possible."""

    start: Float[np.ndarray, "segments 2"]
    end: Float[np.ndarray, "segments 2"]
    angle: Float[np.ndarray, "segments"]
    """Directions, anticlockwise from the x axis; the end point keeps that of the segment before it."""


def through(points: Points) -> Path:
    """The path through at least two different points."""
    start = np.array(points, np.float32)
    end = np.concatenate([start[1:], start[-1:]])
    step = end - start
    step[-1] = step[-2]
    return Path(start, end, np.arctan2(step[:, 1], step[:, 0]))


class Progress(NamedTuple):
    """Progress along a path, real or imagined."""

    segment: Int[Numbers, "*rows"]
    """Number of the current segment."""
    forward: Float[Numbers, "*rows"]
    """Position along it, as a share of its length: 0 at its start, 1 at its end; it may be beyond either."""
    moved: Bool[Numbers, "*rows"]
    """Whether the segment has changed since the plan began."""
    origin: Float[Numbers, "*rows 2"]
    """Initial position of the episode (m), where the first waypoint is."""


class Followed(NamedTuple):
    """The result of following a path to a new position."""

    progress: Progress
    distance: Float[Numbers, "*rows"]
    """Distance (m) to the nearest point of the current segment."""
    advance: Float[Numbers, "*rows"]
    """Progress since the last position, as a share of the segment's length."""


class EndOfPath(gymnasium.Wrapper):
    """Truncates an episode once the robot has moved on from this many segments, unless its actions are random."""

    def __init__(self, env: gymnasium.Env, path: Path, position: tuple[int, int], segments: int) -> None:
        """Wrap an environment.

        Args:
            env: the environment.
            path: the path.
            position: indices of x and y in an observation.
            segments: number of segments.
        """
        super().__init__(env)
        self._path, self._position, self._segments = path, list(position), segments

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._ends = not (options or {}).get("collecting")
        self._progress = begin(self._place(obs))
        return obs, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._progress = follow(self._path, self._progress, self._place(obs)).progress
        done = self._ends and int(self._progress.segment[0]) >= self._segments
        return obs, reward, terminated, truncated or done, info

    def _place(self, obs: np.ndarray) -> Float[np.ndarray, "1 2"]:
        """In NumPy: simulators are also stepped within JAX's callbacks, where JAX may not be called."""
        return obs[None, self._position].astype(np.float32)


def begin(position: Float[Numbers, "*rows 2"]) -> Progress:
    """The progress at the start of an episode."""
    zero = position.__array_namespace__().zeros_like(position[..., 0])
    return Progress(zero.astype(int), zero, zero > 0, position)


def project(
    start: Float[Numbers, "*rows 2"], end: Float[Numbers, "*rows 2"], position: Float[Numbers, "*rows 2"]
) -> tuple[Float[Numbers, "*rows"], Float[Numbers, "*rows"]]:
    """Project positions onto segments.

    Args:
        start: of the segments (m).
        end: of the segments (m).
        position: the positions (m).

    Returns:
        The projection onto the segment's line as a share of its length, which may be outside of 0 to 1 and is 0 for a
        segment without length; and the distance (m) to the nearest point of the segment itself.
    """
    xp, step, offset = position.__array_namespace__(), end - start, position - start
    square = xp.square(step).sum(-1)
    share = (offset * step).sum(-1) / xp.where(square > 0, square, 1.0)
    # From the ends themselves, and without the share between them: a point is then equally far from two segments that
    # meet or overlap there, to the last bit.
    across = xp.abs(offset[..., 0] * step[..., 1] - offset[..., 1] * step[..., 0])
    aside = across / xp.sqrt(xp.where(square > 0, square, 1.0))
    gap = xp.where((share >= 1)[..., None], position - end, offset)
    within = (share > 0) & (share < 1)
    return share, xp.where(within, aside, xp.hypot(gap[..., 0], gap[..., 1]))


def follow(path: Path, progress: Progress, position: Float[Numbers, "*rows 2"]) -> Followed:
    """Follow a path to a position. The next segment becomes the current one if it is at least as near.

    As released: after such a change within a plan, the advance at this position and at every later one is the whole
    share of the current segment, no longer its increase.

    Args:
        path: the path.
        progress: along it, before.
        position: the new position (m).
    """
    xp, last, place = position.__array_namespace__(), len(path.start) - 1, position - progress.origin
    starts, ends = xp.asarray(path.start), xp.asarray(path.end)
    here = xp.minimum(progress.segment, last)
    ahead = xp.minimum(here + 1, last)
    forward, distance = project(starts[here], ends[here], place)
    forward_ahead, distance_ahead = project(starts[ahead], ends[ahead], place)
    moves = distance_ahead <= distance
    forward, moved = xp.where(moves, forward_ahead, forward), progress.moved | moves
    reached = progress._replace(segment=xp.where(moves, ahead, here), forward=forward, moved=moved)
    advance = xp.where(moved, forward, forward - progress.forward)
    return Followed(reached, xp.minimum(distance, distance_ahead), advance)


def follow_in_plan(path: Path, progress: Progress, position: Float[Array, "*rows 2"]) -> Progress:
    """The initial progress of all candidates of a plan made at `position`, when the episode is at `progress`."""
    fresh = progress._replace(forward=jnp.zeros_like(progress.forward), moved=jnp.zeros_like(progress.moved))
    return follow(path, fresh, position).progress


def carry_on(progress: Progress, chosen: Progress) -> Progress:
    """The progress of an episode after a plan: one segment more if the chosen candidate changed segments in the plan.

    Args:
        progress: of the episode, before the plan.
        chosen: of the chosen candidate, at the end of the plan.
    """
    return progress._replace(segment=progress.segment + chosen.moved)


class PathCost(NamedTuple):
    """Weights of the costs of position and posture."""

    distance: float
    """Per metre from the path."""
    advance: float
    """Gain per segment; the gain per metre depends on the segment's length."""
    posture: float
    """Of the `extra` of a `Route`."""
    far: float = 1.0
    """Factor on the cost of a distance beyond one metre."""

    def __call__(self, followed: Followed) -> Float[Array, "*rows"]:
        """The cost of distance minus the gain of advance."""
        weight = self.distance * jnp.where(followed.distance < FAR, 1.0, self.far)
        return weight * followed.distance - self.advance * followed.advance


@dataclass(frozen=True, eq=False)
class Route:
    """A path and its costs: the methods of a task that follows a path (`Follows`)."""

    path: Path
    cost: PathCost
    position: tuple[int, int]
    """Indices of x and y in an observation."""
    extra: ExtraCost

    def start_progress(self, obs: Float[Array, "*rows obs"]) -> Progress:
        """The progress of an episode that begins at `obs`."""
        return begin(self._position(obs))

    def plan_progress(self, progress: Progress, obs: Float[Array, "*rows obs"]) -> Progress:
        """The initial progress of all candidates of a plan that is made at `obs`, when the episode is at `progress`."""
        return follow_in_plan(self.path, progress, self._position(obs))

    def follow(
        self,
        progress: Progress,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> tuple[Float[Array, "*rows"], Progress]:
        """The reward of a candidate's step, minus the released cost of its next observation; and its progress there."""
        followed = follow(self.path, progress, self._position(next_obs))
        angle = jnp.array(self.path.angle)[followed.progress.segment]
        return -self.cost(followed) - self.extra(next_obs, angle), followed.progress

    def _position(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows 2"]:
        return obs[..., jnp.array(self.position)]


def _line(pace: float, length: float = 40.0) -> Points:
    """Points along the x axis, less than `length` from its origin."""
    return [(pace * i, 0.0) for i in range(int(np.ceil(length / abs(pace))))]


STRAIGHT = through(_line(0.7))
BACKWARD = through(_line(-0.5))
FORWARD_BACKWARD = through([(x, 0.0) for x in (0, 1, 2, 3, 2, 1, 0, -1, -2)])
LEFT = through([(0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (4, 2), (4, 3), (4, 4)])
RIGHT = through([(0, 0), (0, 1), (0, 2), *((x, 3) for x in range(2, 9))])
"""Turns to the left and to the right, for a swimmer; for the turn to the right it begins heading along the y axis."""
ANT_LEFT = through([(0, 0), (2, 0), (4, 0), (6, 0), *((6, y) for y in range(2, 8))])
ANT_RIGHT = through([*((0, y) for y in range(5)), (2, 4), (3, 4), (4, 4), (6, 4), (7, 4)])
"""Turns for an ant."""
U_TURN = through([(0, 0), (2, 0), (4, 0), (4, 1), (4, 2), (2, 2), (1, 2), (0, 2)])
CIRCLE = through([(2 * np.cos(turn) - 2, 2 * np.sin(turn)) for turn in -np.pi / 8 * np.arange(10)])
"""Clockwise with a radius of 2 m. It was released without weights, so no task follows it."""
