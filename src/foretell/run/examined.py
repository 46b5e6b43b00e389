"""A run whose trained agent is examined: its model, its values and what it believes."""

from contextlib import closing
from pathlib import Path
from typing import Any, SupportsIndex

from foretell.agents import ValueExpansion
from foretell.diagnostics.belief import Belief, believe, can_believe, horizon_of
from foretell.diagnostics.episode import Chosen, live
from foretell.diagnostics.examination import Examiner, Findings, Sizes, check_sizes
from foretell.diagnostics.figures import draw_findings
from foretell.diagnostics.hints import Hint, hints, read_data
from foretell.diagnostics.inspection import (
    Inspection,
    Recording,
    draw_weights,
    horizon_weights,
    recorded,
    weight_histogram,
)
from foretell.diagnostics.prediction import draw_prediction, prediction_errors, tracks
from foretell.diagnostics.recorded import learned_tracks, newest_tracks, recorded_tracks
from foretell.diagnostics.snapshots import added_by, transitions_at
from foretell.diagnostics.tables import TABLES, write_tables
from foretell.diagnostics.why import BEST
from foretell.errors import UserError
from foretell.keys import Stream, numpy_generator
from foretell.replay import Transitions
from foretell.report.video import choose_renderer
from foretell.run.trained import TrainedAgent, warn, within_memory
from foretell.runs import arguments
from foretell.runs.checkpoint import Checkpoints
from foretell.runs.directory import check_folder
from foretell.training.learner import Learner
from foretell.training.programs import whole
from foretell.training.state import init_run

_RECORDED = 50
"""Recorded episodes from which a learner's batch is drawn, and in which similar steps are looked for."""


class Run(TrainedAgent):
    """A run on disk with its trained agent: act with it, evaluate it, film it, examine it."""

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

    def hints(self) -> list[Hint]:
        """What in the data of the run says that something may be wrong. Raises `UserError` if they are damaged."""
        learner = self.settings.model_dump().get("learner") or {}
        return hints(read_data(self._files, self.task.spec.obs_names, learner))

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

    @within_memory()
    def why(self, step: SupportsIndex, *, seed: SupportsIndex = 0, seconds: float = 60.0) -> Belief | None:
        """What the agent's world model believed when it chose the action of one step of a fresh episode.

        The belief has one moment: the plan that is carried out at this step, its best candidates, and the nearest
        steps in the data. `foretell.diagnostics.why` makes text of it. None if the agent has no model that may be
        wrong. For the agent of a trial, load the run with that trial.

        Args:
            step: of the episode, from 0.
            seed: of the initial state and all noise.
            seconds: wall time after which the episode is left, about.

        Raises:
            UserError: if the episode does not come so far, or the environment fails.
        """
        step, horizon = arguments.whole_number("step", step, 0), self.task.spec.horizon
        seed, seconds = arguments.seed_number(seed), arguments.number("seconds", seconds, 0.0)
        if step >= horizon:
            raise UserError(f"step must be below {horizon}, the steps of an episode, not {step}")
        agent, state = self._controller.agent, self._controller.state
        if not can_believe(agent):
            return None
        chosen = Chosen(step, horizon_of(agent), BEST)
        lived = live(agent, self.task, state, seed=seed, seconds=seconds, moments=1, render=False, chosen=chosen)
        if step >= (played := len(lived.track.actions)):
            end = "ends" if lived.complete else f"was left after {seconds:g} seconds,"
            raise UserError(
                f"the episode with seed {seed} {end} at step {played}; choose a step below, or another seed"
            )
        return believe(agent, self.task, state, lived, newest_tracks(self._files, self.episodes, _RECORDED), seed)

    @property
    def planned_steps(self) -> int:
        """Steps that `believe` looks ahead, at most."""
        return horizon_of(self._controller.agent)

    def _replayed(self) -> Transitions:
        """The transitions in the replay, as they were at the end of the agent's trial. Raises `UserError`."""
        agent, schedule = self._controller.agent, self.settings.train
        like, _ = init_run(agent, self.task.spec, schedule, self.seed)
        with closing(Checkpoints(self._files.checkpoints)) as checkpoints:
            state = Learner(agent, self.seed).flush(checkpoints.restore(like, warn))
        added = None if self._trial is None else added_by(self.episodes, schedule, self._trial)
        return transitions_at(whole(state.replay), added)

    @property
    def weights_figure(self) -> Path:
        return self._files.figures / "horizon_weights.png"

    @property
    def prediction_figure(self) -> Path:
        return self._files.figures / "prediction.png"
