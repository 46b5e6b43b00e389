"""A run on disk with its trained agent in use: it acts, plays episodes and is exported."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, SupportsIndex

import gymnasium
import jax
import numpy as np
from numpy.typing import ArrayLike

from foretell.agents import RunSettings
from foretell.diagnostics.recorded import unrepeated
from foretell.errors import UserError, brief
from foretell.keys import Stream, key_for
from foretell.output import STDERR
from foretell.report.exported import content, form_of
from foretell.report.video import record
from foretell.runs import arguments
from foretell.runs.directory import RunDirectory, writing
from foretell.runs.mistakes import validate
from foretell.tasks import Task, make_task
from foretell.training.controller import Controller, EvaluationResult


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


class TrainedAgent:
    """A run on disk with its trained agent: act with it, evaluate it, film it, export it."""

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
        return _unpickled, (type(self), self.directory, tree, self.seed, leaves, self._functions, self._trial)

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
        except Exception as error:  # whatever an object raises that is asked for its numbers
            raise UserError(f"the observation cannot be read: {brief(error)}") from error
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
            warn(text)

    @property
    def videos(self) -> Path:
        return self._files.videos

    @property
    def figure(self) -> Path:
        return self._files.curve


def warn(text: str) -> None:
    STDERR.write(f"warning: {text}\n")


def _unpickled(
    cls: type[TrainedAgent],
    directory: Path,
    tree: Mapping[str, Any],
    seed: int,
    leaves: Sequence[np.ndarray],
    functions: Mapping[str, Any],
    trial: int | None,
) -> TrainedAgent:
    """The run that `TrainedAgent.__reduce__` describes."""
    settings = validate(tree)
    task = make_task(settings.task, functions)
    agent = settings.build(task)
    like = jax.eval_shape(lambda: agent.init(key_for(seed, Stream.INIT)))
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return cls(RunDirectory(directory), settings, seed, task, Controller(agent, state, task.spec), functions, trial)
