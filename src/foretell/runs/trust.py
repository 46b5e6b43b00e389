"""Decides whether a run may import code that its settings name: the user's own runs may, others only with `--trust`.

When a run is made, `code.json` is written to its directory. It holds the names of code in the settings, the location of
their modules, and a signature (HMAC-SHA-256) of both with a random key of the user.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache, wraps
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import platformdirs

from foretell.errors import UserError, brief

P = ParamSpec("P")
T = TypeVar("T")
_trusting: ContextVar[bool] = ContextVar("trusting", default=False)
_NO_CODE = ("description", "preset", "provenance", "pretrained")
"""Settings whose text never names code."""
_NAME = re.compile(r"[A-Za-z_][\w.]*:\S+")
_KEY_SIZE = 32
_INSTALLED = {"site-packages", "dist-packages"}
_LIBRARIES = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[1])


class CodeName(NamedTuple):
    """A setting that names code."""

    setting: str
    """Path of the setting, as `section.key`."""
    name: str
    """`module:name`."""

    @property
    def module(self) -> str:
        return self.name.partition(":")[0]


@contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Allow imports of code that settings name, if `trust` is true or an enclosing context allows them."""
    token = _trusting.set(trust or _trusting.get())
    try:
        yield
    finally:
        _trusting.reset(token)


def opens_runs(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: if the function's keyword `trust` is true, it may open runs of other users."""

    @wraps(function)
    def call(*args: P.args, **keywords: P.kwargs) -> T:
        allowed = False
        with suppress(ValueError):  # of an array, which the function itself refuses
            allowed = bool(keywords.get("trust", False))
        with trusting(allowed):
            return function(*args, **keywords)

    return call


def code_names(tree: object, path: str = "") -> Iterator[CodeName]:
    """All names of the form `module:name` in a tree of settings."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if isinstance(key, str) and _NAME.fullmatch(key):  # `task.wrappers` may be `{name: arguments}`
                yield CodeName(path, key)
            if key not in _NO_CODE:
                yield from code_names(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from code_names(value, path)
    elif isinstance(tree, str) and (_NAME.fullmatch(tree) or (":" in tree and not path.startswith("task.options"))):
        yield CodeName(path, tree)


def sign(run: Path, tree: Mapping[str, Any]) -> None:
    """Write `code.json` for a run of this user, or remove it if the settings name no code."""
    names = sorted({found.name for found in code_names(tree)})
    if not names:
        (run / "code.json").unlink(missing_ok=True)
        return
    modules = {CodeName("", name).module.partition(".")[0] for name in names}
    code = {"names": names, "modules": {module: _described(module) for module in sorted(modules)}}
    aside = run / "code.tmp"
    aside.write_text(json.dumps({**code, "signature": _signature(code, _key(_key_path()))}, indent=1))
    aside.replace(run / "code.json")


def check(run: Path, tree: Mapping[str, Any], unused: Collection[str] = ()) -> None:
    """Raises `UserError` if settings name code that this user has neither signed nor allowed with `trusting`.

    Args:
        run: the run directory.
        tree: its settings.
        unused: paths of settings, as `section.key`, whose code will not be imported.
    """
    try:
        wanted = [found for found in code_names(tree) if found.setting not in unused]
    except RecursionError:
        raise UserError(f"cannot read the settings of '{run}': they contain themselves") from None
    if _trusting.get():
        return
    signed = _signed(run) if wanted else {}
    for setting, name in wanted:
        module = CodeName(setting, name).module
        if name not in signed.get("names", ()):
            why = "the run is not signed with your key"
        elif not _same(module.partition(".")[0], signed["modules"].get(module.partition(".")[0])):
            why = "this is not the module with which you trained it"
        else:
            continue
        raise UserError(
            f"opening '{run}' would run the module '{module}' ({setting}: {name}), and {why}; "
            "if you trust its code, add --trust (in Python trust=True)"
        )


def unkept() -> str | None:
    """Why other processes will not accept the signatures of this process; None if they will."""
    path = _key_path()
    _key(path)
    if path.is_file():
        return None
    return f"cannot write '{path}'; the settings of this run name code, so add --trust (trust=True) to open it again"


def _signed(run: Path) -> dict[str, Any]:
    """The content of `code.json`; empty if the signature is not this user's."""
    try:
        code = json.loads((run / "code.json").read_text())
        signature = str(code.pop("signature"))
        own = _signature(code, _key(_key_path()))
        return code if hmac.compare_digest(signature.encode(), own.encode()) else {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}


def _signature(code: Mapping[str, Any], key: bytes) -> str:
    text = json.dumps({name: code[name] for name in ("names", "modules")}, sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _key_path() -> Path:
    return Path(platformdirs.user_config_dir("foretell")) / "key"


@lru_cache
def _key(path: Path) -> bytes:
    """The user's key, made when it is first needed; if it cannot be stored, a key for this process only."""
    with suppress(OSError):
        if len(kept := path.read_bytes()) == _KEY_SIZE:
            return kept
    key = secrets.token_bytes(_KEY_SIZE)
    aside = path.with_name(f"key-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
        if path.exists():  # incomplete, or made by another process in the meantime
            aside.replace(path)
        else:
            os.link(aside, path)
        return path.read_bytes()
    except OSError:
        return key
    finally:
        with suppress(OSError):
            aside.unlink()


def _described(module: str) -> dict[str, Any]:
    """The location of a module, and digests of all imported files in its folder."""
    place = _place(module)
    if place is None or _is_library(place):
        return {"place": None if place is None else str(place), "files": {}}
    root = place.parent
    loaded = (getattr(found, "__file__", None) for found in list(sys.modules.values()))
    files = {Path(file) for file in loaded if file and file.startswith(f"{root}{os.sep}")}
    kept = (file for file in {place, *files} if file.is_file() and not _is_library(file))
    return {"place": str(place), "files": {str(file.relative_to(root)): _digest(file) for file in sorted(kept)}}


def _same(module: str, signed: Mapping[str, Any] | None) -> bool:
    """Whether a module is the one that was signed: in the same place, installed again, or moved without changes.

    A module that was not found when it was signed, such as `__main__`, must still not be found.
    """
    place = _place(module)
    if signed is None or place is None or signed["place"] is None:
        return signed is not None and place is None
    if str(place) == signed["place"]:
        return True
    here = Path.cwd() in (place.parent, place.parent.parent)
    if not here and _INSTALLED & set(place.parts) & set(Path(signed["place"]).parts):
        return True  # installed elsewhere, or in another version
    files = signed["files"].items()
    return bool(files) and all(_digest(place.parent / name) == content for name, content in files)


def _is_library(file: Path) -> bool:
    """Whether a file is part of Python, of Foretell or of an installed package."""
    return bool(_INSTALLED & set(file.parts)) or any(file.is_relative_to(folder) for folder in _LIBRARIES)


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _place(module: str) -> Path | None:
    """The file of a top-level module, or the folder of a package without one; nothing is imported."""
    try:
        spec = _spec(module)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"cannot find the module '{module}' ({brief(error)})") from error
    if spec is None:
        return None
    if spec.origin is not None and spec.has_location:
        return Path(spec.origin).absolute()
    folders = list(spec.submodule_search_locations or ())
    return Path(folders[0]).absolute() if folders else Path(spec.origin or "builtin")


def _spec(module: str) -> ModuleSpec | None:
    if module == "__main__":
        return None
    if module in sys.modules:
        return getattr(sys.modules[module], "__spec__", None)
    if not module.isidentifier():
        return None
    return PathFinder.find_spec(module, [str(Path.cwd()), *sys.path]) or find_spec(module)
