"""What a run was made with: versions, the machine, the commit."""

import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import jax

_OPTIONS = ("jax_default_matmul_precision", "jax_threefry_partitionable")
"""Options of JAX that decide a run's results, and may have any value."""
_PACKAGES = ("foretell", "jax", "jaxlib", "equinox", "optax", "gymnasium", "mujoco", "numpy")


def versions() -> dict[str, str]:
    """Of what decides a run's results."""
    return {name: _version(name) for name in _PACKAGES}


@lru_cache
def _version(package: str) -> str:
    return version(package)


def computing() -> dict[str, str]:
    """Everything but the settings and the seed that decides a run's results."""
    options = {name: str(getattr(jax.config, name, None)) for name in _OPTIONS}
    return {
        **versions(),
        "python": sys.version.split()[0].rpartition(".")[0],
        "device": jax.default_backend(),
        **options,
    }


def difference(before: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """What has changed, as `jax 0.12.0 (before 0.10.2)`; nothing if that is nothing."""
    changed = (name for name in now if name in before and str(before[name]) != now[name])
    return ", ".join(f"{name} {now[name]} (before {before[name]})" for name in changed)


def provenance() -> dict[str, Any]:
    """The command, the commit and the versions with which something is made."""
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
