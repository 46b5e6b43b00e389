"""`logs.mat` and `predictions.mat` as the released PETS code wrote them, for notebooks made for that code."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat  # type: ignore[import-untyped]

from foretell.errors import UserError
from foretell.runs.directory import RunDirectory, read_arrays, writing


def export_mat(directory: RunDirectory, path: Path) -> dict[str, tuple[int, ...]]:
    """Write the episodes of a run as a MATLAB file.

    `observations` is `[R, T + 1, obs]`, `actions` `[R, T, action]` and `rewards` `[R, T]`, for the `R` episodes that
    the agent learned from, random ones included. `returns` is `[1, n]`, for trials and evaluation episodes in their
    order, random episodes excluded, as in the released code. Shorter episodes are padded with NaN.

    Args:
        directory: of the run.
        path: of the file.

    Returns:
        The shape of each array.

    Raises:
        UserError: if there are no episodes, or the file cannot be written.
    """
    rows = directory.read_episodes()
    if not rows:
        raise UserError(f"'{directory.path}' has no finished episode to export")
    learned = [directory.read_episode(row["episode"]) for row in rows if row["kind"] != "eval"]
    longest = max(len(episode["rewards"]) for episode in learned)
    arrays = {
        "observations": _stacked([episode["observations"] for episode in learned], longest + 1),
        "actions": _stacked([episode["actions"] for episode in learned], longest),
        "rewards": _stacked([episode["rewards"] for episode in learned], longest),
        "returns": np.array([[row["return"] for row in rows if row["kind"] in ("train", "eval")]]),
    }
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            savemat(file, arrays)
    return {name: array.shape for name, array in arrays.items()}


def export_predictions(directory: RunDirectory, folder: Path, each: int) -> list[Path]:
    """Write what was expected of the plans of each iteration, of a run with `train.log_predictions`.

    Iteration `i` is written to `train_iter<i>/predictions.mat`, as in the released code: `predictions`
    `[plans, horizon + 1, particles, obs]`, or `means` and `vars` over particles `[plans, horizon + 1, obs]`, of all
    plans in its trials and in the evaluation episodes after them, in their order.

    Args:
        directory: of the run.
        folder: where to.
        each: trials of an iteration.

    Returns:
        The files; none if the run kept no predictions.

    Raises:
        UserError: if a file cannot be read or written.
    """
    trials, episodes = 0, dict[int, list[dict[str, np.ndarray]]]()
    for row in directory.read_episodes():
        trials += row["kind"] == "train"
        kept = directory.predictions / f"episode_{row['episode']:04d}.npz"
        if row["kind"] in ("train", "eval") and kept.is_file():
            episodes.setdefault(1 + max(0, trials - 1) // each, []).append(read_arrays(kept))
    return [_write_predictions(folder / f"train_iter{i}" / "predictions.mat", parts) for i, parts in episodes.items()]


def _write_predictions(path: Path, episodes: list[dict[str, np.ndarray]]) -> Path:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            savemat(file, {name: np.concatenate([part[name] for part in episodes]) for name in episodes[0]})
    return path


def _stacked(parts: list[np.ndarray], length: int) -> np.ndarray:
    stacked: np.ndarray[Any, np.dtype[np.float64]] = np.full((len(parts), length, *parts[0].shape[1:]), np.nan)
    for row, part in zip(stacked, parts, strict=True):
        row[: len(part)] = part
    return stacked
