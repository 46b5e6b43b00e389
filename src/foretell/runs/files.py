"""The YAML files of presets: those that Foretell brings, and those of users, also the `config.yaml` of a run."""

import os
from collections.abc import Iterable
from copy import deepcopy
from difflib import get_close_matches
from functools import lru_cache
from os.path import isdir, isfile
from pathlib import Path
from typing import Any

import yaml

from foretell.errors import UserError, brief, nearest
from foretell.runs.trust import check

_ENDINGS = (".yaml", ".yml")
_OF_A_RUN = ("preset", "seed", "provenance")
"""What the `config.yaml` of a run holds beside its settings."""


def parse(text: str) -> Any:
    """What YAML says. The same text is parsed once only, which takes most of the time of finding a preset."""
    return deepcopy(_parse(text))


def split_path(name: str) -> tuple[str, list[str]] | None:
    """The path of a preset's file and the parts that follow it; None if `name` is no path.

    A path ends with `.yaml` or `.yml`, or leads into a folder to a file that exists. It may hold a `+` itself.
    """
    pieces = name.split("+")
    heads = ["+".join(pieces[:count]) for count in range(1, len(pieces) + 1)]
    there = [head for head in heads if _is_path(head) and isfile(head)]
    found = there[-1:] or [head for head in heads if head.endswith(_ENDINGS)][:1]
    return (found[0], name[len(found[0]) :].split("+")[1:]) if found else None


def read_file(path: str, presets: Iterable[str]) -> dict[str, Any]:
    """The settings in a preset's file, without what else the `config.yaml` of a run holds.

    Args:
        path: of the file.
        presets: names that a path which leads nowhere may have been meant to be.

    Raises:
        UserError: if there is no such file, it holds no settings, or it is a run's and names code that is not trusted.
    """
    tree = _load(path, presets)
    if _is_of_a_run(path, tree):
        if "base" in tree:
            raise UserError(f"'{path}' is the config.yaml of a run, which has no base; remove 'base'")
        check(Path(path).parent, tree)
    return {key: value for key, value in tree.items() if key not in _OF_A_RUN}


def seed_in(path: str) -> int:
    """The random seed that a preset's file names, or 0. Raises `UserError` if it is none."""
    seed = _load(path, ()).get("seed", 0) if isfile(path) else 0
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError(f"'{path}': seed must be a whole number, not {seed!r}")
    return seed


def name_in(path: str) -> str:
    """What a preset's file is called: its stem; of a run's `config.yaml` the name of the run's preset."""
    tree = _load(path, ()) if isfile(path) else {}
    name = str(tree["preset"]) if "provenance" in tree and "preset" in tree else path
    found = split_path(name)
    return name if found is None else "+".join([Path(found[0]).stem, *found[1]])


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    return yaml.safe_load(text)


def _is_of_a_run(path: str, tree: dict[str, Any]) -> bool:
    return "provenance" in tree or any((Path(path).parent / name).exists() for name in ("checkpoints", "episodes.csv"))


def _is_path(name: str) -> bool:
    return name.endswith(_ENDINGS) or "/" in name or os.sep in name


def _load(path: str, presets: Iterable[str]) -> dict[str, Any]:
    """All that is in a file."""
    if not isfile(path):  # which is no error for a path that is too long
        raise UserError(f"no preset '{path}'{_meant(path, presets)}")
    try:
        tree = parse(Path(path).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read '{path}' ({brief(error)})") from error
    if not isinstance(tree, dict):
        raise UserError(f"'{path}' must hold settings as KEY: VALUE, not {type(tree).__name__}")
    return tree


def _meant(path: str, presets: Iterable[str]) -> str:
    """The file or preset whose name is like that of a file which is not there."""
    folder = Path(path).parent
    files = [str(folder / file.name) for file in folder.glob("*.y*ml")] if isdir(folder) else []
    close = get_close_matches(str(Path(path)), files, n=1)
    return nearest(close[0], files) if close else nearest(path, presets) or "; there is no such file"
