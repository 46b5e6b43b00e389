"""Executes the runs of a study: each is a command in a separate process, and several run at a time.

`run_one` executes one run. An executor, such as `run_locally`, calls it for all runs, and can be replaced.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import NamedTuple

from foretell.errors import UserError, brief
from foretell.experiments.directory import Member
from foretell.experiments.process import STOPPED, Cores, again, run_process
from foretell.runs.directory import writing

_BYTES = 1.5e9
"""Approximate memory (bytes) that a run needs besides its replay."""


class Started(NamedTuple):
    """A run has started or was resumed."""

    member: Member
    cores: Cores


class Ended(NamedTuple):
    """A run has ended."""

    member: Member
    code: int
    """Exit code of its command: 0 if the run is finished, 130 if it was asked to stop."""
    error: str = ""
    """The last line that it printed, if it failed; of a finished run, why it was stopped early."""
    seconds: float = 0.0
    """Wall time of its process."""

    @property
    def is_stopped(self) -> bool:
        """Whether it was asked to stop, and can be resumed."""
        return self.code == STOPPED


RunOne = Callable[[Member, Cores, Event], Ended]
"""Executes one run on these cores until it is finished, or until the event asks it to stop."""
Executor = Callable[[Sequence[Member], Event], Iterator[Started | Ended | None]]
"""Executes all runs, and yields an event whenever one starts or ends; also None at regular intervals."""


def run_locally(
    members: Sequence[Member], stop: Event, *, slots: Sequence[Cores], run: RunOne | None = None, tick: float = 0.5
) -> Iterator[Started | Ended | None]:
    """Execute all runs on this machine.

    Args:
        members: the runs.
        stop: asks all of them to stop.
        slots: for each run that is executed at a time, its cores.
        run: executes one run; by default `run_one`.
        tick: seconds after which None is yielded if nothing has happened.
    """
    waiting, events = deque(members), Queue[Started | Ended]()

    def work(cores: Cores) -> None:
        while waiting and not stop.is_set():
            member = waiting.popleft()
            events.put(Started(member, cores))
            try:
                events.put((run or run_one)(member, cores, stop))
            except Exception as error:  # for example of the disk; the other runs continue
                events.put(Ended(member, 1, str(error) if isinstance(error, UserError) else brief(error)))

    threads = [Thread(target=work, args=(cores,), daemon=True) for cores in slots]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or not events.empty():
        try:
            yield events.get(timeout=tick)
        except Empty:
            yield None


def run_one(member: Member, cores: Cores, stop: Event) -> Ended:
    """Train or resume one run in a separate process, which ends when this process ends."""
    with writing(member.log):
        code, error, seconds = run_process(command(member), member.log, cores, stop.is_set)
    return Ended(member, code, error, seconds)


def command(member: Member) -> list[str]:
    """The arguments of `foretell` that start or resume a run."""
    return again(member.path) or first_command(member)


def first_command(member: Member) -> list[str]:
    """The arguments of `foretell` that start a run."""
    arm = member.arm
    words = ["train", arm.preset, "--seed", str(member.seed), "--out", str(member.path)]
    words += ["--env", arm.env] if arm.env is not None else []
    return [*words, "--set", *arm.sets] if arm.sets else words


def divide(cores: Sequence[int], jobs: int) -> list[Cores]:
    """Divide the cores equally among `jobs` simultaneous runs; if there are fewer cores than runs, runs share cores."""
    share = len(cores) // jobs
    if share:
        return [tuple(cores[i * share : (i + 1) * share]) for i in range(jobs)]
    return [(cores[i % len(cores)],) for i in range(jobs)]


def automatic_jobs(members: Sequence[Member], cores: int, memory: float | None) -> int:
    """Number of simultaneous runs: one for each core, or fewer if memory (bytes) is short."""
    most = max((member.arm.bytes for member in members), default=0) + _BYTES
    fitting = cores if memory is None else int(memory // most)
    return max(1, min(cores, fitting, len(members)))


def available_cores() -> list[int]:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def available_memory() -> float | None:
    """Available memory in bytes; None if the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
