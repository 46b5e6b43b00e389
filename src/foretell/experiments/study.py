"""Runs a study from its plan to its summary; the same call continues an existing study."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Event

from foretell.errors import UserError, located
from foretell.experiments.directory import Member, StudyDirectory
from foretell.experiments.executor import (
    Ended,
    Executor,
    Started,
    automatic_jobs,
    available_cores,
    available_memory,
    command,
    divide,
    run_locally,
)
from foretell.experiments.plan import Plan, make_plan
from foretell.experiments.progress import Monitor, console
from foretell.experiments.summary import Summary, summarise, write_summary
from foretell.runs import arguments
from foretell.training.interrupt import interrupt_calls

_SUMMARY_SECONDS = 60.0
"""Minimum time (seconds) between two summaries while runs are executed."""
_LOCK_SECONDS = 60.0
"""Time (seconds) that a process waits for others that are about to write to the study."""


class StudyStopped(Exception):
    """The user asked to stop; every run is saved."""


class StudyFailed(Exception):
    """Some runs failed; the others are finished."""


def study(
    names: str | Sequence[str],
    *,
    out: str | Path,
    env: str | None = None,
    seeds: int | None = None,
    jobs: int | None = None,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    paper: bool = False,
    goal: float | None = None,
    quiet: bool = False,
    executor: Executor | None = None,
) -> Summary:
    """Train several presets with several seeds, each run in a separate process, and compare them.

    The same call continues a study that was stopped or killed, or in which runs failed; with more seeds it extends it.

    Args:
        names: presets, or one study: a name that `foretell studies` lists, or the path of a study file.
        out: the directory of the study.
        env: an environment for all of them.
        seeds: number of seeds of each variant, from 0; by default the number of the study file, or 5.
        jobs: number of simultaneous runs; None for one on each processor core, or fewer if memory is short.
        overrides: settings for all variants, as `key.path=value`.
        only: patterns of labels, such as `halfcheetah*`, that select variants; by default all.
        paper: run the study as published, at its full cost.
        goal: a return; the summary says when each run first reached it.
        quiet: print nothing.
        executor: executes the runs; by default on this machine, see `foretell.experiments.executor`.

    Raises:
        UserError: if an argument is invalid, before anything is written.
        StudyStopped: if the user interrupts it; every run is saved.
        StudyFailed: at the end, if runs failed; the others are finished.
    """
    listed, folder = arguments.texts("names", names), arguments.path("out", out)
    overrides, only = arguments.texts("overrides", overrides), arguments.texts("only", only)
    arguments.switch(paper=paper, quiet=quiet)
    env = arguments.optional_text("env", env)
    seeds, jobs = (
        None if value is None else arguments.whole_number(name, value)
        for name, value in (("seeds", seeds), ("jobs", jobs))
    )
    goal = None if goal is None else arguments.number("goal", goal)
    arguments.function("executor", executor)
    plan = make_plan(listed, env=env, seeds=seeds, overrides=overrides, only=only, paper=paper, goal=goal)
    return run_study(plan, folder, jobs=jobs, quiet=quiet, executor=executor)


def run_study(
    plan: Plan, out: Path, *, jobs: int | None = None, quiet: bool = False, executor: Executor | None = None
) -> Summary:
    """Execute the unfinished runs of a study, and write its summary.

    Args:
        plan: the plan of the study.
        out: the directory of the study, a new one or that of the same study.
        jobs: number of simultaneous runs; None for one on each processor core, or fewer if memory is short.
        quiet: print nothing.
        executor: executes the runs; by default on this machine.

    Raises:
        UserError: if the directory holds anything but this study, or if jobs is below 1.
        StudyStopped: if the user interrupts it.
        StudyFailed: at the end, if runs failed.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs must be auto or at least 1, not {jobs}")
    directory = StudyDirectory(out)
    directory.check(plan)
    with directory.lock():
        directory.write(plan)
        members = directory.members(plan)
        finished = [member for member in members if directory.is_finished(member)]
        left = [member for member in members if member not in finished]
        cores = available_cores()
        count = min(jobs or automatic_jobs(left, len(cores), available_memory()), max(1, len(left)))
        execute = partial(_executed, executor) if executor else partial(run_locally, slots=divide(cores, count))
        with Monitor(members, finished, count, console(quiet=quiet)) as monitor:
            stopped = _execute(left, directory, plan, execute, monitor)
        summary = summarise(directory, plan)
        write_summary(summary, directory)
        _conclude(monitor, stopped)
        return summary


def run_of_study(plan: Plan, out: Path, number: int, train: Callable[[list[str]], int]) -> int:
    """Execute one run of a study in this process; others may execute other runs at the same time.

    Args:
        plan: the plan of the study.
        out: the directory of the study, a new one or that of the same study.
        number: that of the run, from 0, seed by seed.
        train: executes a command of `foretell`, given by its words, and returns its exit code.

    Returns:
        The exit code: 0 if the run is finished.

    Raises:
        UserError: for a number that no run has, or if the directory holds anything but this study.
    """
    directory = StudyDirectory(out)
    members = directory.members(plan)
    member = members[arguments.whole_number("run", number, 0, len(members) - 1)]
    with directory.lock(_LOCK_SECONDS):
        directory.check(plan)
        directory.write(plan)
        if directory.is_finished(member):
            return 0
    start = time.monotonic()
    code = train(command(member))
    if code == 0:
        with directory.lock(_LOCK_SECONDS):
            directory.mark_finished(member, time.monotonic() - start)
    return code


def _executed(executor: Executor, members: Sequence[Member], stop: Event) -> Iterator[Started | Ended | None]:
    """What a user's executor reports; its failures name file and line. Raises `UserError`."""
    try:
        yield from executor(members, stop)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the executor failed ({located(error)})") from error


def _execute(
    members: Sequence[Member], directory: StudyDirectory, plan: Plan, execute: Executor, monitor: Monitor
) -> bool:
    """Execute runs until they are finished. Returns whether the user interrupted them."""
    stop, written = Event(), time.monotonic()

    def interrupt() -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        monitor.say("stopping as soon as every run is saved; press Ctrl-C again to stop immediately")

    with interrupt_calls(interrupt):
        for event in execute(members, stop):
            match event:
                case Started():
                    monitor.started(event)
                case Ended():
                    if event.code == 0:
                        directory.mark_finished(event.member, event.seconds)
                    monitor.ended(event)
                    if time.monotonic() - written > _SUMMARY_SECONDS:
                        write_summary(summarise(directory, plan), directory)
                        written = time.monotonic()
                case None:
                    monitor.tick()
    return stop.is_set()


def _conclude(monitor: Monitor, stopped: bool) -> None:
    """Raise `StudyStopped` or `StudyFailed` if runs are unfinished."""
    if stopped and monitor.unfinished:
        raise StudyStopped("stopped and saved")
    if failed := monitor.failed:
        member = failed[0].member
        raise StudyFailed(
            f"{len(failed)} run{'s' if len(failed) > 1 else ''} failed, the first of them {member.name}: "
            f"{failed[0].note} (its output is in {shlex.quote(str(member.log))})"
        )
