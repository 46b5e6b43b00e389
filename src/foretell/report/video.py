"""Videos of a policy, rendered without a screen where there is none."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np

from foretell.envs import reset, within
from foretell.errors import UserError, brief
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
        wrap: called with the environment that is filmed; returns the one to play in.

    Raises:
        UserError: if the task cannot be filmed here, or if the disk refuses.
    """
    choose_renderer()
    drawable = _drawable(task)
    with writing(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that videos of the same seed are replaced
        env = gymnasium.wrappers.RecordVideo(
            drawable, str(folder), episode_trigger=lambda _: True, name_prefix="eval", disable_logger=True
        )
        with closing(env):
            wrapped = wrap(env)
            return [controller.play(wrapped, episode=i) for i in range(episodes)]


def film(task: Task, directory: RunDirectory, seed: int, number: int) -> Path:
    """Repeat a finished episode of a run before a camera.

    Args:
        task: the task.
        directory: the run's.
        seed: the run's.
        number: of the episode.

    Returns:
        The video.

    Raises:
        UserError: if the task cannot be filmed here, or if the disk refuses.
    """
    episode = directory.read_episode(number)
    actions, random = episode["actions"].astype(np.float32), str(episode["kind"]) == "random"
    with writing(directory.videos), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gymnasium.wrappers.RecordVideo(
            _drawable(task),
            str(directory.videos),
            episode_trigger=lambda _: True,
            name_prefix="run",
            disable_logger=True,
        )
        env.episode_id = number - 1  # the number in its file's name
        with closing(env):
            reset(env, task, seed, number, random=random)
            for action in actions:
                env.step(within(task.spec, action))
    return directory.videos / f"run-episode-{number}.mp4"


def film_finished(task: Task, directory: RunDirectory, seed: int, numbers: Sequence[int] | None) -> Iterator[Path]:
    """Film finished episodes of a run.

    Args:
        task: the task.
        directory: the run's.
        seed: the run's.
        numbers: of the episodes; None for those that Gymnasium films by default: cubes, then every thousandth.

    Returns:
        The videos, each made when it is asked for.

    Raises:
        UserError: if there is no such episode; later also as `film`.
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
    return (film(task, directory, seed, number) for number in numbers)


def check_drawable(task: Task) -> None:
    """Raises `UserError` if the task cannot be filmed here."""
    choose_renderer()
    _drawable(task).close()


def choose_renderer() -> None:
    """Set `MUJOCO_GL` to a backend that works without a screen, unless it is set, there is a screen or none works.

    They are tried in a process of their own: one that fails cannot be undone.
    """
    if "MUJOCO_GL" in os.environ or os.environ.get("DISPLAY") or sys.platform != "linux":
        return
    for backend in ("egl", "osmesa"):
        env = {**os.environ, "MUJOCO_GL": backend}
        if subprocess.run([sys.executable, "-c", _PROBE], env=env, capture_output=True, check=False).returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return


def _drawable(task: Task) -> gymnasium.Env:
    """An environment of which a picture could be made. Raises `UserError`."""
    env = task.make(render_mode="rgb_array")
    try:
        env.reset(seed=0)
        if env.render() is None:
            raise NotImplementedError("it renders nothing as 'rgb_array'")
    except Exception as error:  # whatever a renderer or the user's environment raises
        mujoco = isinstance(env.unwrapped, gymnasium.envs.mujoco.MujocoEnv)
        advice = "; without a screen MuJoCo needs EGL or OSMesa (`apt-get install libegl1` or `libosmesa6`)"
        raise UserError(f"cannot film '{task.spec.env_id}' ({brief(error)}){advice if mujoco else ''}") from error
    return env
