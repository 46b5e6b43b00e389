"""Progress of a run: a live line in a terminal, one plain line per episode elsewhere; and TensorBoard events."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from tensorboardX import SummaryWriter

from foretell.training.loop import Loop
from foretell.training.observer import Observer

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH = 80
"""Characters of the longest row of them."""


class Display(Observer):
    """Tells a person how the run is going: by episodes, or by lines of metrics if it learns within episodes."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or plain_console()
        self._bar: Progress | None = None
        self._returns: list[float] = []
        self._loss = ""
        self._pace_so_far = Pace()
        self._drawn = 0.0

    def started(self, loop: Loop) -> None:
        counters, length = loop.state.counters, loop.episodes.length[0]
        self._returns = [row["return"] for row in loop.directory.read_episodes() if row["kind"] == "train"]
        if counters.env_steps:
            self._say(f"continuing at episode {counters.begun - (loop.episodes.number[0] >= 0)}, step {length}")
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._bar.add_task("compiling", total=loop.task.spec.horizon, text="")

    def stepped(self, loop: Loop) -> None:
        now = time.monotonic()
        if self._bar is None or now - self._drawn < 0.1:
            return
        self._drawn = now
        length, number = int(loop.episodes.length[0]), ""
        text = f"step {length}  return {loop.episodes.rewards[0, :length].sum():.1f}"
        if loop.kind == "train":
            done, end = loop.progress
            number = f" {done + (loop.schedule.steps is None)}/{end}"
        self._show(f"{loop.kind}{number}", length, f"{text}  {self._pace(loop)}{self._loss}{self._left(loop)}")

    def learning(self, loop: Loop) -> None:
        if loop.schedule.steps_per_learning is None or not loop.state.counters.learned:
            self._show("learning", 0, f"from {loop.state.counters.env_steps} steps{self._left(loop)}")

    def learned(self, loop: Loop, row: dict[str, Any]) -> None:
        for name, label in (("train_loss", "model loss"), ("critic_loss", "critic loss")):
            if name in row:
                self._loss = f"  {label} {row[name]:.2f}"
        self._pace_so_far.learned(time.monotonic(), _done(loop))
        if loop.schedule.steps_per_learning is None:
            return
        recent = self._returns[-10:]
        mean = f"  mean of last {len(recent)} returns {sum(recent) / len(recent):.1f}" if recent else ""
        done, end = loop.progress
        self._say(f"{done}/{end}{mean}{self._loss}  {loop.seconds:.1f} s{self._left(loop)}")

    def finished_episode(self, loop: Loop, row: dict[str, Any]) -> None:
        if row["kind"] == "train":
            self._returns.append(row["return"])
        if loop.schedule.steps_per_learning is not None and row["kind"] != "eval":
            return
        name = row["kind"] if row["kind"] != "train" else f"trial {loop.state.counters.trials}/{loop.schedule.trials}"
        best = f"  best {max(self._returns):7.1f}" if self._returns else ""
        self._say(
            f"{name:12} return {row['return']:8.1f}{best}  {row['length']:4d} steps"
            f"{'  ' + self._pace(loop) if row['kind'] != 'random' else ''}"
            f"{self._loss if row['kind'] == 'train' else ''}  {row['wall_seconds']:.1f} s{self._left(loop)}"
        )

    def warned(self, text: str) -> None:
        self._say(f"warning: {text}")

    def interrupted(self, loop: Loop) -> None:
        self._say("stopping once everything can be saved; Ctrl-C again stops at once")

    def stopped(self, loop: Loop) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if loop.done and len(self._returns) > 1:
            self._console.print(f"returns      {sparkline(self._returns)}")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _show(self, description: str, completed: int, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=description, completed=completed, text=text)

    def _pace(self, loop: Loop) -> str:
        """Seconds per control step since the last learning."""
        seconds = loop.phase_seconds["plan"] + loop.phase_seconds["step"]
        return f"{1e3 * seconds / max(loop.steps_since_log, 1):.1f} ms/step"

    def _left(self, loop: Loop) -> str:
        left = None if loop.done else self._pace_so_far.left(time.monotonic(), _done(loop), loop.progress[1])
        return f"  ~{_duration(left)} left" if left is not None else ""


class Pace:
    """How long a run will still take, judged by its pace since it first went on after learning."""

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


class TensorBoard(Observer):
    """Writes returns and metrics as TensorBoard events over environment steps."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: SummaryWriter | None = None

    def started(self, loop: Loop) -> None:
        steps = int(loop.state.counters.env_steps)
        self._writer = SummaryWriter(str(self._directory), purge_step=steps + 1 if steps else None)

    def learned(self, loop: Loop, row: dict[str, Any]) -> None:
        for name, value in row.items():
            self._write(f"learn/{name}", value, row["env_steps"])

    def finished_episode(self, loop: Loop, row: dict[str, Any]) -> None:
        self._write(f"{row['kind']}/return", row["return"], row["env_steps"])
        self._write(f"{row['kind']}/length", row["length"], row["env_steps"])

    def stopped(self, loop: Loop) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, name: str, value: float | int, step: float | int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, int(step))


def plain_console(*, stderr: bool = False) -> Console:
    """A console that prints what it is given, square brackets and all."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def sparkline(values: list[float]) -> str:
    """The values as one row of block characters, lowest to highest; of many, means of equal parts of them."""
    parts = np.array_split(values, min(len(values), _WIDTH))
    values = [float(part.mean()) for part in parts]
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(_BLOCKS[1 + round((len(_BLOCKS) - 2) * (v - low) / span)] for v in values)


def _done(loop: Loop) -> float | int:
    """How far the run is, in the unit of its `progress`; trials under way count by their steps."""
    done, _ = loop.progress
    if loop.schedule.steps is not None or loop.kind in ("random", "warmup"):
        return done
    return done + float(loop.state.episodes.length.sum()) / loop.task.spec.horizon


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
