"""Under which names TensorBoard and W&B show the numbers of a run: `group/name`."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

GROUPS: dict[str, tuple[str, ...]] = {
    "time": ("*_seconds", "compile_count"),
    "losses": ("*_loss", "policy_regularizer"),
    "model": ("*_mse", "model_*", "reward_model_*", "weight_*"),
    "policy": ("guide_*", "alpha", "entropy", "std", "kl", "surrogate_gain", "accepted", "backtracks", "*_noise"),
    "values": ("mean_q", "explained_variance"),
    "progress": ("learn", "episode", "epochs", "labels", "policy_version", "*_steps", "skipped_fits"),
}
"""Groups of the columns of `metrics.csv`, as patterns; the first one that fits counts."""
OTHERS = "metrics"
"""The group of all other columns, such as those of agents of one's own."""
CURVE = "figures/learning_curve"


def group_of(column: str) -> str:
    """The group of a column of `metrics.csv`."""
    groups = (group for group, patterns in GROUPS.items() if any(fnmatchcase(column, one) for one in patterns))
    return next(groups, OTHERS)


def of_metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a row of `metrics.csv`; environment steps are what they are drawn over."""
    return {f"{group_of(name)}/{name}": value for name, value in row.items() if name != "env_steps"}


def of_episode(row: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a row of `episodes.csv`, by the kind of episode; success only where the environment reports it."""
    found = {"returns": row["return"], "lengths": row["length"], "success": row.get("success")}
    return {f"{group}/{row['kind']}": value for group, value in found.items() if value not in ("", None)}


def of_diagnostics(row: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a row of `diagnostics.csv`."""
    return {f"diagnostics/{name}": value for name, value in row.items() if name != "env_steps"}
