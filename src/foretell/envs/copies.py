"""Copies of an environment that go on exactly as the environment itself would."""

import copy
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec

_DRAWING = ("mujoco_renderer", "renderer", "viewer", "window", "screen", "surf", "clock")
"""Attributes that environments draw with. Such objects can be neither copied nor shared, and hold no state."""
_SHARED = (gymnasium.Space, EnvSpec)
"""What describes an environment and never changes."""


def snapshot(env: gymnasium.Env) -> gymnasium.Env:
    """Copy the bare environment within all wrappers as it stands, its random generator included.

    Not by `deepcopy` of the whole: of environments with Gymnasium's `EzPickle` that would be a new one.

    Args:
        env: the environment, wrapped or not.

    Returns:
        A bare environment that draws nothing.

    Raises:
        Exception: whatever is raised by parts that cannot be copied.
    """
    bare = env.unwrapped
    twin = blank(bare)
    models = {id(part): copy.copy(part) for part in vars(bare).values() if isinstance(part, mujoco.MjModel)}
    _fill(twin, bare, {**_parts(twin, bare), **models})
    return twin


def blank(start: gymnasium.Env) -> gymnasium.Env:
    """An environment of the same class without attributes, to be filled by `put`."""
    return object.__new__(type(start))


def put(env: gymnasium.Env, start: gymnasium.Env) -> None:
    """Put a bare environment into the state of a snapshot. It keeps what is slow to make, and fills it anew.

    Args:
        env: a bare environment of the same class. It then shares the snapshot's MuJoCo model.
        start: the snapshot, which stays as it is.
    """
    _fill(env, start, _parts(env, start))


def _parts(env: gymnasium.Env, start: gymnasium.Env) -> dict[int, Any]:
    """What stands in `env` for the parts of `start` that `deepcopy` is not to copy, by their ids."""
    parts: dict[int, Any] = {}
    for name, part in vars(start).items():
        own = vars(env).get(name)
        if isinstance(part, mujoco.MjModel):
            parts[id(part)] = part
        elif isinstance(part, mujoco.MjData):
            parts[id(part)] = _filled_data(own, part)
        elif isinstance(part, np.random.Generator) and isinstance(own, np.random.Generator) and _are_alike(own, part):
            own.bit_generator.state = part.bit_generator.state
            parts[id(part)] = own
    return parts


def _filled_data(own: Any, part: mujoco.MjData) -> mujoco.MjData:
    """All of it: rewards may depend on derived quantities, and those are of an earlier time than the state.

    `deepcopy` would copy the model once more.
    """
    data = own if isinstance(own, mujoco.MjData) else mujoco.MjData(part.model)
    mujoco.mj_copyData(data, part.model, part)
    return data


def _are_alike(own: np.random.Generator, part: np.random.Generator) -> bool:
    return type(own.bit_generator) is type(part.bit_generator)


def _fill(env: gymnasium.Env, source: gymnasium.Env, parts: dict[int, Any]) -> None:
    """Give `env` copies of all attributes of `source`, with `parts` for those of these ids."""
    attributes = vars(source)
    drawing = {id(part): None for name, part in attributes.items() if name in _DRAWING and not _is_plain(part)}
    shared = {id(part): part for part in attributes.values() if isinstance(part, _SHARED)}
    copied = copy.deepcopy(attributes, {**drawing, **shared, **parts, id(source): env})
    vars(env).clear()
    vars(env).update(copied)
    if "render_mode" in copied:
        env.render_mode = None


def _is_plain(part: object) -> bool:
    """Whether it may be something else of that name; Python may use the same object in other places too."""
    return isinstance(part, int | float | str | np.ndarray)
