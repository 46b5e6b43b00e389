"""Several seeds of one preset in one process, trained together: their programs run for all of them at once.

Each seed is an ordinary run with a directory of its own, made by `train` or continued by `resume`.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, SupportsIndex, TextIO

import rich.console

from foretell.agents import RunSettings
from foretell.api import resume, train
from foretell.callbacks import Callback, Console
from foretell.compilation import prepare_jax
from foretell.errors import UserError, brief
from foretell.experiments.directory import Member
from foretell.experiments.executor import Ended, Started, available_cores
from foretell.output import STDOUT
from foretell.run import Run
from foretell.runs import arguments
from foretell.runs.arguments import Overrides
from foretell.runs.directory import RunDirectory, writing
from foretell.runs.presets import default_directory, resolve
from foretell.runs.trees import leaf_paths, value_at
from foretell.tasks import make_task
from foretell.training.batch import Outcome, run_together
from foretell.training.interrupt import Interrupted, interrupt_calls

_MOST_SEEDS = 1000
_STOPPED = 130
"""Exit code of a run that was asked to stop."""


class SeedsStopped(Exception):
    """The user asked to stop; every run is saved."""


def train_seeds(
    preset: str | Path,
    seeds: SupportsIndex | Sequence[SupportsIndex],
    *,
    out: str | Path | None = None,
    env: str | None = None,
    overrides: Overrides = (),
    callbacks: Callable[[int], Sequence[Callback]] = lambda seed: (),
    overwrite: bool = False,
    quiet: bool = False,
) -> list[Run]:
    """Train several seeds of a preset together, and return their runs. The same call continues those that were stopped.

    Args:
        preset: as for `train`, but not `auto`.
        seeds: how many, from 0, or which.
        out: the folder that holds the run directories, `<out>/<seed>`; by default as for `train`.
        env: the name of an environment.
        overrides: settings on top of the preset, as for `train`.
        callbacks: those of the run with this seed.
        overwrite: replace the runs that are there.
        quiet: print nothing.

    Raises:
        UserError: for every mistake, before anything is written; at the end if seeds failed, the others are finished.
        SeedsStopped: if the user interrupts it; every run is saved.
    """
    preset, env = arguments.preset_name(preset), arguments.optional_text("env", env)
    arguments.switch(overwrite=overwrite, quiet=quiet)
    numbers, changes = _numbers(seeds), arguments.overrides(overrides)
    chosen: dict[str, Any] = {"task": {"env": env}} if env is not None else {}
    settings = resolve(preset, [chosen, *changes])
    paths = [_directory(preset, settings, seed, out) for seed in numbers]
    check_together(settings)
    for path in [] if overwrite else paths:
        _check_same(path, settings)
    prepare_jax()

    def watching(seed: int) -> list[Callback]:
        shown = [] if quiet else [Console(_screen(_Prefixed(STDOUT, f"seed {seed}  ")))]
        return [*shown, *callbacks(seed)]

    works = [
        partial(_train, preset, seed, path, env, changes, watching(seed), overwrite=overwrite)
        for seed, path in zip(numbers, paths, strict=True)
    ]
    stop = Event()

    def interrupted() -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with interrupt_calls(interrupted):
        found = run_together(works, stopping=stop.is_set)
    return _concluded(found, numbers)


def check_together(settings: RunSettings) -> None:
    """Raises `UserError` if runs with these settings cannot be trained together."""
    if settings.train.pretrained is not None:
        raise UserError(
            f"train.pretrained={settings.train.pretrained} cannot be trained with several seeds at once; "
            "use foretell study, which trains each seed in a process of its own"
        )
    task = make_task(settings.task)
    model = getattr(settings.build(task), "model", None)
    if model is not None and not model.needs_data:
        raise UserError(
            "the true model steps simulators and cannot run for several seeds at once; "
            "use foretell study, which trains each seed in a process of its own"
        )


def vectorised(members: Sequence[Member], stop: Event, *, tick: float = 0.5) -> Iterator[Started | Ended | None]:
    """Executes the runs of a study in this process, all seeds of a variant together; an `Executor`.

    Args:
        members: the runs.
        stop: asks all of them to stop.
        tick: seconds after which None is yielded if nothing has happened.
    """
    for _, group in groupby(sorted(members, key=lambda member: member.arm.label), lambda member: member.arm.label):
        together, events = list(group), Queue[Ended]()
        if stop.is_set():
            return
        yield from (Started(member, tuple(available_cores())) for member in together)
        thread = Thread(target=_execute, args=(together, stop, events.put), daemon=True)
        thread.start()
        while thread.is_alive() or not events.empty():
            try:
                yield events.get(timeout=tick)
            except Empty:
                yield None


def _execute(members: Sequence[Member], stop: Event, ended: Callable[[Ended], object]) -> None:
    """Train all seeds of a variant to their end; their output goes to their logs."""
    start, left = time.monotonic(), {*range(len(members))}

    def end(outcome: Outcome) -> None:
        left.discard(outcome.row)
        code = 0 if outcome.error is None else _STOPPED if isinstance(outcome.error, Interrupted) else 1
        error = _sentence(outcome.error) if code == 1 else ""
        ended(Ended(members[outcome.row], code, error, time.monotonic() - start))

    try:
        check_together(members[0].arm.settings)
        prepare_jax()
        with ExitStack() as stack:
            works = [partial(_member, member, stack.enter_context(_log(member))) for member in members]
            run_together(works, stopping=stop.is_set, ended=end)
    except Exception as error:  # of the disk, or before anything was trained
        for row in sorted(left):
            end(Outcome(row, None, error))


def _member(member: Member, log: TextIO) -> Run:
    """Train or resume one run of a study."""
    arm, watching = member.arm, [Console(_screen(log))]
    return _train(arm.preset, member.seed, member.path, arm.env, arguments.overrides(list(arm.sets)), watching)


def _train(
    preset: str,
    seed: int,
    path: Path,
    env: str | None,
    overrides: Sequence[Mapping[str, Any]],
    callbacks: Sequence[Callback],
    *,
    overwrite: bool = False,
) -> Run:
    """Train one run, or continue it if its directory is there."""
    if (path / "config.yaml").is_file() and not overwrite:
        return resume(path, callbacks=callbacks, quiet=True)
    options: dict[str, Any] = {"seed": seed, "out": path, "env": env, "overrides": overrides, "callbacks": callbacks}
    return train(preset, **options, overwrite=overwrite, quiet=True)


def _numbers(seeds: Any) -> list[int]:
    """The seeds that are asked for. Raises `UserError`."""
    if not isinstance(seeds, Sequence):
        return list(range(arguments.whole_number("seeds", seeds, 1, _MOST_SEEDS)))
    found = [arguments.seed_number(seed) for seed in seeds]
    if not found:
        raise UserError("seeds must not be empty: give their number, or a list such as [0, 1, 2]")
    if twice := [seed for i, seed in enumerate(found) if seed in found[:i]]:
        raise UserError(f"the seed {twice[0]} is given twice; keep one")
    return found


def _directory(preset: str, settings: RunSettings, seed: int, out: str | Path | None) -> Path:
    return default_directory(preset, settings, seed) if out is None else arguments.path("out", out) / str(seed)


def _check_same(path: Path, settings: RunSettings) -> None:
    """Raises `UserError` if the directory holds a run with other settings."""
    if not (path / "config.yaml").is_file():
        return
    there, here = (s.model_dump(mode="json") for s in (RunDirectory.open(path).read_config()[0], settings))
    for name in dict.fromkeys([*leaf_paths(here), *leaf_paths(there)]):
        if name != "description" and value_at(there, name) != value_at(here, name):
            raise UserError(
                f"'{path}' holds a run with {name}={value_at(there, name)}, not {value_at(here, name)}; "
                "replace it with --overwrite, or choose another --out"
            )


def _concluded(outcomes: Sequence[Outcome], seeds: Sequence[int]) -> list[Run]:
    """The runs, if all of them have come to their end. Raises `SeedsStopped` or `UserError`."""
    failed = [(seed, one.error) for seed, one in zip(seeds, outcomes, strict=True) if one.error is not None]
    if broken := [(seed, error) for seed, error in failed if not isinstance(error, Interrupted)]:
        seed, error = broken[0]
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        raise UserError(
            f"{len(broken)} of {len(seeds)} seeds failed, the first of them {seed}: {_sentence(error)} "
            "(the others are finished or saved, and the same command tries again)"
        ) from error
    if failed:
        raise SeedsStopped("stopped and saved")
    return [one.result for one in outcomes]


def _sentence(error: BaseException | None) -> str:
    return str(error) if isinstance(error, UserError) else brief(error) if error is not None else ""


def _log(member: Member) -> TextIO:
    with writing(member.log):
        member.log.parent.mkdir(parents=True, exist_ok=True)
        return member.log.open("a")


def _screen(file: Any) -> rich.console.Console:
    return rich.console.Console(file=file, highlight=False, markup=False, emoji=False)


class _Prefixed(io.TextIOBase):
    """An output whose lines begin with the same text."""

    def __init__(self, file: Any, prefix: str) -> None:
        self._file, self._prefix = file, prefix

    def write(self, text: str) -> int:
        self._file.write("".join(f"{self._prefix}{line}" for line in text.splitlines(keepends=True)))
        return len(text)

    def flush(self) -> None:
        self._file.flush()
