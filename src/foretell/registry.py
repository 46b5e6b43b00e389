"""What can be chosen by name: planners, models, learners and more, by section and kind.

A class or function registers itself in its own file with `register`. A user names `module:Class` in the settings, or a
package declares an entry point in the group `foretell.plugins` whose module registers what it brings.
"""

import importlib
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from foretell.errors import UserError, brief, nearest

T = TypeVar("T")

_HOMES = {
    "planner": "foretell.planning",
    "model": "foretell.models",
    "fit": "foretell.models",
    "propagation": "foretell.models",
    "learner": "foretell.values.learners",
    "reduction": "foretell.values",
    "agent": "foretell.agents",
    "task": "foretell.tasks",
}
"""The package whose import registers what Foretell itself brings."""
_registered: dict[str, dict[str, Any]] = {section: {} for section in _HOMES}
_plugins_are_loaded = False


def register(section: str, kind: str) -> Callable[[T], T]:
    """Decorator: make a class or function available as `kind` in a section of the settings.

    Args:
        section: one of `planner`, `model`, `fit`, `propagation`, `learner`, `reduction`, `agent`, `task`.
        kind: the name by which settings choose it.

    Raises:
        UserError: if there is no such section, or something else has that name.
    """
    if not isinstance(section, str) or section not in _registered:
        raise UserError(f"no section '{section}'{nearest(str(section), _registered)}")
    if not isinstance(kind, str) or not kind.strip():
        raise UserError(f"kind must be a name, not {kind!r}")

    def keep(thing: T) -> T:
        there = _registered[section].setdefault(kind, thing)
        if there is not thing and _origin(there) != _origin(thing):
            raise UserError(f"{section} '{kind}' is registered already, by {_origin(there)}")
        _registered[section][kind] = thing
        return thing

    return keep


def kinds(section: str) -> dict[str, Any]:
    """Everything registered in a section, plug-ins included, by kind in alphabetical order."""
    importlib.import_module(_HOMES[section])
    _load_plugins()
    return dict(sorted(_registered[section].items()))


def find(section: str, kind: str, base: type | None = None) -> Any:
    """What a kind stands for.

    Args:
        section: the section of the settings.
        kind: a registered name, or `module:Class`.
        base: the class it must be a subclass of, if any.

    Raises:
        UserError: if there is none.
    """
    importlib.import_module(_HOMES[section])
    found = _registered[section].get(kind)
    if found is None:
        found = import_object(f"{section}.kind", kind, base) if ":" in kind else kinds(section).get(kind)
    if found is None:
        raise UserError(f"no {section}.kind '{kind}'{nearest(kind, kinds(section))}")
    return found


def import_object(role: str, path: str, base: type | None = None) -> Any:
    """Import `module:name`. The working directory is searched too.

    Args:
        role: what it is for, as the message says it.
        path: `module:name`.
        base: the class it must be a subclass of, if any.

    Raises:
        UserError: if it cannot be imported, or is of another kind.
    """
    module_name, _, name = path.partition(":")
    module = import_module(role, path, module_name)
    found = getattr(module, name, None)
    if found is not None and (base is None or _is_a(found, base)):
        return found
    choices = [key for key, value in vars(module).items() if base is None or (_is_a(value, base) and value is not base)]
    what = f"no {base.__name__} '{name}'" if base else f"nothing named '{name}'"
    raise UserError(f"{role} '{path}': '{module_name}' has {what}{nearest(name, choices)}")


def import_module(role: str, path: str, module: str) -> Any:
    """Import a module that the user named in `path`. Raises `UserError`."""
    if module.endswith(".py"):
        name = f"{Path(module).stem}:{path.partition(':')[2]}"
        raise UserError(f"{role} '{path}': a module is named without folder and '.py'; in its folder, write '{name}'")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise UserError(f"{role} '{path}': cannot import '{module}' ({brief(error)})") from error


def _load_plugins() -> None:
    """Import the modules that installed packages declare. Raises `UserError` if one cannot be imported."""
    global _plugins_are_loaded
    if _plugins_are_loaded:
        return
    _plugins_are_loaded = True
    for plugin in entry_points(group="foretell.plugins"):
        if plugin.dist is not None and Path(str(plugin.dist.locate_file(""))).absolute() == Path.cwd():
            continue  # it lies in the working directory and is not installed
        try:
            plugin.load()
        except Exception as error:  # whatever the package raises
            raise UserError(f"the plug-in '{plugin.name}' cannot be imported ({brief(error)})") from error


def _is_a(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def _origin(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', thing)}"
