"""The directory of a study: its plan, its finished runs, and the directory of each run."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from filelock import FileLock, Timeout

from foretell.errors import UserError, brief
from foretell.experiments.plan import Arm, Plan
from foretell.runs.computing import provenance
from foretell.runs.directory import RunDirectory, append_row, writing
from foretell.runs.mistakes import validate
from foretell.runs.trees import leaf_paths, value_at

_OWN = (".lock", "study.tmp", "trials.yaml")
"""Files that a study may have before `study.yaml`."""


class Member(NamedTuple):
    """One run of a study."""

    arm: Arm
    seed: int
    path: Path
    """The run directory."""
    log: Path
    """File with the output of its command."""

    @property
    def name(self) -> str:
        return f"{self.arm.label}, seed {self.seed}"


class StudyDirectory:
    """Paths and files of one study."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "study.yaml"
        self.logs = path / "logs"
        self.finished = path / "finished.csv"
        self.runs = path / "runs.csv"
        self.summary = path / "summary.csv"
        self.page = path / "summary.md"
        self.figure = path / "comparison.png"

    def members(self, plan: Plan) -> list[Member]:
        """All runs, seed by seed, so that every variant has its first results early."""
        return [
            Member(arm, seed, self.path / arm.folder / str(seed), self.logs / f"{arm.folder}-{seed}.txt")
            for seed in range(plan.seeds)
            for arm in plan.arms
        ]

    def check(self, plan: Plan) -> None:
        """Raises `UserError` unless a study with this plan can start or continue here; writes nothing."""
        with writing(self.path):
            self._check(plan)

    def _check(self, plan: Plan) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"'{self.path}' is a file; choose another --out")
        if (self.path / "config.yaml").is_file():
            raise UserError(f"'{self.path}' is a run directory, not the directory of a study; choose another --out")
        if self.config.is_file():
            if difference := _difference(self._read(), plan):
                raise UserError(f"'{self.path}' holds another study: {difference}; choose another --out")
        elif self.path.is_dir() and any(entry.name not in _OWN for entry in self.path.iterdir()):
            raise UserError(f"'{self.path}' is not empty and is not the directory of a study; choose another --out")

    @contextmanager
    def lock(self, seconds: float = 0.0) -> Iterator[None]:
        """Lock the study for this process, which waits so long. Raises `UserError` if another process has the lock."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        with writing(self.path):
            try:
                lock.acquire(timeout=seconds)
            except Timeout:
                raise UserError(f"another process is running the study in '{self.path}'") from None
        with lock:
            yield

    def write(self, plan: Plan) -> None:
        """Write the plan, unless the file has it already. Raises `UserError` if it cannot be written."""
        if self.config.is_file() and _extent(self._read()) == (plan.seeds, len(plan.arms)):
            return
        tree = {"study": plan.title, "seeds": plan.seeds, "variants": {a.label: _tree(a) for a in plan.arms}}
        aside = self.config.with_suffix(".tmp")
        with writing(self.config):
            self.logs.mkdir(exist_ok=True)
            aside.write_text(yaml.safe_dump({**tree, "provenance": provenance()}, sort_keys=False, width=120))
            aside.replace(self.config)

    def mark_finished(self, member: Member, seconds: float) -> None:
        """Record that a run is finished, and the wall time of its last process. Raises `UserError`."""
        append_row(self.finished, {"variant": member.arm.label, "seed": member.seed, "seconds": round(seconds, 1)})

    def is_finished(self, member: Member) -> bool:
        """Whether a run is finished, and its directory still exists."""
        return self.process_seconds(member) is not None

    def process_seconds(self, member: Member) -> float | None:
        """Wall time of the last process of a finished run, its start included; None if the run is not finished."""
        if not self.finished.is_file() or not (member.path / "config.yaml").is_file():
            return None
        with self.finished.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row[:2] == [member.arm.label, str(member.seed)]]
        try:
            return float(rows[-1][2])
        except (IndexError, ValueError):  # missing, or an incomplete row
            return None

    def _read(self) -> dict[str, Any]:
        """The content of `study.yaml`. Raises `UserError` if it is damaged."""
        try:
            tree = yaml.safe_load(self.config.read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"cannot read '{self.config}' ({brief(error)})") from error
        for key in ("seeds", "variants", "provenance"):  # the last one is the end of the file
            if not isinstance(tree, dict) or key not in tree:
                raise UserError(f"'{self.config}' is damaged: '{key}' is missing")
        return tree


def episodes_of(member: Member) -> list[dict[str, Any]]:
    """The rows of a run's `episodes.csv`; empty if it has not started, or while a row is being written."""
    try:
        return RunDirectory(member.path).read_episodes()
    except UserError:
        return []


def _extent(tree: Mapping[str, Any]) -> tuple[int, int]:
    """Numbers of seeds and of variants."""
    return tree["seeds"], len(tree["variants"])


def _tree(arm: Arm) -> dict[str, Any]:
    asked = {"preset": arm.preset, "env": arm.env, "set": list(arm.sets)}
    return {**asked, "settings": arm.settings.model_dump(mode="json")}


def _difference(tree: Mapping[str, Any], plan: Plan) -> str:
    """How an existing study differs from a plan that is to continue it; '' if only by fewer seeds, or not at all."""
    there, here = tree["variants"], {arm.label: arm for arm in plan.arms}
    if missing := [label for label in there if label not in here]:
        return f"it also has the variant '{missing[0]}'"
    for label, arm in here.items():
        if label not in there and plan.grows:
            continue
        if label not in there:
            return f"it has no variant '{label}'"
        before, now = _current(there[label]["settings"]), arm.settings.model_dump(mode="json")
        paths = dict.fromkeys([*leaf_paths(now), *leaf_paths(before)])
        for path in paths:
            if path != "description" and value_at(before, path) != value_at(now, path):
                return f"it has {path}={value_at(before, path)} in '{label}', not {value_at(now, path)}"
    return f"it has {tree['seeds']} seeds, not {plan.seeds}" if tree["seeds"] > plan.seeds else ""


def _current(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings from a file, with defaults for settings that were added to Foretell later."""
    try:
        return validate(tree).model_dump(mode="json")
    except UserError:
        return tree
