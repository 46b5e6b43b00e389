"""Videos of a policy, rendered without a screen where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium

from foretell.errors import UserError
from foretell.tasks import Task
from foretell.training.policy import Outcome, Policy

_PROBE = "from mujoco import GLContext; context = GLContext(16, 16); context.make_current(); context.free()"


def record(policy: Policy, task: Task, folder: Path, *, first_episode: int = 0, episodes: int = 1) -> list[Outcome]:
    """Play episodes as `Policy.play` does, each saved as `<folder>/episode-<n>.mp4`. Raises `UserError`."""
    choose_renderer()
    try:
        env = gymnasium.wrappers.RecordVideo(
            task.make(render_mode="rgb_array"), str(folder), episode_trigger=lambda _: True, name_prefix="eval",
            disable_logger=True,
        )  # fmt: skip
        with env:
            return [policy.play(env, episode=first_episode + i) for i in range(episodes)]
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"cannot make a video: {' '.join(str(error).split())}") from error


def choose_renderer() -> None:
    """Set `MUJOCO_GL` to a backend that works without a screen, unless it is set or there is a screen.

    Raises `UserError` if neither EGL nor OSMesa works. Tried in a process of their own: one that fails cannot be undone.
    """
    if "MUJOCO_GL" in os.environ or os.environ.get("DISPLAY") or sys.platform != "linux":
        return
    for backend in ("egl", "osmesa"):
        env = {**os.environ, "MUJOCO_GL": backend}
        if subprocess.run([sys.executable, "-c", _PROBE], env=env, capture_output=True, check=False).returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return
    raise UserError(
        "cannot render: neither EGL nor OSMesa works here; install one of them (on Debian or Ubuntu: "
        "`apt-get install libegl1 libgles2` or `libosmesa6`) or run without --video"
    )
