"""A run on disk with its trained agent, as Python sees it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, SupportsIndex

import gymnasium
import jax
import numpy as np
from numpy.typing import ArrayLike

from foretell.agents import RunSettings, ValueExpansion
from foretell.diagnostics.belief import Belief, believe, can_believe, horizon_of
from foretell.diagnostics.episode import live
from foretell.diagnostics.examination import Examiner, Findings, Sizes, check_sizes
from foretell.diagnostics.figures import draw_findings
from foretell.diagnostics.inspection import (
    Inspection,
    Recording,
    draw_weights,
    horizon_weights,
    recorded,
    weight_histogram,
)
from foretell.diagnostics.prediction import draw_prediction, prediction_errors, tracks
from foretell.diagnostics.recorded import learned_tracks, newest_tracks, recorded_tracks, unrepeated
from foretell.diagnostics.snapshots import added_by, transitions_at
from foretell.diagnostics.tables import TABLES, write_tables
from foretell.errors import UserError, brief
from foretell.keys import Stream, key_for, numpy_generator
from foretell.output import STDERR
from foretell.replay import Transitions
from foretell.report.exported import content, form_of
from foretell.report.video import choose_renderer, record
from foretell.runs import arguments
from foretell.runs.checkpoint import Checkpoints
from foretell.runs.directory import RunDirectory, check_folder, writing
from foretell.runs.mistakes import validate
from foretell.tasks import Task, make_task
from foretell.training.controller import Controller, EvaluationResult
from foretell.training.learner import Learner
from foretell.training.state import init_run

_RECORDED = 50
"""Recorded episodes from which a learner's batch is drawn, and in which similar steps are looked for."""


@contextmanager
def within_memory() -> Iterator[None]:
    """Raise `UserError` if the settings ask for more memory than there is."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "out of memory" not in str(error).lower():
            raise
        advice = "lower planner.population, imagination.particles, model.hidden or train.capacity"
        raise UserError(f"the settings ask for more memory than there is; {advice} ({brief(error)})") from error


class Run:
    """A run on disk with its trained agent: act with it, evaluate it, film it."""

    def __init__(
        self,
        directory: RunDirectory,
        settings: RunSettings,
        seed: int,
        task: Task,
        controller: Controller,
        functions: Mapping[str, Any] | None = None,
        trial: int | None = None,
    ) -> None:
        """`functions` is what was given to `make_task` beside the settings, `trial` that of the agent, if not the last;
        the rest is of the run.
        """
        self._functions, self._trial = dict(functions or {}), trial
        self.directory, self.settings, self.seed, self.task = directory.path, settings, seed, task
        self._files, self._controller, self._compared = directory, controller, False

    def __reduce__(self) -> tuple:
        """Pickled with its settings and what the agent has learned; the task is made anew."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(self._controller.state)]
        tree = self.settings.model_dump(mode="json")
        return _unpickled, (self.directory, tree, self.seed, leaves, self._functions, self._trial)

    @property
    def episodes(self) -> list[dict[str, Any]]:
        """The rows of `episodes.csv`."""
        return self._files.read_episodes()

    @property
    def returns(self) -> list[float]:
        """Return of each trial."""
        return [row["return"] for row in self.episodes if row["kind"] == "train"]

    @within_memory()
    def warm_up(self, batch: SupportsIndex | None = None, *, explore: bool = False) -> None:
        """Compile what acting needs, so that no later call of `act` with as many observations compiles anything.

        The episode under way is not affected.

        Args:
            batch: how many observations `act` will be given at once; None: one.
            explore: as for `act`.

        Raises:
            UserError: if acting fails, or for a batch of another type or below 1.
        """
        arguments.switch(explore=explore)
        size = 1 if batch is None else arguments.whole_number("batch", batch, 1)
        self._controller.warm_up(size, explore=bool(explore))

    def act(self, obs: Any, *, explore: bool = False) -> Any:
        """The action for an observation, or actions for a batch.

        Args:
            obs: as the environment returns it, or flattened: `[obs]`, or `[batch, obs]` for a batch.
            explore: act as the agent does to collect data.

        Returns:
            A copy in the form and precision of the environment's action space, within its bounds.

        Raises:
            UserError: for a wrong shape, a value that is not finite, or a batch that changes size within an episode.
        """
        spaces, spec = self.task.spaces, self.task.spec
        try:
            rows = spaces.rows(obs)
        except ValueError as error:
            raise UserError(str(error)) from error
        arguments.switch(explore=explore)
        action = self._controller.act(rows, explore=bool(explore))
        return spaces.native(action, spec.action_low, spec.action_high)

    def reset(self, where: ArrayLike | None = None) -> None:
        """Begin a new episode; in a batch, with a mask of the rows in which one begins.

        Raises `UserError` for a mask of another type or shape.
        """
        self._controller.reset(where)

    def evaluate(
        self, episodes: SupportsIndex = 10, *, seed: SupportsIndex = 0, video: bool = False
    ) -> list[EvaluationResult]:
        """Fresh episodes with the agent as it is; with `video`, each is saved under `videos/`. Raises `UserError`."""
        return self._play(episodes, seed, video, lambda env: env)

    def inspect(
        self, episodes: SupportsIndex = 10, *, seed: SupportsIndex = 0, video: bool = False, replay: bool = False
    ) -> Inspection:
        """How far the agent's targets trust its model, or how far its model sees, along fresh episodes or in its data.

        For targets the weight of each horizon, drawn as `figures/horizon_weights.png`. For plans the error of open-loop
        predictions, of which that of the first episode is drawn as `figures/prediction.png`.

        Args:
            episodes: number of fresh episodes.
            seed: of their start states and all noise.
            video: save each episode under `videos/`.
            replay: use the agent's data instead of fresh episodes: the transitions in its replay, or the episodes that
                it learned from. Those of the agent of a trial are the data at the end of that trial.

        Raises:
            UserError: if an environment fails, or the data of a trial have been overwritten since.
        """
        arguments.switch(replay=replay)
        rows: list[tuple] = []
        results = [] if replay else self._play(episodes, seed, video, lambda env: Recording(env, rows))
        controller, name = self._controller, self.task.spec.env_id
        agent: Any = controller.agent
        if isinstance(agent, ValueExpansion) and agent.model is not None:
            weights = horizon_weights(controller, self._replayed() if replay else recorded(rows))
            assert weights is not None
            histogram = weight_histogram(weights)
            draw_weights(histogram, self.weights_figure, title=f"{name}: trust in each horizon")
            return Inspection(results, histogram)
        if getattr(agent, "model", None) is None or not agent.model.needs_data:
            return Inspection(results)
        schedule = self.settings.train
        played = learned_tracks(self._files, self.task, schedule, self._trial) if replay else tracks(rows, results)
        figure, names = self.prediction_figure, self.task.spec.obs_names
        draw_prediction(controller, played[0], names, figure, title=f"{name}: open-loop prediction")
        return Inspection(results, errors=prediction_errors(controller, played))

    @within_memory()
    def diagnose(self, sizes: Sizes = Sizes(), *, seed: SupportsIndex = 0, out: str | Path | None = None) -> Findings:  # noqa: B008
        """How good the agent's model and values are along fresh episodes, as tables and figures too.

        Args:
            sizes: how much to measure, and how.
            seed: of the start states and all noise.
            out: where tables and figures are written; by default `diagnostics/` in the run directory.

        Returns:
            What was found; `foretell.diagnostics.tables` makes rows and text of it.

        Raises:
            UserError: for sizes that make no sense, or if an environment fails.
        """
        seed = arguments.seed_number(seed)
        check_sizes(sizes)
        controller, folder = self._controller, self._files.diagnosis if out is None else arguments.path("out", out)
        if out is not None:
            check_folder(folder, [f"{name}.csv" for name in TABLES])
        rng = numpy_generator(seed, Stream.DIAGNOSE)
        recorded = recorded_tracks(self._files, self.task, _RECORDED, rng)
        with closing(Examiner(controller.agent, self.task, sizes, seed, self.settings.train.workers)) as examiner:
            found = examiner.examine(controller.state, recorded)
        write_tables(found, sizes.horizon, self.task.spec.obs_names, folder)
        draw_findings(found, folder, title=f"{self.task.spec.env_id}: {self.settings.agent}")
        return found

    @within_memory()
    def believe(
        self, *, seed: SupportsIndex = 0, seconds: float = 60.0, moments: SupportsIndex = 60, render: bool = True
    ) -> Belief | None:
        """What the agent's world model believes along a fresh episode: plans, predictions, rejected candidates.

        None if the agent has no model that may be wrong. Raises `UserError` if the environment fails.

        Args:
            seed: of the initial state and all noise.
            seconds: wall time after which the episode is left, about.
            moments: of the episode that are looked at, at most.
            render: keep a picture of each moment, where the environment can be rendered.
        """
        arguments.switch(render=render)
        seed, moments = arguments.seed_number(seed), arguments.whole_number("moments", moments, 1)
        seconds = arguments.number("seconds", seconds, 0.0)
        agent, state = self._controller.agent, self._controller.state
        if not can_believe(agent):
            return None
        if render:
            choose_renderer()
        lived = live(agent, self.task, state, seed=seed, seconds=seconds, moments=moments, render=render)
        return believe(agent, self.task, state, lived, newest_tracks(self._files, self.episodes, _RECORDED), seed)

    @property
    def planned_steps(self) -> int:
        """Steps that `believe` looks ahead, at most."""
        return horizon_of(self._controller.agent)

    @within_memory()
    def export(
        self,
        out: str | Path | None = None,
        *,
        format: str | None = None,
        batch: SupportsIndex = 1,
        platforms: str | Sequence[str] | None = None,
    ) -> Path:
        """Write the agent as one file that runs without Foretell, see `foretell.report.exported`.

        Args:
            out: the file; by default `agent.stablehlo` or `agent.onnx` in the run directory.
            format: `stablehlo`, or `onnx` for a policy; by default as the file's ending says, else `stablehlo`.
            batch: how many observations it is given at once.
            platforms: of the machines that will run StableHLO: `cpu` (default), `cuda`, `rocm` or `tpu`.

        Returns:
            The path of the file.

        Raises:
            UserError: for wrong arguments, or if such a file cannot hold the agent.
        """
        size = arguments.whole_number("batch", batch, 1)
        path = None if out is None else arguments.path("out", out)
        kind, names = form_of(format, path, platforms)
        path, controller = path or self.directory / f"agent.{kind}", self._controller
        data = content(kind, controller.agent, controller.state, self.task.spec, batch=size, platforms=names)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return path

    @within_memory()
    def _play(
        self, episodes: object, seed: object, video: object, wrap: Callable[[gymnasium.Env], gymnasium.Env]
    ) -> list[EvaluationResult]:
        arguments.switch(video=video)
        seed, episodes = arguments.seed_number(seed), arguments.whole_number("episodes", episodes, 1)
        if episodes > (most := arguments.LARGEST // self.task.spec.horizon):  # steps are counted with 32 bits
            raise UserError(f"episodes must be at most {most}, not {episodes}")
        controller = self._controller.with_seed(seed)
        self._compare()
        if video:
            return record(controller, self.task, self.videos / f"seed-{seed}", episodes=episodes, wrap=wrap)
        with closing(wrap(self.task.make())) as env:
            return [controller.play(env, episode=i) for i in range(episodes)]

    def _replayed(self) -> Transitions:
        """The transitions in the replay, as they were at the end of the agent's trial. Raises `UserError`."""
        agent, schedule = self._controller.agent, self.settings.train
        like, _ = init_run(agent, self.task.spec, schedule, self.seed)
        with closing(Checkpoints(self._files.checkpoints)) as checkpoints:
            state = Learner(agent, self.seed).flush(checkpoints.restore(like, _warn))
        added = None if self._trial is None else added_by(self.episodes, schedule, self._trial)
        assert state.replay is not None  # an agent with targets has one
        return transitions_at(state.replay, added)

    def _compare(self) -> None:
        """Say once if a new environment, in which episodes are played, does not repeat a recorded one."""
        if self._compared or not self.settings.task.check:
            return
        self._compared = True
        row = unrepeated(self._files, self.task, self.seed)
        if row is not None:
            text = (
                f"a new copy of '{self.task.spec.env_id}' does not repeat the recorded episode {row['episode']}, so "
                "what the agent earns here may differ from what it earned in training"
            )
            _warn(text)

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
        return self._files.curve


def _warn(text: str) -> None:
    STDERR.write(f"warning: {text}\n")


def _unpickled(
    directory: Path,
    tree: Mapping[str, Any],
    seed: int,
    leaves: Sequence[np.ndarray],
    functions: Mapping[str, Any],
    trial: int | None,
) -> Run:
    """The run that `Run.__reduce__` describes."""
    settings = validate(tree)
    task = make_task(settings.task, functions)
    agent = settings.build(task)
    like = jax.eval_shape(lambda: agent.init(key_for(seed, Stream.INIT)))
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return Run(RunDirectory(directory), settings, seed, task, Controller(agent, state, task.spec), functions, trial)
