"""The Python interface: `train`, `resume`, `load`, the `Run` they return, and `film`. The command line calls it too."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
from numpy.typing import ArrayLike

from foretell.agents import Agent, RunSettings, Schedule
from foretell.agents.base import Imagines, Publishes
from foretell.errors import UserError, brief
from foretell.report.curve import draw_learning_curve, prepare_to_draw
from foretell.report.inspection import Inspection, Recording, draw_weights, horizon_weights, weight_histogram
from foretell.report.prediction import draw_prediction, prediction_errors, tracks
from foretell.report.video import Films, film_finished, record
from foretell.tasks import Task, TaskSettings, make_task
from foretell.tasks.base import RewardFn, TerminatedFn
from foretell.training.checkpoint import Checkpoints
from foretell.training.compilation import use_compilation_cache
from foretell.training.config import continued, resolve
from foretell.training.directory import RunDirectory, writing
from foretell.training.logs import Greedy, Iterations, Models, Predictions, load_model, model_path
from foretell.training.loop import Loop
from foretell.training.observer import Observer
from foretell.training.policy import Outcome, Policy
from foretell.training.pretraining import pretrained, stages
from foretell.training.progress import Display, TensorBoard, plain_console
from foretell.training.state import init_run

Overrides = Mapping[str, Any] | Sequence[Mapping[str, Any]]


@contextmanager
def _within_memory() -> Iterator[None]:
    """Tell as a `UserError` that the settings ask for more memory than there is."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "out of memory" not in str(error).lower():
            raise
        advice = "lower planner.population, imagination.particles, model.hidden or train.capacity"
        raise UserError(f"the settings ask for more memory than there is; {advice} ({brief(error)})") from error


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

    def act(self, obs: ArrayLike) -> np.ndarray:
        """Action for an observation `[obs]`, or actions for a batch `[batch, obs]`, in the environment's units.

        Raises `UserError` for a wrong shape, a value that is not finite, or a batch that changes size mid-episode.
        """
        return self._policy.act(obs)

    def reset(self, where: ArrayLike | None = None) -> None:
        """Forget the episode: call it when an episode begins, in a batch with a mask of the rows where one does.

        Raises `UserError` for a mask of another type or shape.
        """
        self._policy.reset(where)

    def evaluate(self, episodes: int = 10, *, seed: int = 0, video: bool = False) -> list[Outcome]:
        """Fresh episodes with the agent as it is; with `video`, each is saved under `videos/`. Raises `UserError`."""
        return self._play(episodes, seed, video, lambda env: env)

    def inspect(self, episodes: int = 10, *, seed: int = 0, video: bool = False) -> Inspection:
        """Fresh episodes, and how far the agent's targets trust its model there, or how far its model sees.

        For targets the weight of each horizon, drawn as `figures/horizon_weights.png`. For plans the error of open-loop
        predictions, of which that of the first episode is drawn as `figures/prediction.png`. With `video`, each episode
        is saved under `videos/`. Raises `UserError`.
        """
        rows: list[tuple] = []
        outcomes = self._play(episodes, seed, video, lambda env: Recording(env, rows))
        name = self.task.spec.env_id
        if isinstance(self._policy.agent, Imagines):
            played = tracks(rows, outcomes)
            figure, names = self.prediction_figure, self.task.spec.obs_names
            draw_prediction(self._policy, played[0], names, figure, title=f"{name}: open-loop prediction")
            return Inspection(outcomes, errors=prediction_errors(self._policy, played))
        weights = horizon_weights(self._policy, rows)
        if weights is None:
            return Inspection(outcomes)
        histogram = weight_histogram(weights)
        draw_weights(histogram, self.weights_figure, title=f"{name}: trust in each horizon")
        return Inspection(outcomes, histogram)

    @_within_memory()
    def _play(
        self, episodes: int, seed: int, video: bool, wrap: Callable[[gymnasium.Env], gymnasium.Env]
    ) -> list[Outcome]:
        _check_seed(seed)
        if episodes < 1:
            raise UserError(f"episodes must be at least 1, not {episodes}")
        policy = self._policy.with_seed(seed)
        if video:
            return record(policy, self.task, self.videos / f"seed-{seed}", episodes=episodes, wrap=wrap)
        with closing(wrap(self.task.make())) as env:
            return [policy.play(env, episode=i) for i in range(episodes)]

    @property
    def videos(self) -> Path:
        return self._files.videos

    @property
    def weights_figure(self) -> Path:
        return self._files.figures / "horizon_weights.png"

    @property
    def prediction_figure(self) -> Path:
        return self._files.figures / "prediction.png"

    @property
    def figure(self) -> Path:
        return self._files.figures / "learning_curve.png"


@_within_memory()
def train(
    preset: str,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    env: str | None = None,
    reward: RewardFn | str | None = None,
    terminated: TerminatedFn | str | None = None,
    overrides: Overrides = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a preset to its end and return the run.

    `out` is the run directory itself (default `runs/<preset-with-dashes>/<seed>`). `env` is a Gymnasium id.
    `reward` and `terminated` are functions of (obs, action, next_obs) on arrays `[..., n]`, or their
    `module:function`; a function that cannot be imported by that name must be given to `resume` and `load` again.
    `overrides` is a nested mapping on top of the preset, as `{"planner": {"population": 200}}`, or several in order.
    Where `train.pretrained` names a preset, that stage comes first, in `<out>-<preset-with-dashes>`: it is trained with
    its own settings, continued, or taken as it is if it has finished.
    Raises `UserError` for every mistake, before anything is written.
    """
    _check_seed(seed)
    functions = {"reward": reward, "terminated": terminated}
    named = {name: _name_of(value) for name, value in functions.items() if value is not None}
    chosen = ({"env": env} if env is not None else {}) | named
    settings = resolve(preset, [{"task": chosen}, *_listed(overrides)])
    path = Path(out) if out is not None else Path("runs") / preset.replace("/", "-") / str(seed)
    use_compilation_cache()
    task = make_task(settings.task, functions)
    agent = _build(settings, task)
    if earlier_stages := stages(settings, {"task": chosen}):
        RunDirectory.create(path, overwrite=overwrite)  # refused before anything is trained
        earlier = _train_stages(earlier_stages, path, seed, {"env": env, **functions}, quiet=quiet)
        settings = settings.model_copy(update={"train": settings.train.model_copy(update={"pretrained": str(earlier)})})
    start = pretrained(settings, task, agent, seed, functions)
    watchers = _observers(RunDirectory(path), settings.train, agent, task, quiet=quiet)
    directory = RunDirectory.create(path, overwrite=overwrite)
    with directory.lock():
        directory.clear()
        directory.write_config(settings, preset, seed)
        loop = Loop(agent, task, settings.train, seed, directory, watchers)
        if start is not None:
            loop.state = loop.state._replace(agent=start)
        return _run_to_end(loop, settings, preset)


@_within_memory()
def resume(
    run_dir: str | Path,
    *,
    reward: RewardFn | None = None,
    terminated: TerminatedFn | None = None,
    overrides: Overrides = (),
    quiet: bool = False,
) -> Run:
    """Continue a run from its newest checkpoint to the end of its schedule, exactly as if it had never stopped.

    Of its settings only the section `train` may be changed, for instance to add trials; a finished run is left as it
    is. Raises `UserError`.
    """
    directory = RunDirectory.open(Path(run_dir))
    with directory.lock():
        before, preset, seed = directory.read_config()
        settings = continued(before, _listed(overrides))
        use_compilation_cache()
        functions = {"reward": reward, "terminated": terminated}
        task = make_task(settings.task, functions)
        agent = _build(settings, task)
        watchers = _observers(directory, settings.train, agent, task, quiet=quiet)
        loop = Loop(agent, task, settings.train, seed, directory, watchers)
        start = None if loop.has_checkpoint else pretrained(settings, task, agent, seed, functions)
        if start is not None:
            loop.state = loop.state._replace(agent=start)
        loop.restore()
        if settings != before:
            directory.write_config(settings, preset, seed)
        if not loop.done:
            return _run_to_end(loop, settings, preset)
        if not quiet:
            unit = "trials" if settings.train.steps is None else "steps"
            print(f"already finished: all {loop.progress[1]} {unit} are done; for more, raise train.{unit}")
        return Run(directory, settings, seed, task, Policy(agent, loop.state.agent, task.spec))


@_within_memory()
def load(
    run_dir: str | Path,
    *,
    trial: int | None = None,
    reward: RewardFn | None = None,
    terminated: TerminatedFn | None = None,
    quiet: bool = False,
) -> Run:
    """The agent of a run's newest checkpoint, or that which acted in a trial if all models were saved, ready to act.

    Raises `UserError`.
    """
    directory = RunDirectory.open(Path(run_dir))
    settings, _, seed = directory.read_config()
    use_compilation_cache()
    task = make_task(settings.task, {"reward": reward, "terminated": terminated})
    agent = _build(settings, task)
    like = init_run(agent, task.spec, settings.train, seed)
    if trial is not None:
        learned = load_model(model_path(directory.models, trial), like.agent)
        return Run(directory, settings, seed, task, Policy(agent, learned, task.spec))
    warn = Display(plain_console(stderr=True)).warned if not quiet else lambda _: None
    with closing(Checkpoints(directory.checkpoints)) as checkpoints:
        state = checkpoints.restore(like, warn)
    return Run(directory, settings, seed, task, Policy(agent, state.agent, task.spec))


def film(run_dir: str | Path, episodes: Sequence[int] | None = None) -> Iterator[Path]:
    """Film finished episodes of a run by their numbers, or at numbers that are cubes; one video after the other.

    Each is repeated from its seed and its actions, random ones too. Raises `UserError`.
    """
    directory = RunDirectory.open(Path(run_dir))
    settings, _, seed = directory.read_config()
    where = TaskSettings(**settings.task.model_dump(exclude={"reward", "terminated"}))  # they are not needed to act
    return film_finished(make_task(where), directory, seed, episodes)


def _run_to_end(loop: Loop, settings: RunSettings, preset: str) -> Run:
    """Run, and draw what there is however it ends."""
    directory, seed, task = loop.directory, loop.seed, loop.task
    prepare_to_draw()
    try:
        loop.run()
    finally:
        run = Run(directory, settings, seed, task, Policy(settings.build(task), loop.state.agent, task.spec))
        if rows := run.episodes:
            with writing(run.figure):
                draw_learning_curve(rows, run.figure, title=f"{preset}, seed {seed}")
    return run


def _observers(directory: RunDirectory, schedule: Schedule, agent: Agent, task: Task, *, quiet: bool) -> list[Observer]:
    observers: list[Observer] = [TensorBoard(directory.tensorboard)]
    if not quiet:
        observers.append(Display())
    if isinstance(agent, Publishes):
        observers.append(Greedy(agent))
    if schedule.steps_per_learning is None and schedule.environments * schedule.episodes_per_learning > 1:
        observers.append(Iterations(task, schedule))
    if schedule.save_all_models:
        observers.append(Models())
    if schedule.log_predictions != "none":
        observers.append(Predictions(agent, schedule.log_predictions))
    if schedule.record:
        observers.append(Films(task))
    return observers


def _train_stages(presets: list[str], out: Path, seed: int, where: Mapping[str, Any], *, quiet: bool) -> Path:
    """Bring the run of every stage to its end, each going on from the one before; the last of them."""
    earlier: Path | None = None
    for preset in presets:
        path = out.with_name(f"{out.name}-{preset.replace('/', '-')}")
        if not quiet:
            print(f"stage '{preset}' in {path}", flush=True)
        if (path / "config.yaml").is_file():
            resume(path, reward=where["reward"], terminated=where["terminated"], quiet=quiet)
        else:
            overrides = {"train": {"pretrained": str(earlier)}} if earlier else {}
            train(preset, seed=seed, out=path, overrides=overrides, quiet=quiet, **where)
        earlier = path
    assert earlier is not None
    return earlier


def _build(settings: RunSettings, task: Task) -> Agent:
    capacity, room = settings.train.capacity, settings.train.room(task.spec.horizon)
    if not room <= capacity < 2**31:
        raise UserError(
            f"train.capacity must be from {room} (the steps between two calls of learn) to {2**31 - 1}, not {capacity}"
        )
    return settings.build(task)


def _listed(overrides: Overrides) -> Sequence[Mapping[str, Any]]:
    return [overrides] if isinstance(overrides, Mapping) else overrides


def _check_seed(seed: int) -> None:
    if not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise UserError(f"seed must be a whole number from 0 to {2**31 - 1}, not {seed!r}")


def _name_of(function: Any) -> str:
    if isinstance(function, str):
        return function
    if not callable(function):
        raise UserError(f"reward and terminated must be functions or 'module:function', not {function!r}")
    return f"{function.__module__}:{getattr(function, '__qualname__', '<' + type(function).__name__ + '>')}"
