"""Makes an environment of its own for each peer, from its published packages: `python benchmarks/peers/install.py`.

A folder holds one environment for each peer. Beside it stands what was installed, `NAME.json`: the versions, or the
error of a peer that cannot be installed. What is there is left as it is; `--again` tries failed ones once more.

PyTorch is its build for processors, `torch==...+cpu`. Where pip does not find that build, say where it is with
`PIP_FIND_LINKS` or `PIP_EXTRA_INDEX_URL`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

ROOT = Path(__file__).parents[2]
TORCH = "torch==2.13.0+cpu"


class Peer(NamedTuple):
    """How a peer is installed: the arguments of one `pip install` after the other, and what must then import."""

    installs: tuple[tuple[str, ...], ...]
    module: str
    packages: tuple[str, ...]
    """Whose versions are noted."""


PEERS = {
    "mbrl-lib": Peer(
        (
            (TORCH, "gymnasium==0.26.3", "numpy<2", "mujoco<3", "omegaconf", "hydra-core", "termcolor", "tqdm",
             "imageio", "matplotlib"),
            ("--no-deps", "mbrl==0.2.0"),
        ),
        "mbrl.models, mbrl.planning",
        ("mbrl", "torch", "gymnasium", "numpy"),
    ),
    "rl-blox": Peer((("rl-blox",),), "rl_blox", ("rl-blox", "jax", "flax", "gymnasium")),
    "torchrl": Peer(((TORCH, "torchrl"),), "torchrl.modules", ("torchrl", "tensordict", "torch")),
    "sb3": Peer(
        ((TORCH, "stable-baselines3", "gymnasium[mujoco]"),),
        "stable_baselines3",
        ("stable-baselines3", "torch", "gymnasium"),
    ),
    "sbx": Peer(
        ((TORCH, "sbx-rl", "gymnasium[mujoco]"),), "sbx", ("sbx-rl", "jax", "stable-baselines3", "torch", "gymnasium")
    ),
    "sbx-learning": Peer(
        ((TORCH, "sbx-rl", "gymnasium[mujoco]"), (str(ROOT), "shimmy[dm-control]", "mujoco<3.7")),
        "sbx, shimmy, foretell.tasks",
        ("sbx-rl", "jax", "stable-baselines3", "gymnasium", "mujoco", "dm-control"),
    ),
}  # fmt: skip
"""Every peer, by the name that the rows of the race have for it. `sbx-learning` learns in our environments, and in
those of the DeepMind Control Suite, which needs an earlier MuJoCo."""


def default_folder() -> Path:
    """Where the environments are, if nothing else is said."""
    return Path(platformdirs.user_cache_dir("foretell")) / "peers"


def python_of(folder: Path) -> Path:
    """The Python of the environment in this folder."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed(name: str, venvs: Path) -> dict[str, Any]:
    """What is noted of a peer.

    Returns:
        `{"versions": {package: version}}`, or `{"error": sentence}` if it is not there or could not be installed.
    """
    note = venvs / f"{name}.json"
    if note.exists():
        return json.loads(note.read_text())
    return {"error": f"not installed; run python benchmarks/peers/install.py {name}"}


def install(name: str, venvs: Path) -> dict[str, Any]:
    """Install a peer and note what came of it."""
    venvs.mkdir(parents=True, exist_ok=True)
    try:
        noted: dict[str, Any] = {"versions": _install(PEERS[name], venvs / name)}
    except (OSError, subprocess.CalledProcessError) as error:
        noted = {"error": last_line(error)}
    (venvs / f"{name}.json").write_text(json.dumps(noted, indent=1) + "\n")
    return noted


def last_line(error: Exception) -> str:
    """The last thing that a failed command printed, which is where Python and pip say what went wrong."""
    printed = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return next((line for line in reversed(printed) if line.strip()), type(error).__name__)


def _install(peer: Peer, folder: Path) -> dict[str, str]:
    python = str(python_of(folder))
    _run(sys.executable, "-m", "venv", str(folder))
    for arguments in peer.installs:
        _run(python, "-m", "pip", "install", "--quiet", *arguments)
    _run(python, "-c", f"import {peer.module}")
    versions = f"import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {peer.packages}}}))"
    return json.loads(_run(python, "-c", versions))


def _run(*command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"{', '.join(PEERS)} (default: all)")
    parser.add_argument("--venvs", type=Path, default=default_folder(), help="where the environments are made")
    parser.add_argument("--again", action="store_true", help="try peers once more that could not be installed")
    args = parser.parse_args()
    for name in args.peers or PEERS:
        noted = installed(name, args.venvs)
        if "error" in noted and (args.again or not (args.venvs / f"{name}.json").exists()):
            print(f"installing {name}", flush=True)
            noted = install(name, args.venvs)
        print(name, noted.get("versions") or f"cannot be installed: {noted['error']}", flush=True)


if __name__ == "__main__":
    main()
