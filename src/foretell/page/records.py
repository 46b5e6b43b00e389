"""The runs that a report is about: found, read and grouped. Nothing here runs code that a run names."""

import json
from collections.abc import Iterator, Mapping, Sequence
from os.path import isdir, isfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foretell.errors import UserError
from foretell.report.comparison import Curve, Points, points_of, steps_before
from foretell.runs.directory import RunDirectory, read_numbers
from foretell.runs.trees import leaf_paths, value_at

_DEPTH = 4
"""Folders between a directory that is given and the runs in it, at most."""
_NAMED = 3
"""Settings that a label names."""
_NO_DIFFERENCE = ("description", "train.pretrained")
"""Settings whose differences say nothing."""

Row = dict[str, Any]


class Record(NamedTuple):
    """What the files of one run say."""

    directory: RunDirectory
    name: str
    """The path as it was given or found."""
    preset: str
    env: str
    seed: int
    settings: dict[str, Any]
    """As they are written, not validated."""
    versions: dict[str, Any]
    """Of Python and the libraries, and the commit, with which the run was made."""
    episodes: list[Row]
    metrics: list[Row]
    """Rows of `metrics.csv`, numbers as numbers."""
    diagnostics: list[Row]
    """Rows of `diagnostics.csv`, likewise."""
    points: Points
    """Of its learning curve, over the steps of the earlier stages too."""

    @property
    def curve(self) -> Curve:
        """The same, without wall times."""
        points = self.points
        return Curve(points.steps, points.returns, np.zeros(len(points.steps)))

    @property
    def returns_of(self) -> str:
        """What its points are of: `evaluation` or `trials`."""
        return "evaluation" if any(row["kind"] == "eval" for row in self.episodes) else "trials"

    @property
    def seconds(self) -> float:
        """Wall time, without earlier stages."""
        return float(self.episodes[-1]["wall_seconds"]) if self.episodes else 0.0


class RecordGroup(NamedTuple):
    """Runs of one preset on one environment with the same settings, but for the section `train`."""

    label: str
    records: list[Record]

    @property
    def env(self) -> str:
        return self.records[0].env

    @property
    def with_points(self) -> list[Record]:
        """Those that have finished a round of evaluation or a trial."""
        return [record for record in self.records if len(record.points.steps)]

    @property
    def reports_success(self) -> bool:
        """Whether the environment says of every episode whether it reached its goal."""
        return bool(self.with_points) and all(one.points.success is not None for one in self.with_points)


def find_runs(paths: Sequence[str | Path]) -> list[Path]:
    """The run directories among these paths and in them, such as those of a study. Raises `UserError` if one has none.

    Args:
        paths: of runs, of studies, or of folders with either.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        here = [path] if isfile(path / "config.yaml") else sorted(_below(path), key=_numbers_last)
        if not here:
            RunDirectory.open(path)  # says what is the matter
            raise UserError(f"'{path}' holds no run")
        found.update(dict.fromkeys(here))
    return list(found)


def read_record(path: Path) -> Record:
    """What the files of a run say. Raises `UserError` if they cannot be read."""
    directory = RunDirectory.open(path)
    tree, preset, seed = directory.read_tree()
    try:
        before = steps_before(directory)
    except (UserError, RecursionError):  # an earlier stage is not there, or is the run itself
        before = 0
    episodes = directory.read_episodes()
    points = points_of(episodes)
    return Record(
        directory, str(path), preset, str(value_at(tree, "task.env")), seed, tree, _versions(directory), episodes,
        read_numbers(directory.metrics), read_numbers(directory.diagnostics),
        points._replace(steps=points.steps + before),
    )  # fmt: skip


def grouped(records: Sequence[Record]) -> list[RecordGroup]:
    """The runs in groups, each with a label that no other group of its environment has."""
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        same = {key: value for key, value in record.settings.items() if key not in ("train", "description")}
        key = (record.env, record.preset, _variant(record), json.dumps(same, default=str, sort_keys=True))
        groups.setdefault(key, []).append(record)
    members = list(groups.values())
    return [RecordGroup(_label(runs, members), runs) for runs in members]


def differences(groups: Sequence[RecordGroup]) -> dict[str, list[str]]:
    """The settings that are not the same in all groups: the values of each group, as text, in the order of the groups.

    Where the runs of a group differ, all their values are named.
    """
    paths = dict.fromkeys(path for group in groups for run in group.records for path in leaf_paths(run.settings))
    rows = {path: [_values(group, path) for group in groups] for path in paths if path not in _NO_DIFFERENCE}
    return {path: values for path, values in rows.items() if len({*values}) > 1 or " / " in values[0]}


def _values(group: RecordGroup, path: str) -> str:
    return " / ".join(dict.fromkeys(_text(value_at(run.settings, path)) for run in group.records))


def _text(value: object) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _label(runs: Sequence[Record], groups: Sequence[Sequence[Record]]) -> str:
    """The preset; if other groups have it too, with the variant's name in a study, or with settings that differ."""
    first = runs[0]
    rivals = [other for other in groups if (other[0].env, other[0].preset) == (first.env, first.preset)]
    if len(rivals) == 1:
        return first.preset
    if len({_variant(other[0]) for other in rivals}) == len(rivals):
        return f"{first.preset} ({Path(_variant(first)).name})"
    others = [other[0].settings for other in rivals]
    paths = dict.fromkeys(path for tree in others for path in leaf_paths(tree))
    differing = [
        path
        for path in paths
        if path not in _NO_DIFFERENCE
        and not path.startswith("train.")
        and len({_at(tree, path) for tree in others}) > 1
    ]
    named = ", ".join(f"{path}={_at(first.settings, path)}" for path in differing[:_NAMED])
    return f"{first.preset} ({named or first.name})" if len(differing) <= _NAMED else f"{first.preset} ({first.name})"


def _at(tree: Mapping[str, Any], path: str) -> str:
    return _text(value_at(tree, path))


def _variant(record: Record) -> str:
    """The folder of its variant in a study; empty outside of one."""
    folder = record.directory.path.parent
    return str(folder) if (folder.parent / "study.yaml").is_file() else ""


def _below(path: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Runs in the folders of a folder."""
    for folder in _folders(path) if depth else ():
        if isfile(folder / "config.yaml"):
            yield folder
        else:
            yield from _below(folder, depth - 1)


def _folders(path: Path) -> list[Path]:
    """The folders in a folder, without links; none if it is no folder, or may not be read."""
    try:
        return [folder for folder in path.iterdir() if isdir(folder) and not folder.is_symlink()]
    except (OSError, ValueError):
        return []


def _numbers_last(path: Path) -> tuple:
    """The order of runs: by the folder, then by the seed as a number."""
    return path.parent, int(path.name) if path.name.isdecimal() else 0, path.name


def _versions(directory: RunDirectory) -> dict[str, Any]:
    tree = directory.read_provenance()
    versions = tree.get("versions")
    known = {"commit": tree.get("git_commit"), "python": tree.get("python")}
    return {**known, **(versions if isinstance(versions, Mapping) else {})}
