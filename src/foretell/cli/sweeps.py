"""The command about sweeps. It imports what it needs when it runs."""

import argparse
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from foretell.cli.commands import load
from foretell.cli.studies import kept, on_ray
from foretell.errors import UserError


def sweep(args: argparse.Namespace) -> int:
    """Run a sweep, or continue it."""
    running, studies = load("foretell.experiments.sweep"), load("foretell.experiments.study")
    found = running.open_sweep(args.file)
    out = Path("runs", "sweeps", found.name) if args.out is None else Path(args.out)
    directory = load("foretell.experiments.directory").StudyDirectory(out)
    if found.file.stop is not None and args.ray is None:
        raise UserError(f"stop.rule {found.file.stop.rule} needs Ray: add --ray, or leave out stop")
    if args.dry_run:
        on_ray(args)
        return _dry_run(running, found, directory)
    commit = load("foretell.experiments.pinning").pushed_commit() if args.pinned else None
    try:
        with kept(args, out, partial(_check, running, found)) as store:
            executor = on_ray(args, rule=found.file.stop, past=partial(running.past, found, directory), store=store)
            running.run_sweep(found, out, jobs=args.jobs, quiet=args.quiet, executor=executor)
    except studies.StudyStopped as stop:
        print(f"\n{stop}; continue with `foretell {shlex.join(args.words)}`")
        return 130
    except studies.StudyFailed as error:
        raise UserError(f"{error}; the same command tries again") from None
    finally:
        if commit is not None and out.is_dir():
            (out / "commit.txt").write_text(f"{commit}\n")
    if not args.quiet:
        print(f"trials      {out / 'trials.md'}\nscores      {out / 'trials.png'}\nsummary     {directory.page}")
    return 0


def _dry_run(running: Any, sweep: Any, directory: Any) -> int:
    """Print the trials that would be run first. Mistakes are reported as by `foretell sweep`."""
    recorded = running.read_trials(sweep, directory)
    if not any(recorded.values()):
        recorded = running.extended(sweep, recorded, {name: [] for name in recorded})
    trials = running.trials_of(sweep, recorded)
    plan = running.plan_of(sweep, trials)
    directory.check(plan)
    members = directory.members(plan)
    for trial in trials:
        print(f"{trial.arm.label:40}  {trial.arm.preset} on {trial.arm.settings.task.env}  {' '.join(trial.arm.sets)}")
    left = sum(not directory.is_finished(member) for member in members)
    each = f"{plan.seeds} seed{'s' * (plan.seeds > 1)} each"
    print(f"{len(trials)} trials, {each}, in {directory.path}: {left} of {len(members)} runs to do")
    return 0


def _check(running: Any, sweep: Any, out: Path) -> None:
    """Raises `UserError` if a directory holds anything but this sweep."""
    directory = load("foretell.experiments.directory").StudyDirectory(out)
    recorded = running.read_trials(sweep, directory)
    directory.check(running.plan_of(sweep, running.trials_of(sweep, recorded)))
