"""Any Gymnasium environment as a task. What is not given is learned."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.wrappers import TimeLimit

from foretell.errors import UserError
from foretell.tasks.base import Restore, Task, TaskSpec
from foretell.tasks.border import blamed
from foretell.tasks.mujoco import set_state, without_end
from foretell.tasks.sources import Source, Wrappers, silence, source_of, wrapped
from foretell.tasks.spaces import LARGEST, Spaces

UNLIMITED = 1000
"""Steps after which an episode is cut if neither the environment nor the user limits it."""
_VALUES = 100
"""Numbers in single precision that there must be between the bounds of an action."""
Bound = float | Sequence[float]
"""One number for all entries of an action, or one for each."""


class GymTask(Task):
    """A user's environment. Networks see the flat observation itself."""

    def __init__(
        self,
        env: str | Source,
        *,
        horizon: int | None = None,
        options: Mapping[str, Any] | None = None,
        wrappers: Wrappers = (),
        action_bounds: tuple[Bound, Bound] | None = None,
    ) -> None:
        """Make the environment once to read its spaces.

        Args:
            env: where it comes from, or the name of that.
            horizon: steps per episode; None: the environment's time limit, or 1,000 steps if it has none.
            options: arguments of the environment.
            wrappers: around the environment, see `wrapped`.
            action_bounds: the lowest and the highest action within the environment's own bounds.

        Raises:
            UserError: if it cannot be made, or its spaces are not supported.
        """
        self._source = source_of(env) if isinstance(env, str) else env
        self._options, self._wrappers, self._name = dict(options or {}), tuple(wrappers), self._source.name
        with self.simulator() as made:
            limit, self._drawn_as = _time_limit(made), _render_modes(made)
            with blamed(f"cannot read the spaces of '{self._name}'"):
                self._spaces = Spaces(made.observation_space, made.action_space, self._name)
        if horizon is not None and limit is not None and horizon > limit:
            self._extend(horizon, limit)
        if horizon is None and limit is None:
            self.notes = (
                f"'{self._name}' has no time limit: an episode lasts until the environment ends it, or for {UNLIMITED} "
                "steps (task.horizon)",
            )
        low, high = _bounds(self._spaces, action_bounds, self._name)
        self.spec = TaskSpec(self._name, self._spaces.obs_names, low, high, horizon or limit or UNLIMITED)

    @property
    def spaces(self) -> Spaces:
        """Of the environment itself."""
        return self._spaces

    def simulator(self, *, render_mode: str | None = None) -> gymnasium.Env:
        """A new environment. Raises `UserError` if it cannot be made."""
        drawing = self._drawing(render_mode) if render_mode else {}
        with blamed(f"cannot make the environment '{self._name}'"), silence():
            env = wrapped(self._source.make(**self._options, **drawing), self._wrappers)
        if render_mode:
            _prepare_drawing(env, follow=not any("camera" in option for option in self._options))
        return env

    def _drawing(self, render_mode: str) -> dict[str, str]:
        """The argument with which the environment is drawn. Raises `UserError` if it cannot be."""
        if render_mode not in self._drawn_as:
            known = f"it is drawn only as {', '.join(self._drawn_as)}" if self._drawn_as else "it has no render modes"
            raise UserError(f"cannot film '{self._name}': {known}, and a video needs '{render_mode}'")
        return {"render_mode": render_mode} if self._source.takes_render_mode else {}

    def _extend(self, horizon: int, limit: int) -> None:
        """Raise the environment's time limit. Raises `UserError` if it cannot be."""
        if not self._source.is_id:
            raise UserError(
                f"task.horizon={horizon} is above the time limit of '{self._name}', {limit} steps; raise the limit "
                "where the environment is made"
            )
        self._options["max_episode_steps"] = horizon

    @cached_property
    def restore(self) -> Restore | None:  # type: ignore[override]
        """Put a bare simulator into the state of an observation; None if an observation does not determine it.

        Supported are the pendulum, and MuJoCo environments that observe `qvel` and `qpos`, with or without the first
        one or two numbers of `qpos`. Whether an environment is one of these is found by trying, on first use.
        """
        try:
            with self.simulator() as env, self.simulator() as twin:
                restore = _restore_of(env.unwrapped, self.spec.obs_size)
                works = restore is not None and _restores(restore, env, twin)
        except Exception:  # whatever the user's code raises; it does so again where it is needed
            return None
        return restore if works else None


_TRIED, _SAME = 20, 1e-6
"""Steps in which restoring is tried, and the largest difference (also relative) of numbers that count as equal."""
_FAST = 1e3
"""A velocity (m/s, rad/s) beyond the limits of environments that clip velocities in observations."""


def _restore_of(env: gymnasium.Env, size: int) -> Restore | None:
    """A function that restores the state of a bare environment from observations of this size, if there is one."""
    if isinstance(env, PendulumEnv):
        return _restore_pendulum
    if not isinstance(env, MujocoEnv):
        return None
    hidden, velocities = env.model.nq + env.model.nv - size, env.model.nv

    def restore(env: gymnasium.Env, obs: np.ndarray) -> None:
        set_state(env, np.concatenate([np.zeros(hidden), obs[:-velocities]]), obs[-velocities:])

    return restore if hidden in (0, 1, 2) and _shows_velocities(restore, env, size) else None


def _restore_pendulum(env: gymnasium.Env, obs: np.ndarray) -> None:
    env.state = np.array([np.arctan2(obs[1], obs[0]), obs[2]])  # type: ignore[attr-defined]


def _shows_velocities(restore: Restore, env: Any, size: int) -> bool:
    """Whether high velocities appear in observations without clipping."""
    obs = np.linspace(1.0, _FAST, size)
    env.reset(seed=0)
    obs[: size - env.model.nv] = env._get_obs()[: size - env.model.nv]
    restore(env, obs)
    return _same(env._get_obs(), obs)


def _restores(restore: Restore, env: gymnasium.Env, twin: gymnasium.Env) -> bool:
    """Whether a second environment, restored from the observations of random steps, then steps like the first one."""
    generator, space = np.random.default_rng(0), env.action_space
    obs, _ = env.reset(seed=1)
    twin.reset(seed=2)
    for i in range(_TRIED):
        restore(twin.unwrapped, np.asarray(obs, np.float64))
        if not _same(twin.unwrapped._get_obs(), obs):  # type: ignore[attr-defined]
            return False
        action = generator.uniform(space.low, space.high).astype(space.dtype)  # type: ignore[attr-defined]
        step, other = env.step(action), twin.step(action)
        if not all(map(_same, step[:3], other[:3])):
            return False
        obs = env.reset(seed=3 + i)[0] if step[2] or step[3] else step[0]
    return True


def _same(one: Any, other: Any) -> bool:
    return np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=_SAME, atol=_SAME)


def _prepare_drawing(env: gymnasium.Env, *, follow: bool) -> None:
    """Draw MuJoCo's floors without an edge; with `follow`, use the model's own camera that follows the robot.

    The camera of Gymnasium 1.4 stays at the robot's initial position.
    """
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is None:
        return
    without_end(renderer.model)
    if follow and renderer.camera_id < 0:
        renderer.camera_id = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")


def _time_limit(env: gymnasium.Env) -> int | None:
    """Steps after which an environment truncates episodes, as far as it says so."""
    limit = _steps(getattr(env.spec, "max_episode_steps", None))
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            limit = min(limit or env._max_episode_steps, env._max_episode_steps)
        env = env.env
    return limit


def _steps(limit: Any) -> int | None:
    """A number of steps; None if it is none, as Gymnasium's -1 for no limit."""
    return int(limit) if isinstance(limit, int | np.integer) and limit > 0 else None


def _render_modes(env: gymnasium.Env) -> list[str]:
    modes = (env.metadata or {}).get("render_modes") or []
    return [modes] if isinstance(modes, str) else [str(mode) for mode in modes]


def _bounds(
    spaces: Spaces, within: tuple[Bound, Bound] | None, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The lowest and the highest of those entries of an action that can be chosen. Raises `UserError`."""
    own = [np.asarray(end[spaces.free], np.float64) for end in (spaces.low, spaces.high)]
    given = own if within is None else [_spread(end, len(own[0]), name) for end in within]
    low, high = np.maximum(own[0], given[0]), np.minimum(own[1], given[1])
    if not (np.abs([low, high]) <= LARGEST).all():
        raise UserError(
            f"'{name}' has unbounded actions, but planning needs finite bounds; set task.action_bounds=[LOW, HIGH], "
            "numbers or lists of one number per action"
        )
    if not (low < high).all():
        where = int(np.argmin(low < high))
        raise UserError(
            f"task.action_bounds leave nothing of entry {where} of the actions of '{name}', whose own bounds are "
            f"{own[0][where]:g} and {own[1][where]:g}"
        )
    spacing = np.spacing(np.float32(np.maximum(np.abs(low), np.abs(high)))).astype(np.float64)
    if not (high - low >= _VALUES * spacing).all():
        where = int(np.argmin((high - low) / spacing))
        raise UserError(
            f"'{name}' takes values from {low[where]:.12g} to {high[where]:.12g} for entry {where} of its actions, but "
            f"between these single precision has fewer than {_VALUES} numbers; let it take the distance from one of "
            "them, as with task.wrappers=[{RescaleAction: {min_action: -1.0, max_action: 1.0}}]"
        )
    return tuple(map(float, low)), tuple(map(float, high))


def _spread(bound: Bound, size: int, name: str) -> np.ndarray:
    numbers = np.asarray(bound, np.float64)
    if numbers.shape not in ((), (size,)):
        raise UserError(f"task.action_bounds have {len(numbers)} numbers, but '{name}' takes {size}")
    return np.broadcast_to(numbers, (size,))
