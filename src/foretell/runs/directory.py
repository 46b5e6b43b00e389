"""The run directory: where a run keeps everything, in formats other tools can read."""

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import yaml
from filelock import FileLock, Timeout

from foretell.agents import RunSettings
from foretell.errors import UserError, brief, nearest
from foretell.runs.presets import validate

EPISODE_COLUMNS = ("episode", "env_steps", "kind", "return", "length", "end", "success", "wall_seconds")
_VERSIONS = ("foretell", "jax", "jaxlib", "equinox", "optax", "gymnasium", "mujoco", "numpy")
_BEGUN = (".lock", "config.tmp")
"""All that a run leaves which was killed before it had settings."""


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
        self.videos = path / "videos"
        self.models = path / "models"
        self.predictions = path / "predictions"
        self.best = path / "best"
        self.wandb = path / "wandb"
        self.greedy = path / "greedy.csv"
        self.log = path / "log.txt"
        self.diagnostics = path / "diagnostics.csv"
        self.diagnosis = path / "diagnostics"

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> "RunDirectory":
        """A new directory, or the one of a run to overwrite, as it is until `clear`.

        Raises `UserError` where there is something else already, and if the disk refuses.
        """
        run = cls(path)
        with writing(path):
            if path.exists() and (not path.is_dir() or any(entry.name not in _BEGUN for entry in path.iterdir())):
                run._check_replaceable(overwrite)
            path.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run. Raises `UserError` if there is none."""
        if (path / "config.yaml").is_file():
            return cls(path)
        near = [str(config.parent) for config in (path if path.is_dir() else path.parent).glob("*/config.yaml")]
        if not path.is_dir():
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
            for file in (self.episodes, self.metrics, self.greedy, self.log, self.diagnostics):
                file.unlink(missing_ok=True)
            made = (self.checkpoints, self.tensorboard, self.figures, self.videos, self.models, self.predictions)
            for folder in (self.data, *made, self.best, self.wandb, self.diagnosis):
                if folder.exists():
                    shutil.rmtree(folder)

    def write_config(self, settings: RunSettings, preset: str, seed: int) -> None:
        """The resolved settings, and what one needs to run them again."""
        tree = {
            "preset": preset,
            "seed": seed,
            **settings.model_dump(mode="json"),
            "provenance": provenance(),
        }
        text = yaml.safe_dump(tree, sort_keys=False, width=120)
        aside = self.config.with_suffix(".tmp")
        with writing(self.config):
            aside.write_text(text)
            aside.replace(self.config)
            self.data.mkdir(exist_ok=True)

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

    def read_config(self) -> tuple[RunSettings, str, int]:
        """Settings, preset name and seed. Raises `UserError` if the file was damaged."""
        try:
            tree = yaml.safe_load(self.config.read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"cannot read '{self.config}' ({brief(error)})") from error
        required = ("preset", "seed", "provenance")  # the last one is the end of the file
        missing = [key for key in required if not isinstance(tree, dict) or key not in tree]
        if missing:
            raise UserError(f"'{self.config}' is damaged: '{missing[0]}' is missing")
        preset, seed, _ = (tree.pop(key) for key in required)
        if not isinstance(seed, int):
            raise UserError(f"'{self.config}' is damaged: seed must be a whole number, not {seed!r}")
        try:
            return validate(tree), str(preset), seed
        except UserError as error:
            raise UserError(f"'{self.config}': {error}") from None

    def write_episode(self, row: dict[str, Any], obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
        """A line in `episodes.csv` and a file in `data/`."""
        path = self.data / f"episode_{row['episode']:04d}.npz"
        aside = path.with_suffix(".tmp.npz")
        with writing(path):
            np.savez(aside, observations=obs, actions=actions, rewards=rewards, returns=rewards.sum(), kind=row["kind"])
            aside.replace(path)
        append_row(self.episodes, row)

    def read_episodes(self) -> list[dict[str, Any]]:
        """All finished episodes, numbers as numbers."""
        if not self.episodes.is_file():
            return []
        number: dict[str, Callable[[str], Any]] = {"return": float, "wall_seconds": float}
        number |= {"episode": int, "env_steps": int, "length": int, "success": lambda text: int(text) if text else None}
        try:
            with self.episodes.open(newline="") as file:
                rows = list(csv.DictReader(file))
            return [{k: number.get(k, str)(v) for k, v in row.items()} for row in rows]
        except (TypeError, ValueError, csv.Error) as error:
            raise UserError(f"'{self.episodes}' is damaged ({brief(error)})") from error

    def read_episode(self, number: int) -> dict[str, np.ndarray]:
        """The `observations` `[T + 1, obs]`, `actions` and `rewards` of a finished episode. Raises `UserError`."""
        path = self.data / f"episode_{number:04d}.npz"
        try:
            with np.load(path) as file:
                return dict(file)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise UserError(f"cannot read '{path}' ({brief(error)})") from error

    def rewind(self, episodes: int, metrics: int, finished: Callable[[int], bool]) -> None:
        """Remove what was written after the checkpoint a run continues from; it will be written again.

        That checkpoint had so many rows of episodes and of metrics, and only the episodes of `finished` numbers.
        """
        truncate_rows(self.episodes, episodes)
        truncate_rows(self.metrics, metrics)
        for path in self.data.glob("episode_*.npz"):
            if path.name.endswith(".tmp.npz") or not finished(int(path.stem.split("_")[1])):
                path.unlink()


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
            aside = path.with_suffix(".tmp")
            aside.write_bytes(b"".join(lines[: count + 1]))
            aside.replace(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a refusal of the disk as a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error


def provenance() -> dict[str, Any]:
    """The command, the commit and the versions with which something is made."""
    return {
        "command": " ".join(sys.argv),
        "git_commit": _git_commit(),
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in _VERSIONS},
    }


def _git_commit() -> str | None:
    """The commit of the working directory, marked if it has uncommitted changes; None outside a repository."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
