"""The versions, device and commit with which a run is computed."""

import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import jax

_OPTIONS = ("jax_default_matmul_precision", "jax_threefry_partitionable")
"""Options of JAX that affect a run's results; all their values are supported."""
_PACKAGES = ("foretell", "jax", "jaxlib", "equinox", "optax", "gymnasium", "mujoco", "numpy")


def versions() -> dict[str, str]:
    """The versions of the packages that affect a run's results."""
    return {name: _version(name) for name in _PACKAGES}


@lru_cache
def _version(package: str) -> str:
    return version(package)


def computing() -> dict[str, str]:
    """Everything that affects a run's results besides its settings and seed."""
    options = {name: str(getattr(jax.config, name, None)) for name in _OPTIONS}
    return {
        **versions(),
        "python": sys.version.split()[0].rpartition(".")[0],
        "device": jax.default_backend(),
        **options,
    }


def difference(before: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """What has changed, as `jax 0.12.0 (before 0.10.2)`; '' if nothing has."""
    changed = (name for name in now if name in before and str(before[name]) != now[name])
    return ", ".join(f"{name} {now[name]} (before {before[name]})" for name in changed)


def provenance() -> dict[str, Any]:
    """The command, the commit and the versions of this process."""
    return {
        "command": " ".join(sys.argv),
        "git_commit": _git_commit(),
        "python": sys.version.split()[0],
        "versions": versions(),
    }


def _git_commit() -> str | None:
    """The commit of the working directory, marked if it has uncommitted changes; None outside a repository."""
    try:
        command = ["git", "-c", "core.fsmonitor=false", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
