"""Progress of a study: a live table in a terminal, a plain line for each event elsewhere."""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from statistics import fmean
from typing import Any, Literal, NamedTuple

import rich.console
from rich.live import Live
from rich.table import Table

from foretell.agents import Schedule
from foretell.callbacks.console import duration, plain_console
from foretell.experiments.directory import Member, episodes_of
from foretell.experiments.executor import Ended, Started
from foretell.runs.directory import RunDirectory

State = Literal["waiting", "running", "finished", "failed", "stopped"]
_EVERY = 2.0
"""Seconds between two updates of the table."""


class Status(NamedTuple):
    """The progress of a run."""

    member: Member
    state: State
    share: float = 0.0
    """Completed share of the run, from 0 to 1."""
    seconds: float = 0.0
    """Wall time so far."""
    last: float | None = None
    """The latest return: of an evaluation episode, or of a trial if there are none."""
    note: str = ""
    """The error of a failed run, or the earlier stage that is being trained."""


def status_of(member: Member, state: State, note: str = "") -> Status:
    """The progress of a run according to its files."""
    rows = episodes_of(member)
    if not rows:
        return Status(member, state, float(state == "finished"), note=note or _stage(member))
    kinds = {row["kind"] for row in rows}
    returns = [row["return"] for row in rows if row["kind"] == ("eval" if "eval" in kinds else "train")]
    done = 1.0 if state == "finished" else share_done(member.arm.settings.train, rows)
    return Status(member, state, done, rows[-1]["wall_seconds"], returns[-1] if returns else None, note)


def share_done(schedule: Schedule, rows: Sequence[dict[str, Any]]) -> float:
    """The share of a run that these episodes complete, from 0 to 1."""
    if schedule.steps is not None:
        return min(1.0, max(row["env_steps"] for row in rows) / schedule.steps)
    return min(1.0, sum(row["kind"] == "train" for row in rows) / schedule.trials)


def time_left(statuses: Iterable[Status], jobs: int) -> float | None:
    """Estimated seconds until all runs are finished, `jobs` at a time; None until a run has made progress.

    A variant without progress is assumed to take the mean time of the other variants.
    """
    statuses = list(statuses)
    paces: dict[str, list[float]] = {}
    for status in statuses:
        if status.share and status.seconds:
            paces.setdefault(status.member.arm.label, []).append(status.seconds / status.share)
    if not paces:
        return None
    usual = fmean(fmean(each) for each in paces.values())
    remaining = [status for status in statuses if status.state in ("waiting", "running", "stopped")]
    seconds = ((1 - one.share) * fmean(paces.get(one.member.arm.label, [usual])) for one in remaining)
    return sum(seconds) / max(1, min(jobs, len(remaining)))


class Monitor(AbstractContextManager):
    """Shows the progress of a study."""

    def __init__(
        self, members: Sequence[Member], finished: Iterable[Member], jobs: int, screen: rich.console.Console | None
    ) -> None:
        """Make a monitor.

        Args:
            members: all runs.
            finished: the runs that are finished already.
            jobs: number of simultaneous runs.
            screen: where to print; None prints nothing.
        """
        done = {member.path for member in finished}
        self._states: dict[Any, tuple[State, str]] = {
            member.path: ("finished" if member.path in done else "waiting", "") for member in members
        }
        self._members, self._jobs, self._screen = members, jobs, screen
        self._live: Live | None = None
        self._looked = 0.0
        self._statuses: dict[Any, Status] = {}

    def __enter__(self) -> "Monitor":
        for member in self._members:
            self._look(member)
        if self._screen is not None and self._screen.is_terminal:
            self._live = Live(self._table(), console=self._screen, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    @property
    def failed(self) -> list[Status]:
        return [self._statuses[member.path] for member in self._members if self._state(member) == "failed"]

    @property
    def unfinished(self) -> list[Status]:
        return [self._statuses[member.path] for member in self._members if self._state(member) != "finished"]

    def started(self, event: Started) -> None:
        """A run has started."""
        again = " again" if (event.member.path / "config.yaml").is_file() else ""
        self._set(event.member, "running")
        where = ", ".join(map(str, event.cores))
        place = f" on core{'s' if len(event.cores) > 1 else ''} {where}" if where else ""
        self._say(f"started{again:6} {event.member.name}{place}")

    def ended(self, event: Ended) -> None:
        """A run has ended."""
        state: State = "finished" if event.code == 0 else "stopped" if event.is_stopped else "failed"
        self._set(event.member, state, event.error)
        status = self._statuses[event.member.path]
        last = "" if status.last is None else f"  last return {status.last:.1f}"
        text = f": {event.error}" if event.error else f"{last}  {duration(status.seconds)}"
        self._say(f"{state:13} {event.member.name}{text}{self._summary()}")

    def tick(self) -> None:
        """Update the table if enough time has passed."""
        if self._live is None or time.monotonic() - self._looked < _EVERY:
            return
        self._looked = time.monotonic()
        for member in self._members:
            if self._state(member) == "running":
                self._look(member)
        self._live.update(self._table(), refresh=True)

    def say(self, text: str) -> None:
        """Print a line."""
        if self._screen is not None:
            self._screen.print(text, soft_wrap=True)

    def _say(self, text: str) -> None:
        """Print a line if no table is shown."""
        if self._live is None:
            self.say(text)

    def _state(self, member: Member) -> State:
        return self._states[member.path][0]

    def _set(self, member: Member, state: State, note: str = "") -> None:
        self._states[member.path] = state, note
        self._look(member)
        self._looked = 0.0

    def _look(self, member: Member) -> None:
        self._statuses[member.path] = status_of(member, *self._states[member.path])

    def _summary(self) -> str:
        done = sum(state == "finished" for state, _ in self._states.values())
        left = time_left(self._statuses.values(), self._jobs) if done < len(self._states) else None
        return f"  ({done} of {len(self._states)} runs{'' if left is None else f', ~{duration(left)} left'})"

    def _table(self) -> Table:
        table = Table(title=f"study{self._summary()}", title_justify="left", box=None, pad_edge=False)
        for name, justify in (("variant", "left"), ("finished", "right"), ("last return", "right"), ("now", "left")):
            table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
        groups: dict[str, list[Status]] = {}
        for member in self._members:
            groups.setdefault(member.arm.label, []).append(self._statuses[member.path])
        for label, statuses in groups.items():
            table.add_row(label, *_cells(statuses))
        return table


def _cells(statuses: Sequence[Status]) -> tuple[str, str, str]:
    """The cells of the table for the runs of a variant."""
    done = sum(status.state == "finished" for status in statuses)
    returns = [status.last for status in statuses if status.last is not None]
    running = [_now(status) for status in statuses if status.state in ("running", "stopped")]
    failed = [f"seed {status.member.seed} failed: {status.note}" for status in statuses if status.state == "failed"]
    mean = f"{fmean(returns):.1f}" if returns else ""
    return f"{done}/{len(statuses)}", mean, "; ".join([*running, *failed])


def _now(status: Status) -> str:
    if status.note:
        return f"seed {status.member.seed}: {status.note}"
    at = " stopped at" if status.state == "stopped" else ":"
    return f"seed {status.member.seed}{at} {100 * status.share:.0f} %"


def _stage(member: Member) -> str:
    """The earlier stage of a run that is being trained; '' if there is none."""
    folders = sorted(
        member.path.parent.glob(f"{member.path.name}-*/config.yaml"), key=lambda path: path.stat().st_mtime
    )
    if RunDirectory(member.path).config.is_file() or not folders:
        return ""
    return f"stage {folders[-1].parent.name.partition('-')[2]}"


def console(*, quiet: bool) -> rich.console.Console | None:
    """The console to which a study prints; None if it is quiet."""
    return None if quiet else plain_console()
