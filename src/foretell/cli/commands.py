"""What the commands do that train, play or write. Each imports what it needs when it runs."""

import argparse
import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.cli.printing import (
    mean_and_std,
    newest_video,
    outcome,
    print_errors,
    print_histogram,
    print_result,
    print_results,
    print_summary,
)
from foretell.errors import UserError, brief
from foretell.output import say

if TYPE_CHECKING:
    from rich.progress import Progress

    from foretell.remote.settings import Ray
    from foretell.run import Run
    from foretell.runs.directory import RunDirectory
    from foretell.tasks import Task


def train(args: argparse.Namespace) -> int:
    """Train a preset, or print what would be trained."""
    from foretell.runs.presets import parse_override, seed_of

    overrides, runtime = [parse_override(text) for text in args.set], _runtime(args)
    seed = seed_of(args.preset) if args.seed is None else args.seed
    if runtime is not None and args.seeds is not None:
        raise UserError("--seeds trains in one process, so it cannot be given with --runtime ray")
    if args.dry_run:
        from foretell.cli.listing import dry_run

        load("foretell.api")
        return dry_run(args, overrides, seed)
    if args.seeds is not None:
        return import_module("foretell.cli.studies").train_seeds(args, overrides, seed)
    _prepare_filming(args)
    api = load("foretell.api")
    run = _interruptible(
        lambda: api.train(
            args.preset,
            seed=seed,
            out=args.out,
            env=args.env,
            reward=args.reward,
            terminated=args.terminated,
            overrides=overrides,
            runtime=runtime,
            overwrite=args.overwrite,
            quiet=args.quiet,
        )
    )
    return _conclude(run, video=args.video, quiet=args.quiet)


def _runtime(args: argparse.Namespace) -> "Ray | None":
    """Where to train. Raises `UserError`."""
    if args.runtime not in ("here", "ray"):
        raise UserError(f"--runtime must be here or ray, not '{args.runtime}'")
    given = {
        name: getattr(args, name) for name in ("actors", "evaluators", "address") if getattr(args, name) is not None
    }
    if args.runtime == "ray":
        return load("foretell.remote.settings").Ray(**given)
    if given:
        raise UserError(f"--{next(iter(given))} is for processes of Ray; add --runtime ray")
    return None


def resume(args: argparse.Namespace) -> int:
    """Continue a run."""
    from foretell.runs.presets import parse_override

    overrides, runtime = [parse_override(text) for text in args.set], _runtime(args)
    api = load("foretell.api")
    run = _interruptible(lambda: api.resume(args.run_dir, overrides=overrides, runtime=runtime, quiet=args.quiet))
    return _conclude(run, video=False, quiet=args.quiet)


def evaluate(args: argparse.Namespace) -> int:
    """Play fresh episodes with a trained agent."""
    _prepare_filming(args)
    run = load("foretell.api").load(args.run_dir, trial=args.trial, best=args.best)
    results = run.evaluate(args.episodes, seed=args.seed, video=args.video)
    videos = run.videos / f"seed-{args.seed}" if args.video else None
    if args.json:
        mean, std = mean_and_std(results)
        result = {"run": str(run.directory), "seed": args.seed, "mean": mean, "std": std}
        result |= {"returns": [one.total for one in results], "lengths": [one.length for one in results]}
        result |= {"success": [one.success for one in results]} if results[0].success is not None else {}
        print(json.dumps({**result, "videos": str(videos) if videos else None}))
        return 0
    print_results(results)
    if videos:
        print(f"videos in {videos}")
    return 0


def inspect(args: argparse.Namespace) -> int:
    """Play fresh episodes, and print how good the agent's model is there."""
    _prepare_filming(args)
    run = load("foretell.api").load(args.run_dir, trial=args.trial, best=args.best)
    if args.replay and (args.video or args.best):
        raise UserError(
            f"--replay shows the data of a trial, so it cannot be given with --{'video' if args.video else 'best'}"
        )
    found = run.inspect(args.episodes, seed=args.seed, video=args.video, replay=args.replay)
    if found.results:
        print_results(found.results)
    if args.video:
        print(f"videos in {run.videos / f'seed-{args.seed}'}")
    if found.errors is not None:
        print_errors(found)
        print(f"figure      {run.prediction_figure}")
    elif found.histogram is not None:
        print_histogram(found)
        print(f"figure      {run.weights_figure}")
    else:
        print("it has no model")
    return 0


def diagnose(args: argparse.Namespace) -> int:
    """Play fresh episodes, and print how good the agent's model and values are there."""
    run = load("foretell.api").load(args.run_dir, trial=args.trial, best=args.best)
    sizes = load("foretell.diagnostics.examination").Sizes(
        args.episodes, args.horizon, args.starts, tuple(args.oracle), args.tail, args.policy
    )
    found = run.diagnose(sizes, seed=args.seed, out=args.out)
    print("\n".join(load("foretell.diagnostics.tables").text(found, sizes.horizon)))
    hints = [f"hint: {hint.text}" for hint in run.hints()]
    print("\n".join(["", *hints]) if hints else "")
    print(f"tables and figures in {args.out or run.directory / 'diagnostics'}")
    return 0


def why(args: argparse.Namespace) -> int:
    """Explain one action."""
    run = load("foretell.api").load(args.run_dir, trial=args.trial, best=args.best)
    found = run.why(args.step, seed=args.seed, seconds=args.seconds)
    if found is None:
        print("the agent has no learned model: its policy alone, or a plan in the true model, chose the action")
        return 0
    print("\n".join(load("foretell.diagnostics.why").lines(found, run.task.spec, args.step)))
    return 0


def plot(args: argparse.Namespace) -> int:
    """Draw the learning curves of runs in one figure."""
    load("foretell.agents")
    comparison, out = load("foretell.report.comparison"), Path(args.out)
    groups, lines = comparison.read_groups(args.run_dirs, args.smooth), comparison.read_lines(args.hline, args.smooth)
    comparison.draw_comparison(groups, lines, out)
    for group in groups:
        curve = comparison.mean_curve(group.curves)
        print(f"{group.label}: {curve.mean[-1]:.1f} +- {curve.std[-1]:.1f} at {curve.steps[-1]} steps")
    print(f"figure      {out}")
    return 0


def film(args: argparse.Namespace) -> int:
    """Film finished episodes of a run."""
    for path in load("foretell.api").film(args.run_dir, args.episodes, overlay=args.overlay):
        print(f"video       {path}", flush=True)
    return 0


def export_mat(args: argparse.Namespace) -> int:
    """Write a run's episodes as MATLAB has them."""
    export, runs = load("foretell.report.mat"), load("foretell.runs.directory")
    directory = runs.RunDirectory.open(Path(args.run_dir))
    path = Path(args.out) if args.out else directory.path / "logs.mat"
    for name, shape in export.export_mat(directory, path).items():
        print(f"{name:12}  {' x '.join(map(str, shape))}")
    print(f"written to {path}")
    if directory.predictions.is_dir():
        for written in export.export_predictions(directory, path.parent, _trials_each(directory)):
            print(f"written to {written}")
    return 0


def _trials_each(directory: "RunDirectory") -> int:
    """Trials of an iteration of a run, whose code is not imported. Raises `UserError`."""
    schedule, whole_number = directory.read_tree()[0].get("train"), load("foretell.runs.arguments").whole_number
    found = schedule if isinstance(schedule, dict) else {}
    return whole_number("train.environments", found.get("environments", 1), 1) * whole_number(
        "train.episodes_per_learning", found.get("episodes_per_learning", 1), 1
    )


def export(args: argparse.Namespace) -> int:
    """Write a trained agent as one file that runs without Foretell."""
    run = load("foretell.api").load(args.run_dir, trial=args.trial, best=args.best)
    path = run.export(args.out, format=args.format, batch=args.batch, platforms=args.platforms)
    print(f"written to {path}")
    return 0


def random(args: argparse.Namespace) -> int:
    """Play episodes of random actions, print their returns, and write them if asked."""
    task, played = _random_task(args), load("foretell.envs.random_policy")
    arguments = load("foretell.runs.arguments")
    arguments.seed_number(args.seed), arguments.whole_number("episodes", args.episodes, 1)
    results = []
    with _table(args.out) as write, _progress() as progress:
        bar = progress.add_task("playing", total=args.episodes)
        for i, result in enumerate(played.random_episodes(task, args.episodes, seed=args.seed)):
            results.append(result)
            print_result(i, result)
            write((i, result.total, result.length, int(result.terminated)))
            progress.advance(bar)
    print_summary(results)
    totals = [result.total for result in results]
    print(f"min {min(totals):.2f}, max {max(totals):.2f}")
    if args.out:
        print(f"written to {args.out}")
    return 0


def toy(args: argparse.Namespace) -> int:
    """Run the toy study, and write its figure and numbers."""
    study, out = load("foretell.toy"), Path(args.out)
    study.check(args.seed, args.trials, args.steps)
    load("foretell.compilation").prepare_jax()
    study.prepare(out)
    with _progress() as progress:
        bar = progress.add_task("compiling", total=len(study.METHODS) * args.steps)

        def advanced(label: str, steps: int) -> None:
            progress.update(bar, description=label, advance=steps)

        found = study.run_study(seed=args.seed, trials=args.trials, steps=args.steps, advanced=advanced)
    print(study.table(found))
    for path in study.write_study(found, out):
        print(f"written to {path}")
    return 0


def load(module: str) -> Any:
    """Import a module that imports JAX and MuJoCo. Raises `UserError` if `MUJOCO_GL` is what prevents it."""
    try:
        return import_module(module)
    except Exception as error:
        if "MUJOCO_GL" not in os.environ:
            raise
        raise UserError(f"MUJOCO_GL={os.environ['MUJOCO_GL']} does not work here ({brief(error)}); unset it") from error


def _prepare_filming(args: argparse.Namespace) -> None:
    """Choose a renderer before any environment is imported: that of DeepMind's suite is chosen when it is imported."""
    if args.video:
        load("foretell.report.video").choose_renderer()


def _progress() -> "Progress":
    """A bar that is shown in terminals only, and disappears at its end."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = load("foretell.callbacks.console").plain_console()
    columns = (TextColumn("{task.description:12}"), BarColumn(bar_width=24), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _random_task(args: argparse.Namespace) -> "Task":
    """The task of a preset or of `--env`. Raises `UserError`."""
    from foretell.runs.presets import parse_override, resolve

    if args.preset is None and args.env is None:
        raise UserError("name a preset or an environment: foretell random pets/cartpole, or --env Pendulum-v1")
    chosen = {"task": {"env": args.env}} if args.env else {}
    overrides = [parse_override(text) for text in args.set]
    settings = resolve(args.preset or "pets/default", [chosen, *overrides])  # in which all but the environment is open
    return load("foretell.tasks").make_task(settings.task)


@contextmanager
def _table(path: str | None) -> Iterator[Callable[[Sequence[object]], object]]:
    """A function that writes rows of episodes as CSV, or nothing without a path. Raises `UserError`."""
    if path is None:
        yield lambda row: None
        return
    writing = load("foretell.runs.directory").writing
    with writing(Path(path)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w", newline="")  # noqa: SIM115

    def write(row: Sequence[object]) -> None:
        with writing(Path(path)):
            csv.writer(file).writerow(row)
            file.flush()

    with file:
        write(["episode", "return", "length", "terminated"])
        yield write


def _interruptible(call: Callable[[], "Run"]) -> "Run | None":
    """What a call returns; None if the user stopped it."""
    from foretell.training.interrupt import Interrupted

    try:
        return call()
    except Interrupted as stop:
        say(f"\n{stop}")
        return None


def _conclude(run: "Run | None", *, video: bool, quiet: bool) -> int:
    """Print what a run has come to. Returns the exit code."""
    if run is None:
        return 130
    lines = [*outcome(run), f"run         {run.directory}", f"curve       {run.figure}"]
    if not quiet:
        say("\n".join(lines))
    if video:
        result = run.evaluate(1, video=True)[0]
        if not quiet:
            say(f"video       {newest_video(run)} (return {result.total:.1f})")
    return 0
