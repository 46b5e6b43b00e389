"""The command line: parse, call, print."""

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NoReturn

from foretell.errors import UserError, brief, nearest

if TYPE_CHECKING:
    import foretell.api


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for a user's mistake, 130 after Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an output that knows few characters must not end a run
    try:
        args = _parse(sys.argv[1:] if argv is None else argv)
        if args.command is not _presets:
            _import_api()
        return args.command(args)
    except UserError as error:
        print(f"foretell: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("foretell: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _Parser(argparse.ArgumentParser):
    """Tells a mistake as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        if message.endswith(" PRESET"):
            from foretell.runs.presets import preset_names

            raise UserError(f"name the preset to train{nearest('', preset_names()) or '; see `foretell presets`'}")
        raise UserError(f"{message}; see `{self.prog} --help`")


def _parse(argv: list[str]) -> argparse.Namespace:
    name = argv[0] if argv else ""
    if name not in (*_COMMANDS, "-h", "--help"):
        said = f"no command '{name}'" if name else "name a command"
        raise UserError(f"{said}{nearest(name, _COMMANDS)}")
    args, unknown = _parser().parse_known_args(argv)
    if unknown:
        options = re.findall(r"--[a-z]+", args.parser.format_help())
        bare_setting = "=" in unknown[0] and "--set" in options and not unknown[0].startswith("-")
        advice = f"; did you mean '--set {unknown[0]}'?" if bare_setting else nearest(unknown[0], options)
        raise UserError(f"{args.parser.prog} does not take '{unknown[0]}'{advice}")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="foretell", description="Model-based reinforcement learning for continuous control.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=_COMMANDS[name], parser=sub)
        return sub

    train = command("train", "train a preset")
    train.add_argument("preset", metavar="PRESET", help="see `foretell presets`")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="one seed, one result (default 0)")
    train.add_argument("--out", metavar="DIR", help="the run directory (default runs/<preset-with-dashes>/<seed>)")
    train.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    _add_set(train)
    train.add_argument("--env", metavar="ID", help="a Gymnasium environment: SomeId-v0 or module:SomeId-v0")
    train.add_argument("--reward", metavar="HOW", help="'learned', or module:function of (obs, action, next_obs)")
    train.add_argument("--terminated", metavar="HOW", help="'learned', 'none', or module:function")
    train.add_argument("--video", action="store_true", help="film one episode of the trained agent")
    train.add_argument("--quiet", action="store_true", help="print nothing")

    resume = command("resume", "continue a run exactly where its newest checkpoint is")
    resume.add_argument("run_dir", metavar="RUN_DIR")
    _add_set(resume)
    resume.add_argument("--quiet", action="store_true", help="print nothing")

    evaluate = command("eval", "play fresh episodes with a trained agent")
    evaluate.add_argument("run_dir", metavar="RUN_DIR")
    evaluate.add_argument("--episodes", type=int, default=10, metavar="N", help="default 10")
    evaluate.add_argument("--trial", type=int, metavar="N", help="the agent of trial N (with train.save_all_models)")
    evaluate.add_argument("--seed", type=int, default=0, metavar="S", help="start states and chance (default 0)")
    evaluate.add_argument("--video", action="store_true", help="film every episode")
    evaluate.add_argument("--json", action="store_true", help="print JSON alone")

    inspect = command(
        "inspect", "play fresh episodes, and show how far the agent trusts its model there, or how far that sees"
    )
    inspect.add_argument("run_dir", metavar="RUN_DIR")
    inspect.add_argument("--episodes", type=int, default=10, metavar="N", help="default 10")
    inspect.add_argument("--seed", type=int, default=0, metavar="S", help="start states and chance (default 0)")
    inspect.add_argument("--video", action="store_true", help="film every episode")

    film = command("film", "film episodes of a run as they were, random ones too")
    film.add_argument("run_dir", metavar="RUN_DIR")
    film.add_argument(
        "--episodes", type=int, nargs="+", metavar="N", help="their numbers in episodes.csv (default 0 1 8 27 64 ...)"
    )

    export = command("export-mat", "write a run's episodes as the released PETS code did")
    export.add_argument("run_dir", metavar="RUN_DIR")
    export.add_argument("--out", metavar="FILE", help="default RUN_DIR/logs.mat")

    command("presets", "list the presets, and the parts they can be combined with")

    toy = command("toy", "the tabular toy study of STEVE: six ways to learn the values of a chain")
    toy.add_argument(
        "--out", default="runs/toy", metavar="DIR", help="for the figure and the numbers (default runs/toy)"
    )
    toy.add_argument("--seed", type=int, default=0, metavar="N", help="one seed, one result (default 0)")
    toy.add_argument("--trials", type=int, default=10, metavar="N", help="repetitions of each way (default 10)")
    toy.add_argument("--steps", type=int, default=10_000, metavar="N", help="training steps (default 10000)")
    return parser


def _import_api() -> None:
    """Import JAX, MuJoCo and all the rest. Raises `UserError` if `MUJOCO_GL` is what prevents it."""
    try:
        import_module("foretell.api")
    except Exception as error:
        if "MUJOCO_GL" not in os.environ:
            raise
        raise UserError(f"MUJOCO_GL={os.environ['MUJOCO_GL']} does not work here ({brief(error)}); unset it") from error


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY.PATH=VALUE", help="change settings of the preset"
    )


def _train(args: argparse.Namespace) -> int:
    from foretell import api
    from foretell.runs.presets import parse_override

    run = _interruptible(
        lambda: api.train(
            args.preset,
            seed=args.seed,
            out=args.out,
            env=args.env,
            reward=args.reward,
            terminated=args.terminated,
            overrides=[parse_override(text) for text in args.set],
            overwrite=args.overwrite,
            quiet=args.quiet,
        )
    )
    return _conclude(run, video=args.video, quiet=args.quiet)


def _resume(args: argparse.Namespace) -> int:
    from foretell import api
    from foretell.runs.presets import parse_override

    overrides = [parse_override(text) for text in args.set]
    run = _interruptible(lambda: api.resume(args.run_dir, overrides=overrides, quiet=args.quiet))
    return _conclude(run, video=False, quiet=args.quiet)


def _interruptible(call: Callable[[], "foretell.api.Run"]) -> "foretell.api.Run | None":
    from foretell.training.loop import Interrupted

    try:
        return call()
    except Interrupted as stop:
        print(f"\n{stop}")
        return None


def _conclude(run: "foretell.api.Run | None", *, video: bool, quiet: bool) -> int:
    if run is None:
        return 130
    say = (lambda _: None) if quiet else print
    if last := run.returns[-5:]:
        say(f"best return {max(run.returns):.1f}; mean of the last {len(last)} trials {fmean(last):.1f}")
    say(f"run         {run.directory}")
    say(f"curve       {run.figure}")
    if video:
        outcome = run.evaluate(1, video=True)[0]
        say(f"video       {_newest_video(run)} (return {outcome.total:.1f})")
    return 0


def _newest_video(run: "foretell.api.Run") -> str:
    return str(max(run.videos.rglob("*.mp4"), key=lambda path: path.stat().st_mtime))


def _eval(args: argparse.Namespace) -> int:
    from foretell import api

    run = api.load(args.run_dir, trial=args.trial)
    outcomes = run.evaluate(args.episodes, seed=args.seed, video=args.video)
    totals = [outcome.total for outcome in outcomes]
    mean, deviation = fmean(totals), stdev(totals) if len(totals) > 1 else 0.0
    videos = run.videos / f"seed-{args.seed}" if args.video else None
    if args.json:
        print(
            json.dumps(
                {
                    "run": str(run.directory),
                    "seed": args.seed,
                    "mean": mean,
                    "std": deviation,
                    "returns": totals,
                    "lengths": [outcome.length for outcome in outcomes],
                    "videos": str(videos) if videos else None,
                }
            )
        )
        return 0
    _print_outcomes(outcomes)
    if videos:
        print(f"videos in {videos}")
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from foretell import api

    run = api.load(args.run_dir)
    found = run.inspect(args.episodes, seed=args.seed, video=args.video)
    _print_outcomes(found.outcomes)
    if args.video:
        print(f"videos in {run.videos / f'seed-{args.seed}'}")
    if found.errors is not None:
        print("error of open-loop predictions (mean square, where the deviation of each dimension is 1)")
        for steps, error in found.errors.items():
            print(f"after {steps:3d} step{' ' if steps == 1 else 's'}  {error:.3g}")
        print(f"figure      {run.prediction_figure}")
        return 0
    if found.histogram is None:
        print("it has no model")
        return 0
    frames = found.histogram.shape[1]
    print("share of transitions by weight of each horizon in the target")
    print("weight     " + "".join(f"{f'H = {frame}':>8}" for frame in range(frames)))
    for bucket in reversed(range(len(found.histogram))):
        shares = "".join(f"{share:8.3f}" for share in found.histogram[bucket])
        print(f"{bucket / 10:.1f} to {(bucket + 1) / 10:.1f} {shares}")
    print(f"figure      {run.weights_figure}")
    return 0


def _film(args: argparse.Namespace) -> int:
    from foretell import api

    for path in api.film(args.run_dir, args.episodes):
        print(f"video       {path}", flush=True)
    return 0


def _print_outcomes(outcomes: "list[foretell.api.Outcome]") -> None:
    totals = [outcome.total for outcome in outcomes]
    for i, outcome in enumerate(outcomes):
        print(f"episode {i:3d}  return {outcome.total:9.2f}  {outcome.length} steps")
    deviation = stdev(totals) if len(totals) > 1 else 0.0
    print(f"mean {fmean(totals):.2f}, deviation {deviation:.2f} over {len(totals)} episodes")


def _export_mat(args: argparse.Namespace) -> int:
    from foretell.report.mat import export_mat
    from foretell.runs.directory import RunDirectory

    directory = RunDirectory.open(Path(args.run_dir))
    path = Path(args.out) if args.out else directory.path / "logs.mat"
    for name, shape in export_mat(directory, path).items():
        print(f"{name:12}  {' x '.join(map(str, shape))}")
    print(f"written to {path}")
    return 0


def _presets(args: argparse.Namespace) -> int:
    from foretell.runs.presets import describe, part_names, preset_names

    width = max(map(len, preset_names()))
    for name in preset_names():
        print(f"{name:{width}}  {describe(name)}")
    print("\nparts, to be added to a preset with + (as in pets/cartpole+de+ts1+random)")
    for name in part_names():
        print(f"{name:{width}}  {describe(name)}")
    return 0


def _toy(args: argparse.Namespace) -> int:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from foretell import toy
    from foretell.callbacks.console import plain_console
    from foretell.compilation import use_compilation_cache

    out, console = Path(args.out), plain_console()
    toy.check(args.seed, args.trials, args.steps)
    toy.prepare(out)
    use_compilation_cache()
    columns = (TextColumn("{task.description:12}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("compiling", total=len(toy.METHODS) * args.steps)

        def advanced(label: str, steps: int) -> None:
            progress.update(bar, description=label, advance=steps)

        study = toy.run_study(seed=args.seed, trials=args.trials, steps=args.steps, advanced=advanced)
    print(toy.table(study))
    for path in toy.write_study(study, out):
        print(f"written to {path}")
    return 0


_COMMANDS = {
    "train": _train,
    "resume": _resume,
    "eval": _eval,
    "inspect": _inspect,
    "film": _film,
    "export-mat": _export_mat,
    "presets": _presets,
    "toy": _toy,
}
