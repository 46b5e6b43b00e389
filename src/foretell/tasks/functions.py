"""Checks of reward and termination functions on steps of their environment, and of what they do near these steps."""

import re
from collections.abc import Callable
from functools import partial
from inspect import getsourcefile, unwrap
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from foretell.errors import UserError, located
from foretell.tasks.base import Task
from foretell.tasks.border import blamed

_NEAR, _SPREAD = 500, 3.0
"""Steps near those of an episode in which a function is tried, and how far they are, in standard deviations."""
_ADDRESS = re.compile("0x[0-9a-f]+")

Steps = tuple[Float[np.ndarray, "t obs"], Float[np.ndarray, "t action"], Float[np.ndarray, "t obs"]]
"""Observations, actions and next observations in single precision."""


def check_function(task: Task, role: str, name: str, steps: Steps) -> Float[np.ndarray, "t"]:
    """Check one of the user's functions on real steps.

    Args:
        task: the task.
        role: `reward` or `terminated`.
        name: the function's name in the settings.
        steps: real steps.

    Returns:
        Its values for these steps.

    Raises:
        UserError: if it fails, returns something else than a number for a step, or a number that depends on more than
            that step.
    """
    function, env = getattr(task, role), task.spec.env_id
    with blamed(f"{role} '{name}' failed on steps of '{env}'"):
        values, alone = (np.asarray(each, np.float64) for each in jax.jit(partial(_all_and_last, function))(*steps))
        programs = {_program(function, steps) for _ in range(2)}
    _check_values(f"{role} '{name}' returned", values, env, probability=role == "terminated")
    if len(programs) > 1:
        raise UserError(
            f"{role} '{name}' is another function each time it is called, as with random numbers or a counter, but it "
            "is compiled once and must depend on (obs, action, next_obs) alone"
        )
    scale = 1e-3 * np.abs(values).max()
    if not np.allclose(values[-1:], alone, rtol=1e-3, atol=scale):
        raise UserError(
            f"{role} '{name}' returned {values[-1]:g} for a step among others and {alone[0]:g} for the same step "
            "alone, but it must treat each row by itself"
        )
    if beyond := _reads_beyond(function, steps):
        raise UserError(f"{role} '{name}' reads an entry that observations or actions do not have ({beyond})")
    return values


def where_not_finite(task: Task, steps: Steps) -> str | None:
    """Which function of the task is not finite near the steps of an episode, and where its code is.

    Args:
        task: the task.
        steps: those of an episode.

    Returns:
        Part of a sentence; None if all are finite there.
    """
    near = _near(task, steps)
    for role in ("reward", "terminated"):
        function = getattr(task, role)
        if function is None:
            continue
        values = np.asarray(jax.jit(function)(*near), np.float64)
        if wrong := int(np.sum(~np.isfinite(values))):
            return (
                f"{role} {_described(function)} is not finite in {wrong} of {len(values)} steps like those of the data"
            )
    return None


def _check_values(what: str, values: Float[np.ndarray, "t"], env: str, *, probability: bool) -> None:
    """Raises `UserError` if a value is not finite, or not between 0 and 1."""
    right = np.isfinite(values) & ((values >= 0) & (values <= 1) if probability else True)
    if right.all():
        return
    text = f"{what} {values[int(np.argmin(right))]:g} on {np.sum(~right)} of {len(values)} steps of '{env}'"
    raise UserError(f"{text}, which is neither true nor false" if np.isfinite(values).all() else text)


def _all_and_last(function: Callable, *steps: Any) -> tuple[Any, Any]:
    """Its values for all steps, and for the last one alone."""
    return function(*steps), function(*(rows[-1:] for rows in steps))


def _program(function: Callable, steps: Steps) -> tuple[str, ...]:
    """What the function is for JAX, and the arrays that are constant in it."""
    made = jax.make_jaxpr(lambda *rows: function(*rows))(*steps)
    return _ADDRESS.sub("", str(made)), *(np.asarray(const).tobytes().hex() for const in made.consts)


def _reads_beyond(function: Callable, steps: Steps) -> str:
    """How the function reads beyond the end of a row, or ''. JAX reads the last entry then; NumPy's arrays refuse."""
    try:
        jax.eval_shape(lambda: function(*steps))
    except IndexError as error:
        return located(error)
    except Exception:  # of what only JAX's arrays have
        return ""
    return ""


def _near(task: Task, steps: Steps) -> tuple[np.ndarray, ...]:
    """The steps, and others near them, with actions from anywhere within the bounds."""
    rng, (obs, _, next_obs) = np.random.default_rng(0), steps
    rows, spec = rng.integers(len(obs), size=_NEAR), task.spec
    shift = _SPREAD * (obs.std(0) + 1e-3)
    action = rng.uniform(spec.action_low, spec.action_high, (_NEAR, spec.action_size))
    added = (side[rows] + shift * rng.standard_normal((_NEAR, spec.obs_size)) for side in (obs, next_obs))
    start, end = (each.astype(np.float32) for each in added)
    return tuple(map(np.concatenate, zip(steps, (start, action.astype(np.float32), end), strict=True)))


def _described(function: Any) -> str:
    """The name of a function, with file and line where they are known."""
    inner = unwrap(getattr(function, "func", function))
    name = f"'{getattr(inner, '__module__', '')}:{getattr(inner, '__qualname__', type(inner).__name__)}'"
    code = getattr(inner, "__code__", getattr(type(inner).__call__, "__code__", None))
    return f"{name} (at {getsourcefile(code)}, line {code.co_firstlineno})" if code is not None else name
