"""The Python interface: `train`, `resume`, `load`, and the `Run` they return. The command line calls the same functions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretell.agents import RunSettings
from foretell.errors import UserError
from foretell.report.curve import draw_learning_curve
from foretell.report.video import record
from foretell.tasks import Task, make_task
from foretell.tasks.base import RewardFn, TerminatedFn
from foretell.training.checkpoint import Checkpoints
from foretell.training.compilation import use_compilation_cache
from foretell.training.config import merge, resolve
from foretell.training.directory import RunDirectory
from foretell.training.loop import Loop, Observer
from foretell.training.policy import Outcome, Policy
from foretell.training.progress import Display, TensorBoard
from foretell.training.state import init_run


class Run:
    """A run on disk with its trained agent: act with it, evaluate it, film it."""

    def __init__(self, directory: RunDirectory, settings: RunSettings, seed: int, task: Task, policy: Policy) -> None:
        self.directory, self.settings, self.seed, self.task, self._policy = directory.path, settings, seed, task, policy
        self._files = directory

    @property
    def episodes(self) -> list[dict[str, Any]]:
        """The rows of `episodes.csv`."""
        return self._files.read_episodes()

    @property
    def returns(self) -> list[float]:
        """Return of each trial."""
        return [row["return"] for row in self.episodes if row["kind"] == "train"]

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Action for an observation `[obs]`, or actions for a batch `[batch, obs]`, in the environment's units."""
        return self._policy.act(obs)

    def reset(self, where: np.ndarray | None = None) -> None:
        """Forget the episode: call it when an episode begins, in a batch with a mask of the rows where one does."""
        self._policy.reset(where)

    def evaluate(self, episodes: int = 10, *, seed: int = 0, video: bool = False) -> list[Outcome]:
        """Fresh episodes with the agent as it is; with `video`, each is saved under `videos/`."""
        if episodes < 1:
            raise UserError(f"episodes must be at least 1, not {episodes}")
        policy = self._policy.with_seed(seed)
        if video:
            return record(policy, self.task, self.videos / f"seed-{seed}", episodes=episodes)
        with self.task.make() as env:
            return [policy.play(env, episode=i) for i in range(episodes)]

    @property
    def videos(self) -> Path:
        return self._files.videos

    @property
    def figure(self) -> Path:
        return self._files.figures / "learning_curve.png"


def train(
    preset: str,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    env: str | None = None,
    reward: RewardFn | str | None = None,
    terminated: TerminatedFn | str | None = None,
    overrides: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a preset to its end and return the run.

    `out` is the run directory itself (default `runs/<preset-with-dashes>/<seed>`). `env` is a Gymnasium id.
    `reward` and `terminated` are functions of (obs, action, next_obs) on arrays `[..., n]`, or their
    `module:function`; a function that cannot be imported by that name must be given to `resume` and `load` again.
    `overrides` are nested mappings on top of the preset, as `{"planner": {"population": 200}}`.
    Raises `UserError` for every mistake, before anything is written.
    """
    if not 0 <= seed < 2**31:
        raise UserError(f"seed must be from 0 to {2**31 - 1}, not {seed}")
    functions = {"reward": reward, "terminated": terminated}
    named = {name: _name_of(value) for name, value in functions.items() if value is not None}
    chosen = {"task": ({"env": env} if env is not None else {}) | named}
    settings = resolve(preset, [*overrides, chosen])
    path = Path(out) if out is not None else Path("runs") / preset.replace("/", "-") / str(seed)
    use_compilation_cache()
    task = make_task(settings.task, functions)
    directory = RunDirectory.create(path, overwrite=overwrite)
    directory.write_config(settings, preset, seed)
    with directory.lock():
        return _run_to_end(directory, settings, preset, seed, task, quiet=quiet)


def resume(
    run_dir: str | Path,
    *,
    reward: RewardFn | None = None,
    terminated: TerminatedFn | None = None,
    overrides: Sequence[Mapping[str, Any]] = (),
    quiet: bool = False,
) -> Run:
    """Continue a run from its newest checkpoint to the end of its schedule, exactly as if it had never stopped.

    Of its settings only the section `train` may be changed, for instance to add trials. Raises `UserError`.
    """
    directory = RunDirectory.open(Path(run_dir))
    with directory.lock():
        settings, preset, seed = directory.read_config()
        for override in overrides:
            if set(override) - {"train"} or "capacity" in override.get("train", {}):
                raise UserError("a resumed run keeps its settings; only those of `train` other than capacity may change")
            settings = type(settings).model_validate(merge(settings.model_dump(), dict(override)))
        use_compilation_cache()
        task = make_task(settings.task, {"reward": reward, "terminated": terminated})
        if overrides:
            directory.write_config(settings, preset, seed)
        return _run_to_end(directory, settings, preset, seed, task, quiet=quiet, restore=True)


def load(
    run_dir: str | Path, *, reward: RewardFn | None = None, terminated: TerminatedFn | None = None, quiet: bool = False
) -> Run:
    """The agent of a run's newest checkpoint, ready to act. Raises `UserError`."""
    directory = RunDirectory.open(Path(run_dir))
    settings, _, seed = directory.read_config()
    use_compilation_cache()
    task = make_task(settings.task, {"reward": reward, "terminated": terminated})
    agent = settings.build(task)
    if not directory.checkpoints.is_dir():
        raise UserError(f"'{directory.path}' has no checkpoint yet")
    checkpoints = Checkpoints(directory.checkpoints)
    like = init_run(agent, task.spec, settings.train.capacity, seed)
    state = checkpoints.restore(like, Display().warned if not quiet else lambda _: None)
    checkpoints.close()
    return Run(directory, settings, seed, task, Policy(agent, state.agent, task.spec))


def _run_to_end(
    directory: RunDirectory,
    settings: RunSettings,
    preset: str,
    seed: int,
    task: Task,
    *,
    quiet: bool,
    restore: bool = False,
) -> Run:
    observers: list[Observer] = [TensorBoard(directory.tensorboard)]
    if not quiet:
        observers.append(Display())
    agent = settings.build(task)
    loop = Loop(agent, task, settings.train, seed, directory, observers)
    if restore:
        loop.restore()
    run = Run(directory, settings, seed, task, Policy(agent, loop.state.agent, task.spec))
    try:
        loop.run()
    finally:
        if rows := run.episodes:
            draw_learning_curve(rows, run.figure, title=f"{preset}, seed {seed}")
    return Run(directory, settings, seed, task, Policy(agent, loop.state.agent, task.spec))


def _name_of(function: Any) -> str:
    if isinstance(function, str):
        return function
    if not callable(function):
        raise UserError(f"reward and terminated must be functions or 'module:function', not {function!r}")
    return f"{function.__module__}:{function.__qualname__}"
