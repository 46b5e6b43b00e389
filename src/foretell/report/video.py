"""Videos of episodes, rendered without a screen where there is none."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float

from foretell.envs import reset
from foretell.errors import UserError, brief
from foretell.report.overlay import Overlay
from foretell.runs.directory import RunDirectory, writing
from foretell.tasks import Task
from foretell.training.controller import Controller, EvaluationResult

_PROBE = "from mujoco import GLContext; context = GLContext(16, 16); context.make_current(); context.free()"


def record(
    controller: Controller,
    task: Task,
    folder: Path,
    *,
    episodes: int = 1,
    wrap: Callable[[gymnasium.Env], gymnasium.Env],
) -> list[EvaluationResult]:
    """Play episodes as `Controller.play` does, each saved as `<folder>/eval-episode-<n>.mp4`.

    Args:
        controller: the agent.
        task: the task.
        folder: where the videos go.
        episodes: how many.
        wrap: wraps the environment that is filmed; episodes are played in the result.

    Raises:
        UserError: if the task cannot be filmed here, or if the disk refuses.
    """
    choose_renderer()
    drawable = _drawable(task)
    with writing(folder):
        for old in folder.glob("eval-episode-*.mp4"):
            old.unlink()
    with writing(folder), _camera(drawable, folder, "eval") as env:
        wrapped = wrap(env)
        return [controller.play(wrapped, episode=i) for i in range(episodes)]


def film(
    task: Task,
    directory: RunDirectory,
    seed: int,
    number: int,
    warn: Callable[[str], None] = lambda text: None,
    *,
    overlay: bool = False,
) -> Path:
    """Repeat a finished episode of a run and film it. A video ends where the environment fails.

    Args:
        task: the task.
        directory: the run's.
        seed: the run's.
        number: the number of the episode.
        warn: called with a sentence if the episode is not as it was recorded.
        overlay: write step, return so far and action on the frames.

    Returns:
        The video.

    Raises:
        UserError: if the task cannot be filmed here, or if the disk refuses.
    """
    episode = directory.read_episode(number)
    actions, random = episode["actions"].astype(np.float32), str(episode["kind"]) == "random"
    drawable = Overlay(_drawable(task)) if overlay else _drawable(task)
    with writing(directory.videos), _camera(drawable, directory.videos, "run") as env:
        env.episode_id = number - 1  # the number in its file's name
        differs = _repeat(env, task, seed, number, episode["observations"], actions, random=random)
    video = directory.videos / f"run-episode-{number}.mp4"
    if differs is not None:
        warn(
            f"'{task.spec.env_id}' did not repeat episode {number}: from step {differs} on, '{video.name}' shows "
            "something else than was recorded"
        )
    return video


def _repeat(
    env: gymnasium.Env,
    task: Task,
    seed: int,
    number: int,
    recorded: Float[np.ndarray, "times obs"],
    actions: Float[np.ndarray, "steps action"],
    *,
    random: bool,
) -> int | None:
    """Play an episode again; the first step that differs from the recorded one or ends the episode early, or None."""
    obs, ended, differs = reset(env, task, seed, number, random=random), False, None
    for t in range(len(actions) + 1):
        if differs is None and (not np.array_equal(obs, recorded[t]) or (ended and t < len(actions))):
            differs = t
        if t == len(actions):
            break
        try:
            obs, _, terminated, truncated, _ = env.step(actions[t])
        except UserError:
            if differs is None:
                raise
            break
        ended = terminated or truncated
    return differs


def film_finished(
    task: Task,
    directory: RunDirectory,
    seed: int,
    numbers: Sequence[int] | None,
    warn: Callable[[str], None] = lambda text: None,
    *,
    overlay: bool = False,
) -> Iterator[Path]:
    """Film finished episodes of a run.

    Args:
        task: the task.
        directory: the run's.
        seed: the run's.
        numbers: those of the episodes; None for those that Gymnasium films by default: cubes, then every thousandth.
        warn: as for `film`.
        overlay: likewise.

    Returns:
        The videos; each is made when the iterator reaches it.

    Raises:
        UserError: if there is no such episode; the iterator raises those of `film`.
    """
    from gymnasium.utils.save_video import capped_cubic_video_schedule  # slow to import, and needed here alone

    finished = [row["episode"] for row in directory.read_episodes()]
    if numbers is None:
        numbers = [number for number in finished if capped_cubic_video_schedule(number)]
    for number in numbers:
        if number not in finished:
            last = f"; the nearest is {min(finished, key=lambda n: abs(n - number))}" if finished else ""
            raise UserError(f"the run has finished no episode {number}{last}")
    choose_renderer()
    return (film(task, directory, seed, number, warn, overlay=overlay) for number in numbers)


def check_drawable(task: Task) -> None:
    """Raises `UserError` if the task cannot be filmed here."""
    choose_renderer()
    _drawable(task).close()


def choose_renderer() -> None:
    """Set `MUJOCO_GL` to a backend that works without a screen, unless it is set, there is a screen or none works.

    Each is tried in a process of its own, because a backend that fails cannot be replaced within a process.
    """
    if "MUJOCO_GL" in os.environ or os.environ.get("DISPLAY") or sys.platform != "linux":
        return
    for backend in ("egl", "osmesa"):
        env = {**os.environ, "MUJOCO_GL": backend}
        if subprocess.run([sys.executable, "-c", _PROBE], env=env, capture_output=True, check=False).returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return


@contextmanager
def _camera(env: gymnasium.Env, folder: Path, name: str) -> Iterator[gymnasium.wrappers.RecordVideo]:
    """Save each episode in `env` as `<folder>/<name>-episode-<n>.mp4`, and close it at the end.

    They are made in a folder that is new: in one that is there, Gymnasium takes its path for a format.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="foretell-") as aside, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the folder is there
        new = str(Path(aside) / "videos")
        camera = gymnasium.wrappers.RecordVideo(
            env, new, episode_trigger=lambda _: True, name_prefix=name, disable_logger=True, gc_trigger=None
        )
        with closing(camera):
            yield camera
        for video in Path(new).glob("*.mp4"):
            shutil.move(video, folder / video.name)


def _drawable(task: Task) -> gymnasium.Env:
    """An environment that can be rendered. Raises `UserError` if it cannot."""
    env = task.make(render_mode="rgb_array")
    try:
        env.reset(seed=0)
        if env.render_mode in (None, "human", "ansi"):
            raise NotImplementedError(f"it has render_mode={env.render_mode!r} where it is made, not 'rgb_array'")
        frame: Any = env.render()
        if np.ndim(frame) != 3 or not np.size(frame):
            raise NotImplementedError("it renders nothing as 'rgb_array'")
    except (Exception, SystemExit) as error:  # whatever a renderer or the user's environment raises
        reason = f"({brief(error.__cause__ or error)}){_advice(env)}"
        raise UserError(f"cannot film '{task.spec.env_id}' {reason}") from error
    return env


def _advice(env: gymnasium.Env) -> str:
    """What may help if MuJoCo cannot draw an environment; '' for others."""
    if isinstance(env.unwrapped, gymnasium.envs.mujoco.MujocoEnv):
        return "; without a screen MuJoCo needs EGL or OSMesa (`apt-get install libegl1` or `libosmesa6`)"
    if "dm_control" in sys.modules:
        return "; without a screen, start Python with MUJOCO_GL=egl, since dm_control reads it when it is imported"
    return ""
