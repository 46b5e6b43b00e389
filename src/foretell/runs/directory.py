"""The run directory: where a run keeps everything, in formats other tools can read."""

import csv
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os.path import isdir, isfile
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import BadZipFile

import numpy as np
import yaml
from filelock import FileLock, Timeout

from foretell.agents import RunSettings
from foretell.errors import UserError, brief, nearest
from foretell.runs.computing import provenance
from foretell.runs.files import parse
from foretell.runs.presets import validate
from foretell.runs.schema import Tree
from foretell.runs.trees import completed
from foretell.runs.trust import check, sign

_NOTHING: Tree = MappingProxyType({})
EPISODE_COLUMNS = ("episode", "env_steps", "kind", "return", "length", "end", "success", "wall_seconds")
_BEGUN = (".lock", "config.tmp")
"""All that a run leaves which was killed before it had settings."""
_BESIDE = ("preset", "seed", "provenance")
"""What `config.yaml` holds beside the settings; the last one is the end of the file."""
_READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("episode", "env_steps", "length"), int),
    **dict.fromkeys(("return", "wall_seconds"), float),
    "success": lambda text: int(text) if text else None,
}
"""How the columns of `episodes.csv` are read that are not texts."""


class RunDirectory:
    """Paths and files of one run. Nothing here changes a run's course."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.episodes = path / "episodes.csv"
        self.metrics = path / "metrics.csv"
        self.data = path / "data"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self.figures = path / "figures"
        self.curve = self.figures / "learning_curve.png"
        self.videos = path / "videos"
        self.models = path / "models"
        self.predictions = path / "predictions"
        self.best = path / "best"
        self.wandb = path / "wandb"
        self.greedy = path / "greedy.csv"
        self.log = path / "log.txt"
        self.diagnostics = path / "diagnostics.csv"
        self.validation = path / "validation.csv"
        self.processes = path / "processes.csv"
        self.diagnosis = path / "diagnostics"

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> "RunDirectory":
        """A new directory, or the one of a run to overwrite, as it is until `clear`.

        Raises `UserError` where there is something else already, and if the disk refuses.
        """
        run = cls(path)
        if not str(path).isprintable():
            raise UserError(f"the path of a run must have printable characters only, not {str(path)!r}")
        with writing(path):
            if path.exists() and (not path.is_dir() or any(entry.name not in _BEGUN for entry in path.iterdir())):
                run._check_replaceable(overwrite)
            path.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run. Raises `UserError` if there is none."""
        near: list[str] = []
        if isfile(path / "config.yaml"):  # which is no error for a path that is too long
            return cls(path)
        with suppress(OSError, ValueError):
            near = [str(config.parent) for config in (path if isdir(path) else path.parent).glob("*/config.yaml")]
        if not isdir(path):
            raise UserError(f"no run directory '{path}'{nearest(str(path), near)}")
        raise UserError(f"'{path}' is not a run directory: it has no config.yaml{nearest(str(path), near)}")

    def _check_replaceable(self, overwrite: bool) -> None:
        if not self.config.is_file():
            raise UserError(f"'{self.path}' is not empty and is not a run directory; choose another --out")
        if not overwrite:
            raise UserError(
                f"'{self.path}' already holds a run; continue it with `foretell resume {self.path}`, "
                "replace it with --overwrite, or choose another --out"
            )

    def clear(self) -> None:
        """Remove what an earlier run left, and nothing else; its settings stay until they are written anew."""
        with writing(self.path):
            tables = (self.episodes, self.metrics, self.greedy, self.diagnostics, self.validation, self.processes)
            for file in (*tables, self.log):
                file.unlink(missing_ok=True)
            made = (self.checkpoints, self.tensorboard, self.figures, self.videos, self.models, self.predictions)
            for folder in (self.data, *made, self.best, self.wandb, self.diagnosis):
                if folder.exists():
                    shutil.rmtree(folder)

    def write_config(
        self, settings: RunSettings, preset: str, seed: int, *, asked: Sequence[str] | None = None
    ) -> None:
        """The resolved settings, and what one needs to run them again.

        Args:
            settings: the run's.
            preset: its label.
            seed: the run's.
            asked: settings of section `task` that were chosen besides the preset, for stages yet to be trained.
        """
        tree = {
            "preset": preset,
            "seed": seed,
            **settings.model_dump(mode="json"),
            "provenance": {**provenance(), **({"asked": list(asked)} if asked else {})},
        }
        text = yaml.safe_dump(tree, sort_keys=False, width=120)
        with writing(self.config):
            with replacing(self.config) as aside:
                aside.write_text(text)
            sign(self.path, tree)
            self.data.mkdir(exist_ok=True)

    def asked(self, settings: RunSettings) -> dict[str, Any]:
        """The settings of section `task` that were chosen besides the preset."""
        names = self.read_provenance().get("asked", ())
        return {name: getattr(settings.task, name) for name in names if name in type(settings.task).model_fields}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one process; the system lets go when the process ends, however it ends."""
        lock = FileLock(self.path / ".lock")
        with writing(self.path):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise UserError(f"'{self.path}' is being trained by another process") from None
        with lock:
            yield

    def read_config(self, *, unused: Collection[str] = (), lacking: Tree = _NOTHING) -> tuple[RunSettings, str, int]:
        """Settings, preset name and seed.

        Args:
            unused: settings, as `section.key`, whose code is not imported.
            lacking: settings for those that the file lacks; by default they have the values of today.

        Raises:
            UserError: if the file was damaged, or names code that its user has not chosen to run.
        """
        tree, preset, seed = self.read_tree()
        tree = completed(tree, lacking)
        check(self.path, tree, unused)
        try:
            return validate(tree), preset, seed
        except UserError as error:
            raise UserError(f"'{self.config}': {error}") from None

    def read_tree(self) -> tuple[dict[str, Any], str, int]:
        """Settings as they are written, preset name and seed. Raises `UserError` if the file was damaged."""
        tree = self._read_whole()
        preset, seed, _ = (tree.pop(key) for key in _BESIDE)
        if not isinstance(seed, int):
            raise UserError(f"'{self.config}' is damaged: seed must be a whole number, not {seed!r}")
        return tree, str(preset), seed

    def read_provenance(self) -> dict[str, Any]:
        """How the run was made: command, versions, commit. Raises `UserError` if the file was damaged."""
        made = self._read_whole()["provenance"]
        return made if isinstance(made, dict) else {}

    def _read_whole(self) -> dict[str, Any]:
        try:
            tree = parse(self.config.read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"cannot read '{self.config}' ({brief(error)})") from error
        missing = [key for key in _BESIDE if not isinstance(tree, dict) or key not in tree]
        if missing:
            raise UserError(f"'{self.config}' is damaged: '{missing[0]}' is missing")
        return tree

    def episode_path(self, number: int) -> Path:
        """The data of an episode."""
        return self.data / f"episode_{number:04d}.npz"

    def write_episode(
        self, row: dict[str, Any], obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray, *, number: int
    ) -> None:
        """A line in `episodes.csv`, the `number`th, and a file in `data/`."""
        self.write_data(row, obs, actions, rewards, number=number)
        append_row(self.episodes, row)

    def write_data(
        self, row: Mapping[str, Any], obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray, *, number: int
    ) -> None:
        """The file alone."""
        path = self.episode_path(row["episode"])
        steps: dict[str, Any] = {"observations": obs, "actions": actions, "rewards": rewards}
        about: dict[str, Any] = {
            "returns": rewards.sum(),
            "kind": row["kind"],
            "env_steps": row["env_steps"],
            "end": row.get("end", ""),  # not in tables of older versions
            "success": "" if row.get("success") is None else str(row["success"]),
            "row": number,
        }
        with writing(path), replacing(path, ".tmp.npz") as aside:
            np.savez(aside, **steps, **about)

    def read_episodes(self) -> list[dict[str, Any]]:
        """All finished episodes, numbers as numbers."""
        if not self.episodes.is_file():
            return []
        try:
            with self.episodes.open(newline="") as file:
                return [parse_episode(row) for row in csv.DictReader(file)]
        except (TypeError, ValueError, csv.Error) as error:
            raise UserError(f"'{self.episodes}' is damaged ({brief(error)})") from error

    def read_episode(self, number: int) -> dict[str, np.ndarray]:
        """The `observations` `[T + 1, obs]`, `actions` and `rewards` of a finished episode. Raises `UserError`."""
        return read_arrays(self.episode_path(number))

    def rewind(self, episodes: int, metrics: int, finished: Callable[[int], bool]) -> None:
        """Remove what was written after the checkpoint a run continues from; it will be written again.

        That checkpoint had so many rows of episodes and of metrics, and only the episodes of `finished` numbers.
        """
        truncate_rows(self.episodes, episodes)
        truncate_rows(self.metrics, metrics)
        for path in self.data.glob("episode_*.npz"):
            number = path.stem.removeprefix("episode_")
            if path.name.endswith(".tmp.npz") or (number.isdecimal() and not finished(int(number))):
                with writing(path):
                    path.unlink()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a file of NumPy's. Raises `UserError` if it cannot be read."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"cannot read '{path}' ({brief(error)})") from error


def parse_episode(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `episodes.csv`, numbers as numbers. Raises `ValueError` or `TypeError` if it is torn."""
    return {name: _READ.get(name, str)(value) for name, value in row.items()}


def read_numbers(path: Path) -> list[dict[str, float]]:
    """The rows of a table of numbers; cells that are none are left out. Empty without the file. Raises `UserError`."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            return [dict(_numbers(row)) for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"'{path}' is damaged ({brief(error)})") from error


def _numbers(row: Mapping[Any, Any]) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        with suppress(TypeError, ValueError):
            yield str(name), float(value)


def append_row(path: Path, row: dict[str, Any], *, delimiter: str = ",") -> None:
    """One more line of a table, with the columns of its header. A new file begins with the header.

    Raises `UserError` if the disk refuses.
    """
    with writing(path):
        columns = _columns(path, delimiter)
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns or row.keys(), restval="", extrasaction="ignore", delimiter=delimiter)
            if not columns:
                writer.writeheader()
            writer.writerow(row)


def _columns(path: Path, delimiter: str) -> list[str]:
    """Those of the header of a table; none if there is no file, or it is empty."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return next(csv.reader(file, delimiter=delimiter), [])


def truncate_rows(path: Path, count: int) -> None:
    """Keep the header and the first `count` rows; nothing if that is 0. Raises `UserError` if the disk refuses."""
    with writing(path):
        if not count:
            path.unlink(missing_ok=True)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if len(lines) > count + 1:
            with replacing(path) as aside:
                aside.write_bytes(b"".join(lines[: count + 1]))


def check_folder(path: Path, own: Collection[str]) -> None:
    """Raises `UserError` if a folder for several files holds something, but none of the files that it is for."""
    with writing(path):
        there = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if there and not there & {*own}:
        raise UserError(f"'{path}' is not empty and holds nothing of what is written there; choose another --out")


@contextmanager
def replacing(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """A file to be written, which then takes the place of another one; if that fails it is removed."""
    aside = path.with_suffix(suffix)
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a refusal of the disk as a `UserError`, and what no system takes for a path."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error
    except ValueError as error:
        if "null" not in str(error):
            raise
        raise UserError(f"cannot write '{path}': a path cannot hold the null character") from error
