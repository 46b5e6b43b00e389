"""A run so small that it takes about a second, and a look at everything it has written."""

from pathlib import Path
from typing import Any

LINE = "environments:tiny/Line-v0"
TINY: dict[str, Any] = {
    "model": {"members": 2, "hidden": [8], "weight_decay": [0.0, 0.0]},
    "fit": {"min_steps": 1, "epochs": 1},
    "imagination": {"particles": 2},
    "planner": {"horizon": 2, "population": 6, "iterations": 1, "elites": 2, "kept_elites": 0},
    "train": {"trials": 2, "random_steps": 0, "capacity": 50},
}
"""Settings with which a run takes about a second, once its programs are compiled."""
TINY_SET = ["--set", *(f"{section}.{key}={value}" for section, keys in TINY.items() for key, value in keys.items())]


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file, but for the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
