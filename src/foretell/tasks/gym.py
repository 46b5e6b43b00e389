"""Any Gymnasium environment with box observations and actions as a task. What is not given is learned."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.envs.mujoco import MujocoEnv

from foretell.errors import UserError, brief, nearest
from foretell.tasks.base import Restore, Task, TaskSpec
from foretell.tasks.mujoco import set_state, without_end


class GymTask(Task):
    """A user's environment. Networks see the flat observation itself."""

    def __init__(self, env_id: str, *, horizon: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Make the environment once to read its spaces.

        Args:
            env_id: its Gymnasium id.
            horizon: steps per episode; None: the environment's time limit.
            options: arguments of the environment.

        Raises:
            UserError: if it cannot be made, or its spaces are not supported.
        """
        self._env_id, self._options = env_id, dict(options or {})
        with self.simulator() as env:
            self.spec = _read_spec(env, env_id, horizon)

    def simulator(self, *, render_mode: str | None = None) -> gymnasium.Env:
        """A new environment. Raises `UserError` if it cannot be made; its own failures are `UserError`s too."""
        # Not every environment knows the argument.
        drawing: dict[str, Any] = {"render_mode": render_mode} if render_mode else {}
        try:
            with _blamed(f"cannot make the environment '{self._env_id}'"), _silence():
                env = gymnasium.make(self._env_id, disable_env_checker=True, **self._options, **drawing)
            if render_mode:
                _prepare_drawing(env, follow=not any("camera" in option for option in self._options))
        except gymnasium.error.UnregisteredEnv:
            raise UserError(f"no Gymnasium environment '{self._env_id}'{_nearest_id(self._env_id)}") from None
        return _Blamed(env, self._env_id)

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


class _Blamed(gymnasium.Wrapper):
    """Reports in one sentence what failed in a user's environment."""

    def __init__(self, env: gymnasium.Env, env_id: str) -> None:
        super().__init__(env)
        self._env_id = env_id

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        with _blamed(f"'{self._env_id}' failed in reset()"):
            obs, info = self.env.reset(**kwargs)
            return self._flat(obs), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        with _blamed(f"'{self._env_id}' failed in step()"):
            obs, reward, terminated, truncated, info = self.env.step(action)
            return self._flat(obs), float(reward), bool(terminated), bool(truncated), info

    def _flat(self, obs: Any) -> np.ndarray:
        vector, shape = np.asarray(obs, np.float64), self.observation_space.shape
        if vector.shape != shape:
            raise ValueError(f"the observation is of shape {vector.shape}, but its space of shape {shape}")
        return vector


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress warnings while an environment is made: that there is a newer version, that it cannot be rendered (which
    is reported later), and what MuJoCo finds outdated in Gymnasium's models."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        mujoco.set_mju_user_warning(before)


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Turn whatever a user's code raises into a `UserError`, except that the environment is not registered."""
    try:
        yield
    except (UserError, gymnasium.error.UnregisteredEnv):
        raise
    except gymnasium.error.DependencyNotInstalled as error:
        box2d = "Box2D is not installed; run pip install 'foretell[box2d]'"
        raise UserError(f"{what}: {box2d if 'box2d' in str(error) else brief(error)}") from error
    except Exception as error:
        raise UserError(f"{what}: {brief(error)}") from error


def _nearest_id(env_id: str) -> str:
    module, colon, _ = env_id.rpartition(":")
    if not colon:
        return nearest(env_id, gymnasium.registry) or f"; if a package of yours registers it, write 'package:{env_id}'"
    return nearest(env_id, [f"{module}:{spec.id}" for spec in gymnasium.registry.values() if _is_from(module, spec)])


def _is_from(module: str, spec: Any) -> bool:
    """Whether an environment belongs to the package of `module`."""
    entry = spec.entry_point
    home = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return home.replace(":", ".").split(".")[0] == module.split(".")[0]


def _read_spec(env: gymnasium.Env, env_id: str, horizon: int | None) -> TaskSpec:
    obs, action = _flat_box("observation", env.observation_space, env_id), _flat_box("action", env.action_space, env_id)
    if not np.issubdtype(action.dtype, np.floating):
        raise UserError(f"'{env_id}' has actions of type {action.dtype}, but only real numbers are supported")
    if not (np.isfinite(action.low).all() and np.isfinite(action.high).all()):
        raise UserError(f"'{env_id}' has unbounded actions, but planning needs finite bounds in its action space")
    limit = env.spec.max_episode_steps if env.spec else None
    if horizon is None and limit is None:
        raise UserError(f"'{env_id}' has no time limit; set one with --set task.horizon=STEPS")
    return TaskSpec(
        env_id=env_id,
        obs_names=tuple(f"obs[{i}]" for i in range(obs.shape[0])),
        action_low=tuple(map(float, action.low)),
        action_high=tuple(map(float, action.high)),
        horizon=min(h for h in (horizon, limit) if h is not None),
    )


def _flat_box(role: str, space: gymnasium.Space, env_id: str) -> gymnasium.spaces.Box:
    if not isinstance(space, gymnasium.spaces.Box):
        raise UserError(f"'{env_id}' has {role}s of type {type(space).__name__}, but only Box is supported")
    if len(space.shape) != 1 or not space.shape[0]:
        raise UserError(f"'{env_id}' has {role}s of shape {space.shape}, but only flat vectors are supported")
    return space
