"""Progress of a run: a live line in a terminal, one plain line per episode elsewhere."""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, cast

import numpy as np
import rich.console
from rich.progress import BarColumn, Progress, TextColumn

from foretell.compilation import Waiting, waiting_listeners
from foretell.diagnostics.hints import lines, read_data
from foretell.errors import UserError, one_line
from foretell.output import STDERR, STDOUT
from foretell.runs.trees import value_at
from foretell.training.clock import is_complete, kind_of_episode, must_evaluate
from foretell.training.events import (
    Callback,
    EpisodeEnded,
    Event,
    InterruptRequested,
    Learned,
    LearningStarted,
    StepTaken,
    TrainingEnded,
    TrainingStarted,
    Warned,
)

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH = 80
"""Characters of the longest row of them."""
_RECENT = 20
"""Episodes of which the success rate is shown."""
_LOSSES = {"train_loss": "model loss", "critic_loss": "critic loss"}
_PROGRAMS = {"learn": "learning", "act": "acting", "evaluate": "evaluation"}
_SILENT = 4.0
"""Seconds of compilation after which an output that is no terminal says so."""


class Console(Callback):
    """Prints how the run is going: by episodes, or by rows of metrics if the agent learns within episodes."""

    def __init__(self, screen: rich.console.Console | None = None) -> None:
        """`screen`: where to print; by default stdout."""
        self._screen = screen or plain_console()
        self._bar: Progress | None = None
        self._returns: list[float] = []
        self._successes: dict[str, deque[int]] = {}
        self._loss = ""
        self._pace = Pace()
        self._drawn = 0.0
        self._shown: tuple[str, int, str] = ("starting", 0, "")
        self._said_compiling = False

    def on_training_start(self, event: TrainingStarted) -> None:
        counters, episodes = event.counters, event.episodes
        self._returns = [row["return"] for row in event.run.directory.read_episodes() if row["kind"] == "train"]
        waiting_listeners.append(self._wait)
        for note in event.run.task.notes:
            self._say(f"note: {note}")
        if counters.env_steps:
            number = counters.begun - int(episodes.number[0] >= 0)
            self._say(f"continuing at episode {number}, step {episodes.length[0]}")
        if self._screen.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, console=self._screen, transient=True)
            self._bar.start()
            self._bar.add_task(self._shown[0], total=event.run.task.spec.horizon, text="")

    def on_step(self, event: StepTaken) -> None:
        now = time.monotonic()
        if self._bar is None or now - self._drawn < 0.1:
            return
        self._drawn = now
        length, number = int(event.episodes.length[0]), ""
        text = f"step {length}  return {event.episodes.rewards[0, :length].sum():.1f}"
        if event.kind == "train":
            done, end = event.progress
            number = f" {done + (event.run.schedule.steps is None)}/{end}"
        self._show(f"{event.kind}{number}", length, f"{text}  {_speed(event)}{self._loss}{self._left(event)}")

    def on_learn_start(self, event: LearningStarted) -> None:
        if event.run.schedule.steps_per_learning is None or not event.counters.learned:
            self._show("learning", 0, f"from {event.counters.env_steps} steps{self._left(event)}")

    def on_learn_end(self, event: Learned) -> None:
        for name, label in _LOSSES.items():
            if name in event.row:
                self._loss = f"  {label} {event.row[name]:.2f}"
        self._pace.learned(time.monotonic(), _done(event))
        if event.run.schedule.steps_per_learning is None:
            return
        recent = self._returns[-10:]
        mean = f"  mean of last {len(recent)} returns {sum(recent) / len(recent):.1f}" if recent else ""
        done, end = event.progress
        self._say(f"{done}/{end}{mean}{self._loss}  {event.seconds:.1f} s{self._left(event)}")

    def on_episode_end(self, event: EpisodeEnded) -> None:
        row, schedule, kind = event.row, event.run.schedule, event.row["kind"]
        if kind == "train":
            self._returns.append(row["return"])
        if row.get("success", "") != "":
            self._successes.setdefault(kind, deque(maxlen=_RECENT)).append(int(row["success"]))
        if schedule.steps_per_learning is not None and kind != "eval":
            return
        name = kind if kind != "train" else f"trial {event.counters.trials}/{schedule.trials}"
        best = f"  best {max(self._returns):7.1f}" if kind == "train" else ""  # of the training episodes
        self._say(
            f"{name:12} return {row['return']:8.1f}{best}  {row['length']:4d} steps"
            f"{self._success_rate(kind)}{'  ' + _speed(event) if kind != 'random' else ''}"
            f"{self._loss if kind == 'train' else ''}  {row['wall_seconds']:.1f} s{self._left(event)}"
        )

    def on_warning(self, event: Warned) -> None:
        self._say(f"warning: {one_line(event.text)}")

    def on_interrupt(self, event: InterruptRequested) -> None:
        self._say("stopping once everything can be saved; Ctrl-C again stops at once")

    def on_training_end(self, event: TrainingEnded) -> None:
        if self._wait in waiting_listeners:
            waiting_listeners.remove(self._wait)
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if event.reason is not None:
            self._say(f"ended early: {event.reason}")
        if (_is_done(event) or event.reason is not None) and len(self._returns) > 1:
            self._screen.print(f"returns      {sparkline(self._returns)}")
            self._hint(event)

    def _wait(self, waiting: Waiting) -> None:
        """Say that the compiler is waited for: in the live line, or once if it takes long."""
        what = " and ".join(_PROGRAMS.get(name, name) for name in waiting.names)
        if self._bar is not None:
            self._draw(*(("compiling", 0, f"{what}  {waiting.seconds:.0f} s") if what else self._shown))
        elif what and waiting.seconds >= _SILENT and not self._said_compiling:
            self._said_compiling = True
            self._say(f"compiling the programs of {what}, {waiting.seconds:.0f} s so far")

    def _hint(self, event: TrainingEnded) -> None:
        """Say what the data of the run say may be wrong, unless they cannot be read."""
        run = event.run
        learner = value_at(run.notes, "settings.learner") or {}
        with suppress(UserError):
            for line in lines(read_data(run.directory, run.task.spec.obs_names, learner)):
                self._say(line)

    def _success_rate(self, kind: str) -> str:
        """Of the latest episodes of this kind, if their environment says whether they succeeded."""
        recent = self._successes.get(kind, ())
        return f"  success {sum(recent)}/{len(recent)}" if recent else ""

    def _say(self, text: str) -> None:
        self._screen.print(text, soft_wrap=True)

    def _show(self, description: str, completed: int, text: str) -> None:
        self._shown = description, completed, text
        self._draw(*self._shown)

    def _draw(self, description: str, completed: int, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=description, completed=completed, text=text)

    def _left(self, event: Event) -> str:
        left = None if _is_done(event) else self._pace.left(time.monotonic(), _done(event), event.progress[1])
        return f"  ~{duration(left)} left" if left is not None else ""


def warn(text: str) -> None:
    """Say on standard error what the user should know."""
    plain_console(stderr=True).print(f"warning: {one_line(text)}", soft_wrap=True)


class Pace:
    """How long a run will still take, estimated from its pace since it first went on after learning."""

    def __init__(self) -> None:
        self._start: tuple[float, float | int] | None = None

    def learned(self, now: float, done: float | int) -> None:
        """The clock starts with the last learning before the run goes on: those waited for the compiler."""
        if self._start is None or done <= self._start[1]:
            self._start = now, done

    def left(self, now: float, done: float | int, end: int) -> float | None:
        """Seconds until `end`; None while nothing can be said."""
        if self._start is None or done <= self._start[1]:
            return None
        start, first = self._start
        return (end - done) * (now - start) / (done - first)


def plain_console(*, stderr: bool = False) -> rich.console.Console:
    """A console that prints what it is given, square brackets and all, and whose output may fail."""
    file = cast(IO[str], STDERR if stderr else STDOUT)
    return rich.console.Console(file=file, highlight=False, markup=False, emoji=False)


def sparkline(values: Sequence[float]) -> str:
    """The values as one row of block characters, lowest to highest; of many, means of equal parts of them."""
    parts = np.array_split(values, min(len(values), _WIDTH))
    values = [float(part.mean()) for part in parts]
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(_BLOCKS[1 + round((len(_BLOCKS) - 2) * (v - low) / span)] for v in values)


def _speed(event: Event) -> str:
    """Seconds per environment step since the last row of metrics."""
    return f"{1e3 * event.step_seconds:.1f} ms/step"


def _is_done(event: Event) -> bool:
    """Whether the run is at its end, evaluation included."""
    schedule, counters = event.run.schedule, event.counters
    return is_complete(schedule, counters) and not must_evaluate(schedule, counters)


def _done(event: Event) -> float | int:
    """How far the run is, in the unit of its `progress`; trials under way count by their steps."""
    schedule, (done, _) = event.run.schedule, event.progress
    if schedule.steps is not None or kind_of_episode(schedule, event.counters) in ("random", "warmup"):
        return done
    return done + event.counters.under_way_steps / event.run.task.spec.horizon


def duration(seconds: float) -> str:
    """A time as a person says it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
