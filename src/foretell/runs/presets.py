"""Presets: from a name, its parts and overrides to validated settings.

A preset is a YAML file: one that Foretell brings (`pets/cartpole`), or the user's (`./mine.yaml`). It may name another
as its `base`, over which it is merged. A preset that Foretell brings may say, under `parts`, which settings a part has
with it that are others than in the part's own file; presets with this base do not take these over.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from foretell.errors import UserError, nearest
from foretell.runs import files
from foretell.runs.imitated import with_planner
from foretell.runs.mistakes import validate
from foretell.runs.parts import PARTS, Part, apply, check_needs, in_order, part_names, read_part
from foretell.runs.schema import FIXED_IN_TRAIN, setting_paths
from foretell.runs.trees import leaf_paths, merge, parse_override, value_at

if TYPE_CHECKING:  # it imports JAX, for which `foretell presets` must not wait
    import foretell.agents

__all__ = [
    "Preset",
    "continued",
    "default_directory",
    "describe",
    "families",
    "find_preset",
    "is_file",
    "leaf_paths",
    "merge",
    "parse_override",
    "part_names",
    "preset_label",
    "preset_names",
    "read_preset",
    "resolve",
    "seed_of",
    "setting_paths",
    "split_name",
    "title",
    "validate",
]

PRESETS = resources.files("foretell") / "presets"
_TAKEN_OVER = ("model", "reward_model", "guide")
"""Sections that an agent which starts with another run's planner takes over from it."""


class Preset(NamedTuple):
    """A preset with its parts, found by name."""

    name: str
    """As it was asked for, the parts included."""
    tree: dict[str, Any]
    """All its settings, not yet validated."""
    parts: tuple[Part, ...]
    """Those that follow its name, in the order in which they were applied."""
    base: "Preset | None"
    """What it is merged over."""

    @property
    def inherited(self) -> list[tuple[Part, "Preset"]]:
        """The parts of its bases, each with the base whose name it follows."""
        base = self.base
        return [] if base is None else [*((part, base) for part in base.parts), *base.inherited]


def preset_names() -> list[str]:
    """All presets that Foretell brings, as `family/name`."""
    return list(_names_in(PRESETS))  # type: ignore[arg-type]  # every kind of it is hashable


@lru_cache(maxsize=4)
def _names_in(folder: Traversable) -> tuple[str, ...]:
    """The presets of a folder, which is listed once: a name is looked up several times for each preset."""
    found = (
        f"{family.name}/{file.name.removesuffix('.yaml')}"
        for family in folder.iterdir()
        if family.is_dir() and family.name not in (PARTS.name, "provenance")
        for file in family.iterdir()
        if file.name.endswith(".yaml")
    )
    return tuple(sorted(found))


def families() -> list[str]:
    """The first halves of their names."""
    return sorted({name.partition("/")[0] for name in preset_names()})


def describe(name: str) -> str:
    """A preset's or part's line in a list."""
    return _read(name)["description"] if "/" in name else read_part(name).description


def split_name(name: str) -> tuple[str, list[str]]:
    """A preset's own name, or the path of its file, and the parts that follow it."""
    head, *parts = name.split("+")
    if head in preset_names():
        return head, parts
    return files.split_path(name) or (head, parts)


def is_file(name: str) -> bool:
    """Whether a preset is a file of the user's, be it there or not."""
    return split_name(name)[0] not in preset_names() and files.split_path(name) is not None


def find_preset(name: str) -> Preset:
    """A preset with the parts that follow its name, as `pets/cartpole+de+ts1` or `./mine.yaml+de`.

    Raises:
        UserError: if there is no such preset, or a part does not fit.
    """
    return _find(name, ())


def read_preset(name: str) -> dict[str, Any]:
    """All settings of a preset with its parts, not validated. Raises `UserError`."""
    return find_preset(name).tree


def resolve(preset: str, overrides: Sequence[Mapping[str, Any]] = ()) -> "foretell.agents.RunSettings":
    """The settings of a preset with overrides applied in order.

    Args:
        preset: its name, see `find_preset`.
        overrides: settings as nested mappings.

    Raises:
        UserError: for the first mistake, in one sentence.
    """
    found = find_preset(preset)
    tree = with_planner(found.tree, found.parts, overrides)
    for override in overrides:
        tree = merge(tree, override)
    settings = validate(_described(found, tree))
    for part in (*found.parts, *(part for part, _ in found.inherited)):
        check_needs(part, settings)
    _check_stage(settings, found)
    return settings


def continued(
    settings: "foretell.agents.RunSettings", overrides: Sequence[Mapping[str, Any]]
) -> "foretell.agents.RunSettings":
    """The settings of a run with what may still change in it changed. Raises `UserError`."""
    tree = settings.model_dump()
    free = [p for p in setting_paths(type(settings)) if p.startswith("train.") and p not in FIXED_IN_TRAIN]
    for override in overrides:
        for path in leaf_paths(override):
            if not path.startswith("train.") or path in FIXED_IN_TRAIN:
                raise UserError(
                    f"a resumed run keeps its settings: '{path}' cannot change"
                    f"{nearest(path, free) or ', only those of section train'}"
                )
        tree = merge(tree, dict(override))
    return validate(tree)


def _find(name: str, within: tuple[str, ...]) -> Preset:
    """As `find_preset`. Of the presets in `within` it is a base."""
    head, parts = split_name(name)
    if head in within:
        raise UserError(f"the preset '{head}' is its own base")
    ordered, tree = in_order(parts), _read(head)
    own = tree.pop("parts", {}) if head in preset_names() else {}
    base = _base(head, tree.pop("base"), (*within, head)) if "base" in tree else None
    if base is not None:
        tree.setdefault("description", f"{base.tree.get('description')}, with the changes in '{head}'")
        tree = merge(base.tree, tree)
    found = Preset(name, tree, (), base)
    for part in ordered:
        found = _with_part(found, replace(part, settings=merge(part.settings, own.get(part.name, {}))))
    return found


def _read(head: str) -> dict[str, Any]:
    """What the file of a preset says. Raises `UserError` if there is none."""
    if head in preset_names():
        return files.parse((PRESETS / f"{head}.yaml").read_text())
    if files.split_path(head) is not None:
        return files.read_file(head, preset_names())
    if head == "auto":
        raise UserError("auto stands for a preset only in `foretell train` and `foretell show`; name a preset here")
    if isfile(Path(head) / "config.yaml"):
        raise UserError(f"'{head}' is a run directory, not a preset; did you mean '{Path(head) / 'config.yaml'}'?")
    own = head.lower() if f"{head.lower()}/default" in preset_names() else ""
    advice = f"; did you mean '{own}/default'?" if own else nearest(head, preset_names())
    raise UserError(f"no preset '{head}'{advice or '; see `foretell presets`'}")


def _base(head: str, base: object, within: tuple[str, ...]) -> Preset:
    """The base that a preset names; a path is relative to the preset's own file."""
    if not isinstance(base, str):
        raise UserError(f"'{head}': base must be the name of a preset or a file, not {base!r}")
    if split_name(base)[0] not in preset_names() and files.split_path(head) is not None:
        relative = str(Path(head).parent / base)
        base = relative if is_file(relative) else base
    try:
        return _find(base, within)
    except UserError as error:
        if head in preset_names():
            raise
        raise UserError(f"the base of '{head}': {error}") from None


def _with_part(preset: Preset, part: Part) -> Preset:
    """The preset with one part more. Raises `UserError` if it does not fit."""
    for other, base in preset.inherited:
        if other.axis == part.axis:
            raise UserError(_taken(preset, part, other, base))
    tree = apply(part, preset.tree)
    tree["description"] = f"{tree.get('description')}; {part.description}"
    return preset._replace(tree=tree, parts=(*preset.parts, part))


def _taken(preset: Preset, part: Part, other: Part, base: Preset) -> str:
    """The sentence for a part whose axis a part of the preset's base has chosen."""
    head, (start, names) = split_name(preset.name)[0], split_name(base.name)
    if other.name == part.name:
        return f"'{head}' already has the part '{part.name}'"
    chosen = f"'{head}' already chooses the {part.axis}, by the part '{other.name}'"
    if base is not preset.base or is_file(head):
        return f"{chosen} of its base '{base.name}'; change that there"
    return f"{chosen}; start with '{'+'.join([start, *(part.name if n == other.name else n for n in names)])}'"


def _described(preset: Preset, tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree whose description does not claim what overrides of the preset's parts have changed."""
    parts = [*preset.parts, *(part for part, _ in preset.inherited)]
    paths = dict.fromkeys(path for part in parts for path in leaf_paths(part.settings))
    changed = {path: value_at(tree, path) for path in paths if value_at(tree, path) != value_at(preset.tree, path)}
    if not changed or tree.get("description") != preset.tree.get("description"):
        return dict(tree)
    text = str(tree.get("description"))
    for part in preset.parts:
        if changed.keys() & leaf_paths(part.settings):
            text = text.replace(f"; {part.description}", f"; {part.name}", 1)
    changes = ", ".join(f"{path}={_flow(value)}" for path, value in changed.items())
    return {**tree, "description": f"{text}; but {changes}"}


def _flow(value: object) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _check_stage(settings: "foretell.agents.RunSettings", preset: Preset) -> None:
    """Raises `UserError` if a planner that is trained first would have another model than is taken over from it."""
    stage = settings.train.pretrained
    if not hasattr(settings, "imitation") or stage is None or split_name(stage)[0] not in preset_names():
        return
    theirs = resolve(stage)
    for section in _TAKEN_OVER:
        if getattr(settings, section, None) != getattr(theirs, section, None):
            added = [part.name for part in preset.parts if section in part.settings]
            other = "+".join([stage, *added]) if added else "RUN_DIR, a run with these settings"
            raise UserError(
                f"'{section}' must be the same as in '{stage}', the preset in train.pretrained; "
                f"add --set train.pretrained={other}"
            )


def preset_label(name: str) -> str:
    """What a preset is called in a run's files and titles: its name; of a file its stem, with the parts that follow.

    The `config.yaml` of a run is called as the run's own preset is.
    """
    if not is_file(name):
        return name
    path, parts = split_name(name)
    return "+".join([files.name_in(path), *parts])


def seed_of(name: str) -> int:
    """The random seed of a run unless another is given: what the preset's file says, else 0. Raises `UserError`."""
    return files.seed_in(split_name(name)[0]) if is_file(name) else 0


def default_directory(preset: str, settings: "foretell.agents.RunSettings", seed: int) -> Path:
    """Where a run is kept unless another place is named.

    Args:
        preset: its name, see `find_preset`.
        settings: the run's settings.
        seed: the run's random seed.

    Returns:
        `runs/pets-cartpole/0`, or `runs/pets-default/Pendulum-v1/0` where the preset does not choose the environment.
    """
    env = settings.task.env
    folders = [preset_label(preset), *([] if env in (None, _own_environment(preset)) else [str(env)])]
    return Path("runs", *map(_safe, folders), str(seed))


def title(preset: str, settings: "foretell.agents.RunSettings", seed: int) -> str:
    """What a run is called in figures: `pets/default on Pendulum-v1, seed 0`.

    Args:
        preset: its name, or that in the run's `config.yaml`, which need not lead to a file any more.
        settings: the run's settings.
        seed: the run's random seed.
    """
    env, chosen = settings.task.env, None if is_file(preset) else _own_environment(preset)
    where = "" if env in (None, chosen) else f" on {env}"
    return f"{preset_label(preset)}{where}, seed {seed}".replace("$", r"\$")  # which Matplotlib takes for mathematics


def _own_environment(preset: str) -> str | None:
    """The environment that a preset chooses, if any."""
    try:
        return value_at(read_preset(preset), "task.env")
    except UserError:  # of a file whose name alone is left
        return None


def _safe(name: str) -> str:
    """A name as a folder may have it."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "run"
