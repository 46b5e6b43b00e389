"""Makes a task from its settings: a registered task by its short name, or any Gymnasium environment."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from inspect import signature
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import gymnasium
import jax
import jax.numpy as jnp
from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveInt, field_validator

from foretell import registry
from foretell.errors import UserError, located, nearest
from foretell.settings import Settings
from foretell.tasks.base import Follows, Task, TaskSpec
from foretell.tasks.gym import GymTask
from foretell.tasks.sources import AGAIN, Given, is_registered, source_from, source_of
from foretell.tasks.spaces import LARGEST, brief_value

_WORDS = {"reward": ("auto", "learned"), "terminated": ("auto", "learned", "none")}
"""Values of these settings besides the name of a function."""


class TaskSettings(Settings):
    """The environment, and the sources of its reward and termination."""

    env: str | None = None
    """The environment: the name of a registered task, `module:Class` of a task, a Gymnasium id (`Pendulum-v1`,
    `module:Id-v0`), `module:name` of an environment's class or of a function that makes an environment, or
    `module:function:Id` if the function registers the id."""
    reward: str = "auto"
    """`auto` (known if the task knows it, else learned), `learned`, or `module:function` of (obs, action, next_obs)."""
    terminated: str = "auto"
    """As for `reward`, or `none`: imagined episodes never terminate."""
    horizon: PositiveInt | None = None
    """Steps per episode; null: the environment's own time limit, or 1,000 steps if it has none. Some registered tasks
    have a fixed horizon."""
    action_repeat: PositiveInt = 1
    """Steps of the environment for each action; rewards are summed, and the rest is left out where an episode ends.
    All numbers of steps in settings, tables and messages then count actions. A reward that the task knows is learned,
    because it is that of single steps."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of an environment, or options of a registered task: `original_kinematics` and `predicts_goal`
    of the reacher, `wrist_tip` and `original_object` of the pusher, `progress` of `cheetah-torso` (`com-lagged`, `com`,
    `torso`); `reset` (`released`, `collection`, `gym`, `paper`) and `cost` (`released`, `paper`) of the `mbmf-` tasks,
    `path` (`straight` and others) and `segments` of all of these except the hopper, `released_angles` of `mbmf-ant`;
    `inputs` (`invariant`, `raw`) of the `mve-` tasks that run."""
    actions: Literal["bounds", "unit"] = "bounds"
    """Scale actions to the environment's bounds (`bounds`), or use actions in [-1, 1] for all environments (`unit`, the
    released STEVE)."""
    action_bounds: tuple[FiniteFloat | list[FiniteFloat], FiniteFloat | list[FiniteFloat]] | None = None
    """Lower and upper bound of the actions, as numbers or as lists of one number per action, for actions without bounds
    or with wide ones; null: the environment's own bounds."""
    reward_weights: list[FiniteFloat] | None = None
    """Weights of the rewards of an environment that returns several at once; their weighted sum is the reward."""
    wrappers: list[str | dict[str, dict[str, Any] | None]] = Field(default_factory=list)
    """Wrappers around a Gymnasium environment, the innermost first. Each is the name of one of Gymnasium's wrappers,
    `module:Wrapper`, or one of these with its arguments, as `{RescaleAction: {min_action: -1, max_action: 1}}`."""
    check: bool = True
    """Play a few short episodes before training, to find an environment that is not reproducible, or a reward or
    termination function that returns no number. Switch it off for a robot that must not move yet."""
    action_noise: NonNegativeFloat = 0.0
    """Standard deviation of Gaussian noise on every executed action, in the units of the actions. The data hold the
    action without the noise, so models learn the noise as part of the dynamics. Evaluation episodes have the noise
    too."""
    random_noise: bool = True
    """Whether random episodes have `action_noise` too; false: the released MB-MPC."""

    @field_validator("env", "reward", "terminated")
    @classmethod
    def _strip(cls, name: str | None) -> str | None:
        return None if name is None else name.strip()

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict) -> dict:
        for key, value in options.items():
            if not _can_be_stored(value):
                raise ValueError(
                    f"{key}={brief_value(value)} of type {type(value).__name__} cannot be stored in settings, which "
                    "hold numbers, texts, lists and dictionaries; in Python, let env= be a function that makes the "
                    "environment with it"
                )
        return options

    @field_validator("wrappers")
    @classmethod
    def _check_wrappers(cls, wrappers: list) -> list:
        for entry in wrappers:
            if isinstance(entry, dict) and len(entry) != 1:
                raise ValueError(f"a wrapper is a name or {{name: arguments}}, not {entry!r}")
        return wrappers


def make_task(settings: TaskSettings, functions: Mapping[str, Any] | None = None) -> Task:
    """Make the task that the settings describe.

    Args:
        settings: the section `task`.
        functions: `reward` and `terminated` as Python functions, and `env` as `Given`; what is neither is ignored.

    Raises:
        UserError: for every mistake in the settings, and if the environment cannot be made.
    """
    if settings.env is None:
        raise UserError("name the environment: --env ID, for example --env Pendulum-v1")
    known = {name: f for name, f in (functions or {}).items() if callable(f)}
    thing = _thing_given((functions or {}).get("env"), settings.env)
    task_class = _task_class(settings.env, thing)
    task = _known_task(task_class, settings, settings.env) if task_class else _gym_task(settings, settings.env, thing)
    if settings.action_repeat > 1:
        _repeat_actions(task, settings)
    task.action_noise, task.random_noise = settings.action_noise, settings.random_noise
    if settings.reward_weights is not None:
        task.reward_weights = tuple(settings.reward_weights)
    if settings.actions == "unit":
        size = task.spec.action_size
        task.spec = replace(task.spec, action_low=(-1.0,) * size, action_high=(1.0,) * size)
    for role, choice in (("reward", settings.reward), ("terminated", settings.terminated)):
        if role in known or choice not in _WORDS[role]:
            setattr(task, role, _checked(task, role, choice, known.get(role) or load_function(role, choice)))
    return task


def _can_be_stored(value: object) -> bool:
    """Whether a file of settings can hold this value."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _can_be_stored(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(_can_be_stored, value))
    return value is None or isinstance(value, bool | int | float | str)


def _thing_given(env: Any, name: str) -> Any:
    """The object that a user has passed as this environment; None if the name is sufficient. Raises `UserError`."""
    if not isinstance(env, Given):
        if "<" in name:
            raise UserError(f"env '{name}' cannot be imported by name; {AGAIN}")
        return None
    if env.name != name:
        raise UserError(f"the environment of the settings is '{name}', but env= is '{env.name}'")
    return env.thing


def _task_class(env: str, thing: Any) -> type[Task] | None:
    """The task class that is passed or named; None if it is a Gymnasium environment."""
    if thing is None:
        module, colon, name = env.rpartition(":")
        if not colon or ":" in module or "-v" in name:
            return registry.kinds("task").get(env)
        thing = getattr(registry.import_module("env", env, module), name, None)
    return thing if isinstance(thing, type) and issubclass(thing, Task) else None


def _gym_task(settings: TaskSettings, env: str, thing: Any) -> Task:
    tasks = registry.kinds("task")
    if thing is None and ":" not in env and "-v" not in env and not is_registered(env):
        choices = nearest(env, [*tasks, *gymnasium.registry, *_with_colon(env)])
        choices = choices or f"; choose one of: {', '.join(tasks)}, Id-v0, module:Id-v0"
        raise UserError(f"no task '{env}'{choices}")
    task = GymTask(
        source_of(env) if thing is None else source_from(env, thing),
        horizon=None if settings.horizon is None else settings.horizon * settings.action_repeat,
        options=settings.options,
        wrappers=settings.wrappers,
        action_bounds=settings.action_bounds,
    )
    task.learns_termination = settings.terminated in ("auto", "learned")
    return task


def _with_colon(env: str) -> list[str]:
    """`module.Class` as it must be written, if the module can be found."""
    module, dot, name = env.rpartition(".")
    with suppress(ImportError, ValueError):
        return [f"{module}:{name}"] if dot and find_spec(module) else []
    return []


def _known_task(task_class: type[Task], settings: TaskSettings, env: str) -> Task:
    _check_options(task_class, settings)
    for name in ("wrappers", "action_bounds"):
        if getattr(settings, name):
            raise UserError(f"task.{name} is for Gymnasium environments; '{env}' is a task that defines this itself")
    try:
        task = task_class(**settings.options)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's class raises
        raise UserError(f"env '{env}': the task cannot be made ({located(error)})") from error
    if not isinstance(getattr(task, "spec", None), TaskSpec):
        raise UserError(f"env '{env}': the task must have a `spec`, a foretell.tasks.TaskSpec")
    _check_bounds(task.spec, env)
    if settings.horizon is not None:
        if not task.any_horizon:
            raise UserError(f"task.horizon is fixed at {task.spec.horizon} for '{env}'; remove task.horizon")
        task.spec = replace(task.spec, horizon=settings.horizon * settings.action_repeat)
    if settings.reward == "learned":
        task.reward = None
    if settings.terminated in ("learned", "none"):
        task.terminated, task.learns_termination = None, settings.terminated == "learned"
    return task


def _repeat_actions(task: Task, settings: TaskSettings) -> None:
    """Raises `UserError` if the task is about single steps."""
    if isinstance(task, Follows):
        raise UserError(f"task.action_repeat must be 1 for '{settings.env}', whose objective is that of single steps")
    task.action_repeat = settings.action_repeat
    task.spec = replace(task.spec, horizon=-(-task.spec.horizon // settings.action_repeat))
    task.reward = None


def _check_bounds(spec: TaskSpec, env: str) -> None:
    """Raises `UserError` if planners cannot compute with the bounds of the actions."""
    for bound in (*spec.action_low, *spec.action_high):
        if not abs(bound) <= LARGEST:
            raise UserError(
                f"env '{env}': the task's spec has the action bound {bound:g}, but planning needs bounds within "
                f"{LARGEST:g}; task.action_bounds is for Gymnasium environments, so narrow them in the spec"
            )


def _check_options(task_class: type[Task], settings: TaskSettings) -> None:
    """Raises `UserError` if the task has no such option or an option is not of its type."""
    try:
        known = signature(task_class, eval_str=True).parameters
    except NameError:  # of types that are only there for a type checker
        known = signature(task_class).parameters
    for name, value in settings.options.items():
        if name not in known:
            has = nearest(name, known) or "; it has none"
            raise UserError(f"the task '{settings.env}' has no option '{name}'{has}")
        wrong = _mismatch(known[name].annotation, value)
        if wrong:
            raise UserError(f"task.options.{name} of '{settings.env}' {wrong}")


def _mismatch(annotation: Any, value: Any) -> str:
    """What is wrong with an option's value, or ''; other types than these are not checked."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return "" if value is None or len(kinds) > 1 else _mismatch(kinds[0], value)
    if get_origin(annotation) is Literal:
        choices = [str(choice) for choice in get_args(annotation)]
        return "" if value in get_args(annotation) else f"must not be {value!r}{nearest(str(value), choices)}"
    right, kind = {
        bool: (isinstance(value, bool), "a switch, true or false"),
        int: (isinstance(value, int) and not isinstance(value, bool), "a whole number"),
        float: (isinstance(value, int | float) and not isinstance(value, bool), "a number"),
    }.get(annotation, (True, ""))
    return "" if right else f"is {kind}, not {value!r}"


def _checked(task: Task, role: str, path: str, function: Callable) -> Callable:
    """The user's function. Raises `UserError` unless it can be compiled and gives one value per row."""
    sizes = task.spec.obs_size, task.spec.action_size, task.spec.obs_size
    try:
        out, _ = (jax.eval_shape(function, *(jnp.zeros((*rows, size)) for size in sizes)) for rows in ((2, 3), (4,)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises
        if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError):
            problem = "must use jax.numpy and no `if`, `float` or NumPy on its arguments, to run in a compiled program"
        else:
            problem = "fails on arrays of shape [..., obs], [..., action], [..., obs]"
        raise UserError(f"{role} '{path}' {problem} ({located(error)})") from error
    if getattr(out, "shape", None) != (2, 3):
        raise UserError(
            f"{role} '{path}' must return one value per row, shape (2, 3) for inputs of shape (2, 3, n), "
            f"not {getattr(out, 'shape', type(out).__name__)}"
        )
    if jnp.issubdtype(out.dtype, jnp.complexfloating):
        raise UserError(f"{role} '{path}' must return real numbers, not {out.dtype}")
    return function


def load_function(role: str, path: str) -> Callable:
    """Import `module:function`. Raises `UserError`."""
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        words = ", ".join(map(repr, _WORDS[role]))
        raise UserError(f"{role} must be {words} or 'module:function', not '{path}'")
    module = registry.import_module(role, path, module_name)
    function = getattr(module, name, None)
    if callable(function):
        return function
    if "<" in name or module_name == "__main__":
        raise UserError(f"{role} '{path}' cannot be imported by name; in Python, give {role}= to load or resume too")
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    raise UserError(f"{role} '{path}': '{module_name}' has no function '{name}'{nearest(name, functions)}")
