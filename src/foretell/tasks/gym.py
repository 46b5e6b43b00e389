"""Any Gymnasium environment with box observations and actions as a task whose unknowns are learned."""

import gymnasium
import numpy as np

from foretell.errors import UserError, nearest
from foretell.tasks.base import Task, TaskSpec


class GymTask(Task):
    """A user's environment. What is not given is learned with the dynamics, from flat vectors, with no features."""

    def __init__(self, env_id: str, *, horizon: int | None = None) -> None:
        """Make the environment once to read its spaces. Raises `UserError` if they do not fit."""
        self._env_id = env_id
        with self.make() as env:
            self.spec = _read_spec(env, env_id, horizon)

    def make(self, *, render_mode: str | None = None) -> gymnasium.Env:
        try:
            return gymnasium.make(self._env_id, render_mode=render_mode, disable_env_checker=True)
        except gymnasium.error.NameNotFound:
            known = {spec_id for spec_id in gymnasium.registry if "/" not in spec_id}
            raise UserError(f"no Gymnasium environment '{self._env_id}'{nearest(self._env_id, known)}") from None
        except (gymnasium.error.Error, ImportError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"cannot make the environment '{self._env_id}': {reason}") from error


def _read_spec(env: gymnasium.Env, env_id: str, horizon: int | None) -> TaskSpec:
    obs, action = env.observation_space, env.action_space
    for role, space in (("observation", obs), ("action", action)):
        if not isinstance(space, gymnasium.spaces.Box):
            raise UserError(f"'{env_id}' has {role}s of type {type(space).__name__}, but only Box is supported")
        if len(space.shape) != 1:
            raise UserError(f"'{env_id}' has {role}s of shape {space.shape}, but only flat vectors are supported")
    if not (np.isfinite(action.low).all() and np.isfinite(action.high).all()):
        raise UserError(f"'{env_id}' has unbounded actions, but planning needs finite bounds; wrap it in RescaleAction")
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
