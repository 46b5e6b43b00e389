"""`logs.mat` as the released PETS code wrote it, so that notebooks made for that code can read our runs."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat  # type: ignore[import-untyped]

from foretell.errors import UserError
from foretell.runs.directory import RunDirectory, writing


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


def _stacked(parts: list[np.ndarray], length: int) -> np.ndarray:
    stacked: np.ndarray[Any, np.dtype[np.float64]] = np.full((len(parts), length, *parts[0].shape[1:]), np.nan)
    for row, part in zip(stacked, parts, strict=True):
        row[: len(part)] = part
    return stacked
