"""Training processes that are killed at random moments and resumed, compared with runs that nobody kills.

`python benchmarks/kills.py --kills 1000 --minutes 20 --out docs/results/kills` trains tiny runs of all agents, each in
a process of its own. Half of the processes are killed (SIGKILL) at a random moment of their time, the others up to 50
milliseconds after one of their checkpoints has begun to be written. A run is killed up to `--per-run` times and resumed
each time; then it is compared with a run of the same seed that was not killed. The script prints a table with a line
per agent; `<out>.csv` has a line per run. With `--continue` the runs in that file count: the script goes on from them,
and the agents with the fewest kills come first.

Processes are forked from this one, which has imported Foretell but does not use JAX, so a start takes a fraction of a
second once the compilation cache holds their programs.
"""

import argparse
import csv
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tiny_runs import AGENTS, Work, prepare, staged_presets, trains

WRITE_SECONDS = 0.05
"""Longest time from the start of a checkpoint to the kill."""
SAVES = 4
"""Checkpoints of a process among which one is chosen."""
UNFINISHED = ("*.orbax-checkpoint-tmp*", "*.tmp", "*.tmp.npz")
"""Names of what is being written."""


# Processes.


class Moment(NamedTuple):
    """When a process is killed."""

    saves: int
    """How many checkpoints it begins before; 0: the time counts from its start."""
    seconds: float
    """From then."""


class Ending(NamedTuple):
    """How a process came to its end."""

    killed: bool
    """False if its run was over before."""
    writing: bool
    """Whether a checkpoint was being written."""
    saves: int
    """Checkpoints that it began."""
    seconds: float


def random_moment(moments: random.Random, seconds: float) -> Moment:
    """A moment of a process that takes about so many seconds."""
    if moments.random() < 0.5:
        return Moment(0, moments.uniform(0.0, seconds))
    return Moment(moments.randint(1, SAVES), moments.uniform(0.0, WRITE_SECONDS))


def execute(work: Work, folder: Path, moment: Moment | None) -> Ending:
    """Work in a process of its own, and kill it.

    Raises:
        RuntimeError: if the process fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    pid, pipe = _fork(work, folder)
    saves = 0
    due = start + moment.seconds if moment is not None and not moment.saves else None
    while select.select([pipe], [], [], None if due is None else max(0.0, due - time.monotonic()))[0]:
        if not os.read(pipe, 1):
            break
        saves += 1
        if moment is not None and saves == moment.saves:
            due = time.monotonic() + moment.seconds
    else:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(pipe)
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a process ended with {status}: {(folder / 'output.txt').read_text()}")
    killed = status == -signal.SIGKILL
    writing = killed and any(folder.glob(f"*/checkpoints/{UNFINISHED[0]}"))
    return Ending(killed, writing, saves, time.monotonic() - start)


def _fork(work: Work, folder: Path) -> tuple[int, int]:
    """A process that works, and the pipe into which it writes a byte for each checkpoint."""
    pipe, theirs = os.pipe()
    if pid := os.fork():
        os.close(theirs)
        return pid, pipe
    try:
        os.close(pipe)
        with (folder / "output.txt").open("a") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        work(folder, lambda: [os.write(theirs, b".")].clear())
        os._exit(0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(1)


# Runs.


class Killed(NamedTuple):
    """A run that was killed and resumed."""

    agent: str
    number: int
    kills: int
    in_writes: int
    """Of these kills, how many while a checkpoint was being written."""
    before_saves: int
    """Of these kills, how many before the first checkpoint of the process."""
    differences: str
    """The files that differ from those of the run that was not killed."""
    seconds: float


def run_killed(agent: str, number: int, work: Work, whole: Path, folder: Path, moments: Sequence[Moment]) -> Killed:
    """Kill and resume one run, let it end, compare it with a whole one."""
    endings = []
    for moment in [*moments, None]:
        endings.append(execute(work, folder, moment))
        if not endings[-1].killed:
            break
    killed = [ending for ending in endings if ending.killed]
    return Killed(
        agent=agent,
        number=number,
        kills=len(killed),
        in_writes=sum(ending.writing for ending in killed),
        before_saves=sum(not ending.saves for ending in killed),
        differences=" ".join(differing(results(folder), results(whole))),
        seconds=round(sum(ending.seconds for ending in endings), 2),
    )


def results(folder: Path) -> dict[str, Any]:
    """What must be the same, by file: tables without wall times, data, what was learned; and what is unfinished."""
    found: dict[str, Any] = {}
    for path in filter(Path.is_file, folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in ("episodes.csv", "metrics.csv"):
            found[name] = _without_times(path)
        elif path.parent.name == "data" or path.name == "learned.npz":
            found[name] = path.read_bytes()
    for pattern in UNFINISHED:
        found |= {str(path.relative_to(folder)): "unfinished" for path in folder.rglob(pattern)}
    return found


def _without_times(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if "seconds" not in k and k != "compile_count"} for row in rows]


def differing(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def kill_runs(
    works: dict[str, Work], kills: int, per_run: int, seconds: float, folder: Path, seed: int, before: Sequence[Killed]
) -> Iterator[Killed]:
    """Further runs, each of the agent with the fewest kills, until there were so many kills or the time is over."""
    end, whole, runs = time.monotonic() + seconds, dict[str, float](), [*before]
    while (left := kills - sum(run.kills for run in runs)) > 0 and time.monotonic() < end:
        agent, number = following(runs, works)
        reference, place = folder / agent / "whole", folder / agent / str(number)
        if agent not in whole:
            whole[agent] = execute(works[agent], reference, None).seconds
        moments = random.Random(f"{seed} {agent} {number}")
        chosen = [random_moment(moments, whole[agent]) for _ in range(min(per_run, left))]
        runs.append(run_killed(agent, number, works[agent], reference, place, chosen))
        if not runs[-1].differences:
            shutil.rmtree(place)
        yield runs[-1]


def following(runs: Sequence[Killed], agents: Iterable[str]) -> tuple[str, int]:
    """The agent with the fewest kills, the first of several, and the number of its next run."""
    kills, numbers = dict.fromkeys(agents, 0), Counter(run.agent for run in runs)
    for run in runs:
        if run.agent in kills:
            kills[run.agent] += run.kills
    agent = min(kills, key=lambda name: (kills[name], numbers[name]))
    return agent, numbers[agent]


def read_runs(path: Path) -> list[Killed]:
    """The runs in a table."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    readers = Killed.__annotations__
    return [Killed(**{name: readers[name](text) for name, text in row.items()}) for row in rows]


def summarise(runs: Sequence[Killed]) -> Table:
    """A line per agent."""
    table = Table()
    for column in ("agent", "kills", "in a checkpoint's write", "before a checkpoint", "runs", "runs that differ"):
        table.add_column(column, justify="left" if column == "agent" else "right")
    for agent in [*dict.fromkeys(run.agent for run in runs), "all"]:
        own = [run for run in runs if agent in (run.agent, "all")]
        sums = (sum(getattr(run, name) for run in own) for name in ("kills", "in_writes", "before_saves"))
        table.add_row(agent, *map(str, sums), str(len(own)), str(sum(bool(run.differences) for run in own)))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no further run after these")
    parser.add_argument("--per-run", type=int, default=4, help="kills of a run, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the runs and of the moments")
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=[*AGENTS])
    parser.add_argument("--out", type=Path, default=Path("runs/kills"), help="path of the .csv, no ending")
    parser.add_argument("--continue", dest="before", action="store_true", help="add to the runs in the .csv")
    args = parser.parse_args()

    prepare()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    folder, table = Path(tempfile.mkdtemp(prefix="foretell-kills-")), args.out.with_suffix(".csv")
    start = time.monotonic()
    runs = read_runs(table) if args.before else []
    already = sum(run.kills for run in runs)
    with staged_presets(), table.open("a" if args.before else "w", newline="") as file:
        writer = csv.writer(file)
        if not args.before:
            writer.writerow(Killed._fields)
        works = {agent: trains(agent, args.seed) for agent in args.agents}
        for run in kill_runs(works, args.kills, args.per_run, 60 * args.minutes, folder, args.seed, [*runs]):
            runs.append(run)
            writer.writerow(run)
            file.flush()
            kills, spent = sum(run.kills for run in runs), time.monotonic() - start
            left = min(spent * (args.kills - kills) / max(kills - already, 1), 60 * args.minutes - spent)
            said = f"differs: {run.differences}" if run.differences else "is the same"
            print(f"{kills}/{args.kills} kills, {max(left, 0) / 60:.1f} minutes left; {run.agent} {said}", flush=True)
    Console(width=120).print(summarise(runs))
    if any(run.differences for run in runs):
        sys.exit(f"the runs that differ are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
