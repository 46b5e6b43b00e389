"""Environments and functions that users pass as Python objects, and their names in the settings of a run."""

from collections.abc import Callable, Mapping
from typing import Any

from foretell.errors import UserError
from foretell.runs import arguments
from foretell.tasks.sources import Given, given

Env = str | Callable[..., Any] | Any
"""A name, a class, a function that makes an environment, an `EnvSpec`, or an environment object."""


def functions_of(env: Given | None, reward: Any, terminated: Any) -> dict[str, Any]:
    """The objects that `make_task` needs besides the settings."""
    return {"reward": reward, "terminated": terminated, "env": env if env is not None and env.thing else None}


def functions_again(env: Env | None, reward: Any, terminated: Any) -> dict[str, Any]:
    """As `functions_of`, for objects that are passed again when a run is opened. Raises `UserError`."""
    arguments.function("reward", reward)
    arguments.function("terminated", terminated)
    return functions_of(None if env is None else given(env), reward, terminated)


def arguments_again(functions: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that pass the same functions and environment to another stage."""
    again = {name: functions[name] for name in ("reward", "terminated") if callable(functions[name])}
    return again if functions["env"] is None else {**again, "env": functions["env"].thing}


def chosen_settings(env: Given | None, env_options: object, functions: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that follow from the arguments of `train`."""
    options = {} if env_options is None else arguments.options("env_options", env_options)
    named = {name: name_of(functions[name]) for name in ("reward", "terminated") if functions[name] is not None}
    if env is not None:
        named["env"], options = env.name, {**dict(env.options), **options}
    return {"task": {**named, "options": options} if options else named}


def name_of(function: Any) -> str:
    """`module:function`, by which a function may be imported. Raises `UserError` if it is not a function."""
    if isinstance(function, str):
        return str(function)  # NumPy's strings too
    if not callable(function):
        raise UserError(f"reward and terminated must be functions or 'module:function', not {function!r}")
    return f"{function.__module__}:{getattr(function, '__qualname__', '<' + type(function).__name__ + '>')}"
