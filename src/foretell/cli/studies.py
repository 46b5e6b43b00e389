"""The commands about studies and about several seeds. Each imports what it needs when it runs."""

import argparse
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from foretell.cli.commands import load
from foretell.cli.printing import outcome
from foretell.errors import UserError, nearest
from foretell.output import say


def study(args: argparse.Namespace) -> int:
    """Run a study, or continue it."""
    running = load("foretell.experiments.study")
    out = _directory(args)
    if args.dry_run:
        _executor(args, None)
        return _dry_run(args, out)
    if args.run is not None:
        return _one_run(args, out)
    try:
        with kept(args, out, partial(_check, args)) as store:
            executor = _executor(args, store)
            running.study(args.names, out=out, jobs=args.jobs, quiet=args.quiet, executor=executor, **_asked(args))
    except running.StudyStopped as stop:
        print(f"\n{stop}; continue with `foretell {shlex.join(args.words)}`")
        return 130
    except running.StudyFailed as error:
        raise UserError(f"{error}; the same command tries again") from None
    if not args.quiet:
        files = load("foretell.experiments.directory").StudyDirectory(out)
        print(f"summary     {files.page}\nfigure      {files.figure}")
    return 0


def train_seeds(args: argparse.Namespace, overrides: Sequence[Mapping[str, Any]], first: int) -> int:
    """Train several seeds of a preset together."""
    if args.video:
        raise UserError("--video films one run: add it to `foretell eval RUN_DIR` instead of --seeds")
    asked = {name: getattr(args, name) for name in ("reward", "terminated") if getattr(args, name) is not None}
    seeds = load("foretell.runs.arguments").whole_number("seeds", args.seeds, 1)
    together, options = load("foretell.seeds"), {"out": args.out, "env": args.env, "quiet": args.quiet}
    try:
        runs = together.train_seeds(
            args.preset,
            range(first, first + seeds),
            overrides=[*([{"task": asked}] if asked else []), *overrides],
            overwrite=args.overwrite,
            **options,
        )
    except together.SeedsStopped as stop:
        say(f"\n{stop}; the same command continues all seeds, `foretell resume RUN_DIR` one of them")
        return 130
    for run in [] if args.quiet else runs:
        say("\n".join([*outcome(run), f"run         {run.directory}"]))
    return 0


def studies(args: argparse.Namespace) -> int:
    """List the studies, of one family or all."""
    from foretell.experiments.files import read_study, study_names

    names = study_names()
    families = {name.partition("/")[0] for name in names}
    if args.family not in (None, *families):
        raise UserError(f"no family '{args.family}'{nearest(args.family, families)}")
    for name in names:
        if args.family in (None, name.partition("/")[0]):
            found = read_study(name)
            print(f"{name:{max(map(len, names))}}  {len(found.variants):2d} variants  {found.description}")
    return 0


def _executor(args: argparse.Namespace, store: Any) -> Any:
    """What executes the runs if not processes. Raises `UserError`."""
    if not args.vectorise:
        return on_ray(args, store=store)
    for name in ("jobs", "ray", "cpus", "gpus", "store"):
        if getattr(args, name) is not None:
            raise UserError(f"--vectorise trains in a single process, so leave out --{name}")
    return load("foretell.seeds").vectorised


def on_ray(args: argparse.Namespace, **more: Any) -> Any:
    """The executor that `--ray` asks for; None without it. Raises `UserError`."""
    if args.ray is None:
        for name in ("cpus", "gpus", "store"):
            if getattr(args, name) is not None:
                raise UserError(f"--{name} is for runs on Ray; add --ray")
        return None
    for name, least in (("cpus", "above 0"), ("gpus", "at least 0")):
        value = getattr(args, name)
        if value is not None and not (value >= 0 and math.isfinite(value) and (value or name == "gpus")):
            raise UserError(f"--{name} must be a number {least}, not {value:g}")
    if args.jobs is not None:
        raise UserError("--jobs is for runs without Ray; leave it out, and give each run --cpus")
    module = load("foretell.experiments.cluster")
    cluster = module.Cluster(args.ray or None, 1.0 if args.cpus is None else args.cpus, args.gpus or 0.0)
    return partial(module.run_on_ray, cluster=cluster, **more)


@contextmanager
def kept(args: argparse.Namespace, out: Path, check: Callable[[Path], None]) -> Iterator[Any]:
    """The store that `--store` asks for, with which the files of a study are copied before and after; None without it.

    Args:
        args: those of the command.
        out: the directory of the study.
        check: raises `UserError` unless this command may continue the study in a directory.

    Raises:
        UserError: if the store refuses, or holds another study.
    """
    if args.store is None or args.ray is None:
        yield None
        return
    store = load("foretell.experiments.store").Store(args.store)
    check(out)
    store.pull_study(out, check)
    try:
        yield store
    finally:
        if out.is_dir():
            store.push_study(out)


def _check(args: argparse.Namespace, out: Path) -> None:
    plan = load("foretell.experiments.plan").make_plan(args.names, **_asked(args))
    load("foretell.experiments.directory").StudyDirectory(out).check(plan)


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `make_plan`."""
    asked = {name: getattr(args, name) for name in ("env", "seeds", "only", "paper", "goal")}
    return {**asked, "overrides": args.set}


def _directory(args: argparse.Namespace) -> Path:
    """The directory of a study. Raises `UserError` if `--out` is needed but missing."""
    from foretell.experiments.files import is_study

    if args.out is not None:
        return Path(args.out)
    if not is_study(args.names[0]):
        raise UserError("a study of presets needs a directory: --out DIR")
    name = args.names[0].removesuffix(".yaml").removesuffix(".yml").strip("./").replace("/", "-")
    return Path("runs", "studies", f"{name}{'-paper' if args.paper else ''}")


def _one_run(args: argparse.Namespace, out: Path) -> int:
    """Train or resume the run that `--run` names, in this process."""
    from foretell.cli.parser import parse

    for name in ("jobs", "vectorise", "ray", "store"):
        if getattr(args, name) not in (None, False):
            raise UserError(f"--run executes a single run in this process, so leave out --{name}")
    on_ray(args)

    def train(words: list[str]) -> int:
        print(f"foretell {shlex.join(words)}", flush=True)
        chosen = parse([*words, "--quiet"] if args.quiet else words)
        return chosen.command(chosen)

    plan = load("foretell.experiments.plan").make_plan(args.names, **_asked(args))
    return load("foretell.experiments.study").run_of_study(plan, out, args.run, train)


def _dry_run(args: argparse.Namespace, out: Path) -> int:
    """Print what would be run. Mistakes are reported as by `foretell study`."""
    planning = load("foretell.experiments.plan")
    plan = planning.make_plan(args.names, **_asked(args))
    directory = load("foretell.experiments.directory").StudyDirectory(out)
    directory.check(plan)
    members = directory.members(plan)
    width = max(len(arm.label) for arm in plan.arms)
    for arm in plan.arms:
        schedule = arm.settings.train
        length = f"{schedule.trials} trials" if schedule.steps is None else f"{schedule.steps} steps"
        print(f"{arm.label:{width}}  {arm.preset} on {arm.settings.task.env}, {length}  {' '.join(arm.sets)}".rstrip())
    left = sum(not directory.is_finished(member) for member in members)
    each = f"{plan.seeds} seed{'s' * (plan.seeds > 1)} each"
    print(f"{len(plan.arms)} variants, {each}, in {out}: {left} of {len(members)} runs to do")
    return 0
