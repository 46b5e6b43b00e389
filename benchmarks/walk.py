"""A systematic walk of bad input: every command, every function and every setting with every kind of value.

`python benchmarks/walk.py` prints what was given and what came of it, and every fault: a traceback, a message that is
no sentence, a refusal after something was written, an end of the process. `--part settings` walks one part, `--only
TEXT` the cases whose name contains a text, `--every N` each Nth case. Commands and functions end where they would begin
to compute. `--part runs` trains with every setting that is accepted, many of them in a run (`walked_runs.py`), `--part
extremes` with the largest numbers and with texts, one in a run.

The cases are made from the parser, the signatures and the classes of settings, so that new ones are walked without
being listed. All run in forked processes of limited memory; one that ends or exceeds its time is replaced.
"""

import argparse
import importlib
import os
import pkgutil
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from functools import partial
from itertools import chain
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer
from typing import Any

import tiny_runs
import walked
import walked_runs
import walked_settings
from walked import Case, Fault, Found

PARTS: dict[str, Callable[[], Iterator[Case]]] = {
    "commands": walked.commands,
    "functions": walked.functions,
    "settings": walked_settings.settings,
}
RUNS = {"runs": False, "extremes": True}
"""Further parts, whose cases depend on what came of others, and whether they are of values that are tried alone."""
GIGABYTES = 10
"""Of address space that a case may use."""
_SWEEP = """experiments:
  pets: {preset: pets/default, set: {task.env: Pendulum-v1}, vary: {planner.horizon: [2, 3]}}
"""


class TimeUp(BaseException):
    """A case has run long enough."""


def walk(cases: Sequence[Case], template: Path, report: Callable[[Found], None]) -> None:
    """Run cases in processes, each in a folder like `template`."""
    at, context = 0, get_context("fork")
    while at < len(cases):
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(cases[at:], template, send))
        process.start()
        send.close()
        try:
            while True:
                report(receive.recv())
                at += 1
        except EOFError:
            process.join()
        if at < len(cases):
            slow = process.exitcode == _HANGS
            report(Found(cases[at].name, "slow" if slow else f"the process ended with {process.exitcode}", not slow))
            at += 1


_HANGS = 77
"""The exit code of a process whose case cannot be interrupted."""


def _work(cases: Sequence[Case], template: Path, send: Connection) -> None:
    walked.shorten()
    limit = GIGABYTES * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.environ["COLUMNS"] = "100"
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(devnull, stream)
    while cases:
        cases = _in_folder(cases, template, send.send)
    os._exit(0)


def _in_folder(cases: Sequence[Case], template: Path, report: Callable[[Found], None]) -> Sequence[Case]:
    """Run cases in a new folder like `template` until one has changed its files; those that are left."""
    with tempfile.TemporaryDirectory() as place, chdir(place):
        shutil.copytree(template, place, dirs_exist_ok=True)
        fresh = walked.content()
        for i, case in enumerate(cases):
            report(attempt(case))
            if walked.content() != fresh:
                return cases[i + 1 :]
    return []


def attempt(case: Case) -> Found:
    """Run a case in the working directory."""
    try:
        with _limited(case.seconds):
            return Found(case.name, case.run())
    except walked.Reached:
        return Found(case.name, "accepted")
    except TimeUp:
        return Found(case.name, "slow")
    except Fault as fault:
        return Found(case.name, str(fault), True)
    except SystemExit as end:
        return Found(case.name, "accepted" if end.code == 0 else f"exit {end.code}", end.code != 0)
    except BaseException as error:
        return Found(case.name, f"{type(error).__name__}: {str(error)[:300]}{_place(error)}", True)


def _place(error: BaseException) -> str:
    """The last lines of Foretell's code on the way."""
    from traceback import extract_tb

    lines = [line for line in extract_tb(error.__traceback__) if "foretell" in line.filename]
    return "".join(f" < {Path(line.filename).name}:{line.lineno}" for line in lines[:-4:-1])


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeUp

    timer = Timer(5 * seconds, lambda: os._exit(_HANGS))  # wall time
    timer.daemon = True
    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


@contextmanager
def template(overrides: Sequence[Any] = (tiny_runs.PLANNED,)) -> Iterator[Path]:
    """A folder with what cases need: a finished run, a run to imitate, a folder, a file."""
    with tempfile.TemporaryDirectory() as place:
        process = get_context("fork").Process(target=_train, args=(Path(place), overrides))
        process.start()
        process.join()
        (Path(place) / "folder").mkdir()
        (Path(place) / "file.txt").write_text("mine\n")
        (Path(place) / "sweep.yaml").write_text(_SWEEP)
        yield Path(place)


def _train(place: Path, overrides: Sequence[Any]) -> None:
    import foretell

    foretell.train("pets/default", out=place / "run", overrides=[*overrides, {"train": {"trials": 2}}], quiet=True)
    foretell.train("kills/planner", out=place / "planner", overrides={"train": {"trials": 2}}, quiet=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[*PARTS, *RUNS], nargs="+", default=[*PARTS, *RUNS])
    parser.add_argument("--only", default="", help="text in the names of cases")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth case (default 1)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="leave out the N cases before")
    args = parser.parse_args()
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    faults = 0
    with tiny_runs.staged_presets():
        _prepare()
        with template() as folder:
            for part in args.part:
                chosen = slice(args.first, None, args.every)
                faults += (_walk_runs if part in RUNS else _walk_part)(part, args.only, chosen, folder)
    sys.exit(min(faults, 1))


def _prepare() -> None:
    """Import everything, since a case that is stopped while it imports would be the fault of those after it."""
    import foretell

    tiny_runs.prepare()
    for module in pkgutil.walk_packages(foretell.__path__, "foretell."):
        if module.name not in ("foretell.__main__", "foretell.cli.attached", "foretell.tasks.bullet"):
            importlib.import_module(module.name)
    for name in ("scipy.stats", "scipy.io", "matplotlib.figure", "rich.progress"):
        importlib.import_module(name)


class Report:
    """Prints faults, two of a kind, and counts what came of cases."""

    def __init__(self, part: str, every: int = 250) -> None:
        """Print the counts after so many cases each time."""
        self.counts, self._seen, self._part = Counter[str](), Counter[str](), part
        self._start, self._used, self._every = time.monotonic(), _processor_seconds(), every

    def __call__(self, found: Found) -> None:
        self.counts["FAULT" if found.fault else found.outcome.partition(" ")[0]] += 1
        kind = re.sub(r"'[^']*'|\S*\d\S*", "_", found.outcome)[:60]
        self._seen[kind] += 1
        if found.fault and self._seen[kind] < 3:
            print(f"FAULT {found.case}\n      {found.outcome}", flush=True)
        elif found.outcome in ("slow", "memory"):
            print(f"{found.outcome} {found.case}", flush=True)
        if not sum(self.counts.values()) % self._every:
            print(self, flush=True)

    def __str__(self) -> str:
        figures = ", ".join(f"{count} {name}" for name, count in self.counts.most_common())
        seconds, used = time.monotonic() - self._start, _processor_seconds() - self._used
        done = f"{self._part}: {sum(self.counts.values())} cases"
        return f"{done} in {seconds:.0f} s, {used:.0f} s of processor time: {figures}"


def _processor_seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _walk_part(part: str, only: str, chosen: slice, folder: Path) -> int:
    cases = [case for case in PARTS[part]() if only in case.name][chosen]
    report = Report(part)
    print(f"{part}: {len(cases)} cases", flush=True)
    walk(cases, folder, report)
    print(report, flush=True)
    return report.counts["FAULT"]


def _walk_runs(part: str, only: str, chosen: slice, folder: Path) -> int:
    changes = [change for change in walked_runs.changes() if change.alone == RUNS[part] and only in change.name][chosen]
    groups = walked_runs.packed(changes)
    print(f"{part}: {len(changes)} values of settings in {len(groups)} runs", flush=True)
    report = Report(part, 20)

    def run(tried: Sequence[walked_runs.Group]) -> list[Found]:
        found: list[Found] = []
        cases = [
            Case(walked_runs.name_of(group), partial(walked_runs.trained, group), walked_runs.SECONDS[RUNS[part]])
            for group in tried
        ]
        walk(cases, folder, lambda one: (found.append(one), report(one))[0])
        return found

    counts = Counter[str]()
    for one in chain.from_iterable(walked_runs.tested(groups, run)):
        counts["FAULT" if one.found.fault else one.found.outcome] += len(one.group)
    print(report, flush=True)
    print(f"{part}: {len(changes)} values: {', '.join(f'{n} {name}' for name, n in counts.most_common())}", flush=True)
    return counts["FAULT"]


if __name__ == "__main__":
    main()
