"""The training loop: it reads the clock and does what that says."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial

import numpy as np

from foretell.agents.base import Carry, Extras, Metrics, PolicyParams, State
from foretell.compilation import traced_once
from foretell.envs import Episodes
from foretell.training import clock
from foretell.training.clock import Act, Activity, Counters, Evaluate, Kind, Learn, Save, Stop
from foretell.training.events import Callback, RunInfo
from foretell.training.interrupt import Interrupted, Interruption, interrupt_calls, place_in
from foretell.training.places import Here, Places
from foretell.training.programs import Part, whole
from foretell.training.reporter import Reporter
from foretell.training.resumption import resumed
from foretell.training.saver import Saver
from foretell.training.state import RunState, init_run
from foretell.training.stopwatch import Stopwatch


class Loop:
    """Drives one agent through one run. The run's whole state is `state`; everything else here can be made again."""

    def __init__(self, run: RunInfo, callbacks: Sequence[Callback] = (), places: Places | None = None) -> None:
        """Prepare a run, whose parts work at these places: in this process unless others are given."""
        places = places or Here()
        self.run_info, self._schedule, self._watch = run, run.schedule, Stopwatch()
        self.state, self._newest = init_run(run.agent, run.task.spec, run.schedule, run.seed)
        self._saver = Saver(run)
        self._interactor = places.interactor(run, self._watch)
        self._learner, self._evaluator = places.learner(run), places.evaluator(run)
        self._report = Reporter(run, callbacks, self._watch)
        self._interruption = Interruption(lambda: self._report.interrupt_requested(self.counters))
        self._time_limit = run.task.spec.horizon if run.schedule.time_limit_terminates else None

    @property
    def counters(self) -> Counters:
        return self.state.counters

    @property
    def _policy(self) -> PolicyParams:
        """The one that acts."""
        return self.state.lagging[0] if self.state.lagging else self._newest

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return isinstance(self._next(), Stop)

    @property
    def has_checkpoint(self) -> bool:
        """Whether the run directory holds any, damaged ones included."""
        return self._saver.has_any

    def start_with(self, agent: State) -> None:
        """Begin with what another run has learned."""
        self._take_over(self.state._replace(agent=agent))
        self.state = self.state.lagged(self._newest, all=True)

    def restore(self) -> None:
        """Continue from the newest readable checkpoint, or from the start if none was finished. Raises `UserError`."""
        if self._saver.has_any:
            self._take_over(self._saver.restore(self.state, lambda text: self._report.warned(self.counters, text)))
            self._watch.resume(self.counters.seconds)

    def run(self) -> None:
        """Run to the end of the schedule. Raises `Interrupted` after Ctrl-C, `UserError` if the run cannot go on."""
        run, state = self.run_info, self.state
        self._learner.compile(state)
        self._interactor.compile(self._policy, state.carry, state.episodes)
        with ExitStack() as stack:
            stack.callback(self._saver.close)
            stack.push(lambda failure, *_: self._report.training_ended(self.counters, failed=failure is not None))
            for part in (self._learner, self._interactor, self._evaluator):
                part.start(state)
                stack.enter_context(closing(part))
            self._evaluator.compile(self._policy, state.carry)
            stack.enter_context(interrupt_calls(self._interruption.ask))
            self._report.training_started(state)
            warn = partial(self._report.warned, self.counters)
            self.state = resumed(run, state, self._interactor, self._saver, warn)
            self._saver.prepare(self.state)
            while not isinstance(activity := self._next(), Stop):
                self._do(activity)
                self._check_interrupt()
            self.state = whole(self._learner.settled(self.state))

    def _next(self) -> Activity:
        return clock.next_activity(
            self._schedule,
            self.counters,
            pretraining=self.run_info.agent.pretraining,
            overdue=self._watch.since_saved > self._schedule.checkpoint_seconds,
            stopping=self._report.stopping is not None,
        )

    def _do(self, activity: Activity) -> None:
        match activity:
            case Save():
                return self._save()
            case Evaluate():
                self._evaluate()
            case Learn():
                self._learn()
            case Act():
                self._act(activity)
        return self._count(unsaved=1)

    def _act(self, activity: Act) -> None:
        """One step in every environment, in a new episode where none has begun."""
        kind, episodes, horizon = activity.kind, self.state.episodes, self.run_info.task.spec.horizon
        new = {row: self.counters.begun + i for i, row in enumerate(np.flatnonzero(episodes.number < 0).tolist())}
        self._count(begun=len(new), under_way=len(new))
        limit, meanwhile = min(horizon, activity.limit or horizon), self._finish_learning
        stepped, carry, extras = self._interactor.step(
            self._policy, self.state.carry, episodes, new, kind, limit, meanwhile
        )
        self.state = self.state._replace(carry=carry)
        episodes.over[:] |= activity.cut
        self._collect(stepped)
        self._report.step_taken(self.state, kind, episodes, self._policy, self.state.carry, extras)
        waits = self._schedule.steps_per_learning is None  # until all episodes are over
        for row in [] if waits and episodes.running else np.flatnonzero(episodes.over).tolist():
            self._count(under_way=-1, under_way_steps=-int(episodes.length[row]))
            self._close(episodes, row, kind, extras)

    def _collect(self, stepped: list[int]) -> None:
        """Count and keep the latest step of these environments."""
        if self.state.collected.is_full:
            self.state = self._learner.flush(self.state)
        kept = [row for row in stepped if row < clock.learned_environments(self._schedule, self.counters)]
        self.state.collected.take(self.state.episodes, kept, self._time_limit)
        self._watch.steps += len(stepped)
        self._count(env_steps=len(stepped), new_steps=len(stepped), under_way_steps=len(stepped))

    def _learn(self) -> None:
        before = self.counters
        self._report.learning_started(before)
        with self._watch.phase("fit"):
            state, newest, metrics = self._learner.learn(self.state)
            warming = before.learned < self.run_info.agent.pretraining
            self.state, self._newest = state.lagged(newest if warming else self._newest, all=warming), newest
        self._count(learned=1, unlogged=1, new_steps=-before.new_steps)
        if clock.must_log(self._schedule, before, self.run_info.agent.pretraining):
            self._log(metrics)
        else:
            self.state = self.state._replace(metrics=metrics)

    def _finish_learning(self) -> None:
        if not self._schedule.lag:
            self._watch.move(self._learner.wait(), "plan", "fit")

    def _log(self, metrics: Metrics | Part) -> None:
        """A row of means over the calls of `learn` since the last one. Raises `UserError` if learning diverges."""
        with self._watch.phase("fit"):
            means = self._learner.means(metrics, self.counters.unlogged)
        self._count(logged=1, unlogged=-self.counters.unlogged)
        self.state = self.state.without_metrics()
        self._report.learned(self.state, means)

    def _evaluate(self) -> None:
        """Play the next evaluation episodes to their end. If interrupted they are played again, and go the same way."""

        def after_step(episodes: Episodes, carry: Carry, extras: Extras) -> None:
            self._report.step_taken(self.state, "eval", episodes, self._newest, carry, extras)
            self._check_interrupt()

        numbers = clock.evaluation_numbers(self._schedule, self.counters, self._evaluator.width)
        play, meanwhile = self._evaluator.play, self._finish_learning
        episodes, extras = play(self._newest, self.state.carry, numbers, meanwhile, after_step)
        self._count(begun=len(numbers))
        for row in range(len(numbers)):
            self._close(episodes, row, "eval", extras)
        self.state = self.state._replace(counters=clock.after_evaluation(self._schedule, self.counters))

    def _close(self, episodes: Episodes, row: int, kind: Kind, extras: Extras) -> None:
        """Count and report a finished episode, and clear it."""
        self._count(episodes=1, **clock.COUNTED.get(kind, {}))
        self._report.episode_ended(self.state, kind, episodes, row, extras)
        episodes.clear(row)

    def _save(self) -> None:
        state = self._learner.settled(self.state)
        self.state = self._saver.save(state, self._watch.saved(), self._interactor.physics(state.episodes))

    def _check_interrupt(self) -> None:
        """If the user asked to stop, save and raise `Interrupted`."""
        if self._interruption.asked:
            self._save()
            raise Interrupted(place_in(self.state.episodes, self.counters.begun), self.run_info.directory.path)

    def _take_over(self, state: RunState) -> None:
        self.state, self._newest = state, traced_once(self.run_info.agent.policy)(state.agent)

    def _count(self, **increments: int) -> None:
        self.state = self.state._replace(counters=self.state.counters.plus(**increments))
