"""The state of MuJoCo's physics as numbers, for environments that do not go there again by repeating their actions."""

from contextlib import suppress
from typing import Any

import gymnasium
import mujoco
import numpy as np
from jaxtyping import Float

from foretell.tasks.border import Border

_ALL = mujoco.mjtState.mjSTATE_INTEGRATION
"""Everything that decides the next steps of the physics, the solver's warm start included."""
_PASSIVE = ("Border", "NoisyActions", "OrderEnforcing", "PassiveEnvChecker", "RepeatedActions", "TimeLimit")
"""Wrappers that leave observations as they are, but for their form."""


def physics(env: gymnasium.Env) -> Float[np.ndarray, "numbers"]:
    """The physical state of an environment; no numbers if it is not one of MuJoCo's, or others wrap its observation."""
    model, data = _parts(env)
    if data is None:
        return np.zeros(0)
    state = np.empty(mujoco.mj_stateSize(model, _ALL))
    mujoco.mj_getState(model, data, state, _ALL)
    return state


def put_physics(env: gymnasium.Env, state: Float[np.ndarray, "numbers"], obs: Float[np.ndarray, "obs"]) -> bool:
    """Put an environment into a physical state, and return whether it then observes `obs`."""
    model, data = _parts(env)
    if data is None or state.size != mujoco.mj_stateSize(model, _ALL):
        return False
    for prepare in (mujoco.mj_forward, lambda *_: None):  # which changes the warm start
        mujoco.mj_setState(model, data, state, _ALL)
        prepare(model, data)
    with suppress(Exception):  # whatever the user's environment raises
        return bool(np.allclose(_border(env).observed(env.unwrapped._get_obs()), obs, rtol=1e-6, atol=1e-6))  # type: ignore[attr-defined]
    return False


def _parts(env: gymnasium.Env) -> tuple[Any, Any]:
    """The model and the data of an environment whose wrappers are all passive and that says what it observes."""
    bare, attributes = env.unwrapped, getattr(env.unwrapped, "__dict__", {}).values()
    models = [part for part in attributes if isinstance(part, mujoco.MjModel)]
    data = [part for part in attributes if isinstance(part, mujoco.MjData)]
    offered = len(models) == len(data) == 1 and hasattr(bare, "_get_obs") and _are_passive(env)
    return (models[0], data[0]) if offered else (None, None)


def _are_passive(env: gymnasium.Env) -> bool:
    while isinstance(env, gymnasium.Wrapper):
        if type(env).__name__ not in _PASSIVE:
            return False
        env = env.env
    return True


def _border(env: Any) -> Border:
    while not isinstance(env, Border):
        env = env.env
    return env
