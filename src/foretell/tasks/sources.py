"""Ways to make an environment: from an id, a class, a function or an object; and the wrappers around it."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from inspect import Parameter, iscoroutine, signature
from typing import Any, NamedTuple

import gymnasium
import mujoco
from gymnasium.envs.registration import EnvSpec

from foretell import registry
from foretell.errors import UserError, brief, nearest
from foretell.tasks.border import blamed

AGAIN = "in Python, give env= to resume, load and film again"
"""How to open a run whose environment cannot be imported by name."""

Wrappers = Sequence[str | Mapping[str, Mapping[str, Any] | None]]
"""Each entry is the name of one of Gymnasium's wrappers, `module:Wrapper`, or `{name: arguments}`."""


class Source(NamedTuple):
    """A way to make an environment."""

    name: str
    make: Callable[..., gymnasium.Env]
    """Takes the user's arguments and, if `takes_render_mode`, `render_mode`."""
    is_id: bool = False
    """Whether Gymnasium makes it from an id; `max_episode_steps` is then an argument too."""
    takes_render_mode: bool = True
    """Whether it takes the argument `render_mode`."""


class Given(NamedTuple):
    """An environment that a user has passed to a Python function."""

    name: str
    """Its name in the settings of a run."""
    options: tuple[tuple[str, Any], ...]
    """Pairs of name and value: the arguments that belong to an id."""
    thing: Any
    """A class or a function that makes it; None if the name is sufficient."""


def given(env: object) -> Given:
    """Read an argument `env`: a name, an `EnvSpec`, a class, a function that makes an environment, or an environment.

    Raises:
        UserError: if it is something else.
    """
    if isinstance(env, str):
        return Given(str(env).strip(), (), None)  # NumPy's strings too
    spec = env.spec if isinstance(env, gymnasium.Env) else env
    if isinstance(spec, EnvSpec):
        if not spec.additional_wrappers and _is_plain(spec.kwargs) and spec.id in gymnasium.registry:
            return Given(spec.id, tuple(_arguments(spec).items()), None)
        return Given(f"EnvSpec:<{spec.id}>", (), partial(gymnasium.make, spec))
    if isinstance(env, gymnasium.Env):
        return Given(f"{_path(type(env))}:<object>", (), _Copies(env))
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise UserError(f"env must be a single environment, not {str(env)[:80]}; for several, set train.environments")
    if not callable(env):
        raise UserError(
            "env must be a name, a class, a function that makes an environment, or an environment, not "
            f"{str(env)[:80]!r} of type {type(env).__name__}"
        )
    return Given(_path(env), (), env)


def source_of(env: str) -> Source:
    """The source of the environment with this name.

    Args:
        env: `Id`, `module:Id`, `module:function:Id` (the function registers the id), or `module:name` of a class or of
            a function that makes an environment.

    Raises:
        UserError: if there is none.
    """
    module, colon, last = env.rpartition(":")
    if not colon:
        return _registered(env, env)
    if ":" in module:
        _call(env, module)
        return _registered(env, last, module.partition(":")[0])
    found = getattr(registry.import_module("env", env, module), last, None)
    if found is not None and last not in gymnasium.registry:
        return source_from(env, found)
    if "-v" in last or is_registered(last):
        return _registered(env, last, module)
    if module == "__main__":
        raise UserError(f"env '{env}' cannot be imported by name; {AGAIN}")
    return source_from(env, registry.import_object("env", env))


def is_registered(env_id: str) -> bool:
    """Whether an id is registered in Gymnasium; an id without a version means the highest version."""
    return env_id in gymnasium.registry or any(known.rpartition("-v")[0] == env_id for known in gymnasium.registry)


def source_from(name: str, thing: Any) -> Source:
    """The source for a class, a function or an environment object. Raises `UserError`."""
    if isinstance(thing, gymnasium.Env):
        thing = _Copies(thing)
    if not callable(thing):
        raise UserError(f"env '{name}' is of type {type(thing).__name__}; it must make environments")
    return Source(name, partial(_make_from, name, thing), takes_render_mode=_takes(thing, "render_mode"))


def wrapped(env: gymnasium.Env, wrappers: Wrappers) -> gymnasium.Env:
    """Put an environment into wrappers, the first one innermost.

    Args:
        env: the environment.
        wrappers: names of wrappers, or names with arguments.

    Raises:
        UserError: if there is no such wrapper, or it cannot be made.
    """
    for entry in wrappers:
        name, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
        with blamed(f"cannot make the wrapper '{name}'"):
            env = _wrapper(name)(env, **(options or {}))
        if not isinstance(env, gymnasium.Env):
            raise UserError(f"the wrapper '{name}' makes {type(env).__name__}, not a gymnasium.Env")
    return env


@contextmanager
def silence() -> Iterator[None]:
    """Suppress warnings while an environment is made: about newer versions, about rendering (which is reported later),
    and MuJoCo's warnings about outdated elements of Gymnasium's models."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        mujoco.set_mju_user_warning(before)


class _Copies:
    """Makes copies of one environment."""

    def __init__(self, env: gymnasium.Env) -> None:
        self._env = env

    def __call__(self) -> gymnasium.Env:
        name = type(self._env).__name__
        try:
            copied = deepcopy(self._env)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of any kind, raised by its parts
            raise UserError(f"{name} cannot be copied; give a function that makes it ({brief(error)})") from error
        if not isinstance(copied, gymnasium.Env):
            raise UserError(f"{name} cannot be copied; give a function that makes it (its copy is {copied!r})")
        return copied


def _registered(env: str, env_id: str, module: str | None = None) -> Source:
    """The source for an environment that Gymnasium makes from an id."""
    return Source(env, partial(_make_registered, env, env_id, module), is_id=True)


def _make_registered(env: str, env_id: str, module: str | None, **options: Any) -> gymnasium.Env:
    """Make the environment with this id. Raises `UserError` if it is not registered."""
    try:
        return gymnasium.make(env_id, disable_env_checker=True, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        if "box2d" not in str(error):
            raise
        raise UserError(
            f"cannot make the environment '{env}': Box2D is not installed; run pip install 'foretell[box2d]'"
        ) from error
    except gymnasium.error.Error as error:
        if not (isinstance(error, gymnasium.error.UnregisteredEnv) or "Malformed environment ID" in str(error)):
            raise
        raise UserError(f"no Gymnasium environment '{env}'{_nearest_id(env_id, module)}") from None


def _make_from(name: str, thing: Any, **options: Any) -> gymnasium.Env:
    """Make an environment with a class or function. Raises `UserError` if it returns something else."""
    if options and isinstance(thing, _Copies):
        raise UserError(
            f"env '{name}' is an object that exists already, so task.options have no effect; give its class instead"
        )
    before = set(gymnasium.registry)
    env = thing(**options)
    if isinstance(env, gymnasium.Env):
        return env
    new = sorted(set(gymnasium.registry) - before)
    if env is None:
        registers = f"it registered {', '.join(new[:3])}" if new else "if it registers environments"
        raise UserError(f"env '{name}' returned no environment; {registers}: write '{name}:{(new or ['Id'])[0]}'")
    if iscoroutine(env):
        env.close()  # or Python says that nobody has waited for it
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise UserError(f"env '{name}' makes several environments at once; let it make one, and set train.environments")
    old = " of the old package gym" if type(env).__module__.startswith("gym.") else ""
    raise UserError(f"env '{name}' returned {type(env).__name__}{old}, not a gymnasium.Env")


def _call(env: str, path: str) -> None:
    """Call `module:function`, which registers environments. Raises `UserError`."""
    function = registry.import_object("env", path)
    with blamed(f"env '{env}': {path.partition(':')[2]}() failed"), silence():
        function()


def _wrapper(name: str) -> Any:
    if ":" in name:
        return registry.import_object("wrapper", name, gymnasium.Wrapper)
    found = getattr(gymnasium.wrappers, name, None)
    if found is None:
        names = [other for other in gymnasium.wrappers.__all__ if other[0].isupper()]
        raise UserError(f"no wrapper '{name}'{nearest(name, names) or '; write module:Wrapper'}")
    return found


def _arguments(spec: EnvSpec) -> dict[str, Any]:
    """The arguments with which `gymnasium.make` makes the environment of a spec."""
    known = gymnasium.registry[spec.id]
    own = {key: value for key, value in spec.kwargs.items() if key != "render_mode" and known.kwargs.get(key) != value}
    changed = spec.max_episode_steps != known.max_episode_steps
    return own | ({"max_episode_steps": spec.max_episode_steps} if changed else {})


def _takes(thing: Callable, name: str) -> bool:
    """Whether a function has an argument of this name, or takes arbitrary keyword arguments."""
    try:
        parameters = signature(thing).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())


def _is_plain(value: object) -> bool:
    """Whether YAML can store the value without changing it."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _path(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '<' + type(thing).__name__ + '>')}"


def _nearest_id(env_id: str, module: str | None) -> str:
    if module is None:
        return nearest(env_id, gymnasium.registry) or f"; if a package of yours registers it, write 'package:{env_id}'"
    known = [f"{module}:{spec.id}" for spec in gymnasium.registry.values() if _is_from(module, spec)]
    return nearest(f"{module}:{env_id}", known)


def _is_from(module: str, spec: Any) -> bool:
    """Whether an environment belongs to the package of `module`."""
    entry = spec.entry_point
    home = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return home.replace(":", ".").split(".")[0] == module.split(".")[0]
