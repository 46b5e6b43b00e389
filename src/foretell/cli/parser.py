"""The commands and their options. Nothing here waits for JAX."""

import argparse
import re
from collections.abc import Callable
from typing import Any, NoReturn

import foretell
from foretell.cli import commands, listing, pages, studies, sweeps
from foretell.errors import UserError, nearest


def parse(argv: list[str]) -> argparse.Namespace:
    """The command in `argv`, as `command`, and its options. Raises `UserError`."""
    name = argv[0] if argv else ""
    if name not in (*_COMMANDS, "-h", "--help", "--version"):
        said = f"no command '{name}'" if name else "name a command"
        choices = f"; choose one of: {', '.join(sorted(_COMMANDS))}"
        raise UserError(f"{said}{nearest(name, _COMMANDS) or choices}")
    args, unknown = _parsers()[0].parse_known_args(argv)
    args.words = argv
    if unknown:
        options = re.findall(r"--[a-z-]+", args.parser.format_help())
        bare_setting = "=" in unknown[0] and "--set" in options and not unknown[0].startswith("-")
        advice = f"; did you mean '--set {unknown[0]}'?" if bare_setting else nearest(unknown[0], options)
        if unknown[0] in ("--reward", "--terminated") and "--set" in options:
            advice = f"; say it as '--set task.{unknown[0][2:]}=...'"
        raise UserError(f"{args.parser.prog} does not take '{unknown[0]}'{advice}")
    return args


class _Parser(argparse.ArgumentParser):
    """Reports a mistake as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        if message.endswith(" PRESET"):
            from foretell.runs.presets import preset_names

            raise UserError(f"name the preset to train{nearest('', preset_names()) or '; see `foretell presets`'}")
        raise UserError(f"{message}; see `{self.prog} --help`")


def command_texts() -> dict[str, str]:
    """What `foretell COMMAND --help` prints, by command."""
    return {name: sub.format_help() for name, sub in _parsers()[1].items()}


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """That of the program, and that of each command."""
    parser = _Parser(prog="foretell", description="Model-based reinforcement learning for continuous control.")
    parser.add_argument("--version", action="version", version=f"foretell {foretell.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (help, run, add_options) in _COMMANDS.items():
        sub = subparsers.add_parser(name, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(command=run, parser=sub)
        add_options(sub)
        sub.add_argument("--traceback", action="store_true", help="print the whole traceback if something fails")
    return parser, subparsers.choices


def _train(sub: argparse.ArgumentParser) -> None:
    which = "a preset with +parts, see `foretell presets`; a YAML file; or 'auto' to choose one for the environment"
    sub.add_argument("preset", metavar="PRESET", help=which)
    sub.add_argument("--seed", type=int, metavar="N", help="random seed (default 0, or the seed in the file)")
    many = "train N seeds, from --seed on, together in one process; after an interruption the same command continues"
    sub.add_argument("--seeds", type=int, metavar="N", help=many)
    where = "default runs/<preset-with-dashes>/<seed>, with <env> before <seed> if the preset names no environment"
    sub.add_argument("--out", metavar="DIR", help=f"the run directory ({where}); with --seeds, DIR/<seed>")
    sub.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    _set(sub)
    sub.add_argument("--env", metavar="ID", help="SomeId-v0, module:SomeId-v0, or module:name of a function or class")
    sub.add_argument("--reward", metavar="HOW", help="'learned', or module:function of (obs, action, next_obs)")
    sub.add_argument("--terminated", metavar="HOW", help="'learned', 'none', or module:function")
    sub.add_argument("--dry-run", action="store_true", help="print what would be trained, and write nothing")
    sub.add_argument("--video", action="store_true", help="film one episode of the trained agent")
    _runtime(sub)
    _quiet(sub)
    _trust(sub)


def _runtime(sub: argparse.ArgumentParser) -> None:
    how = "here (default), or ray: acting, evaluation and learning in processes of Ray, on this machine or a cluster"
    sub.add_argument("--runtime", metavar="HOW", default="here", help=how)
    sub.add_argument("--actors", type=int, metavar="N", help="processes of Ray that step environments (default 1)")
    sub.add_argument("--evaluators", type=int, metavar="N", help="processes of Ray that evaluate (default 1)")
    sub.add_argument("--address", metavar="ADDRESS", help="address of the Ray cluster (default: that of this machine)")


def _resume(sub: argparse.ArgumentParser) -> None:
    _run_dir(sub)
    _set(sub)
    _runtime(sub)
    _quiet(sub)
    _trust(sub)


def _eval(sub: argparse.ArgumentParser) -> None:
    _run_dir(sub)
    _episodes(sub)
    _which_agent(sub)
    sub.add_argument("--video", action="store_true", help="film every episode")
    sub.add_argument("--json", action="store_true", help="print JSON alone")
    _trust(sub)


def _inspect(sub: argparse.ArgumentParser) -> None:
    _run_dir(sub)
    _episodes(sub)
    _which_agent(sub)
    data = "inspect the agent's data instead of fresh episodes; with --trial, the data at the end of that trial"
    sub.add_argument("--replay", action="store_true", help=data)
    sub.add_argument("--video", action="store_true", help="film every episode")
    _trust(sub)


def _diagnose(sub: argparse.ArgumentParser) -> None:
    _run_dir(sub)
    _which_agent(sub)
    _episodes(sub)
    sub.add_argument("--horizon", type=int, default=10, metavar="K", help="steps predicted ahead (default 10)")
    sub.add_argument("--starts", type=int, default=512, metavar="N", help="number of predictions (default 512)")
    oracle = "numbers of real rewards in the estimates oracle_H of values (default 1 5 10 25)"
    sub.add_argument("--oracle", type=int, nargs="+", default=[1, 5, 10, 25], metavar="H", help=oracle)
    tail = "returns cut by a time limit: bootstrap (default), or leave out steps that lack more than this share"
    sub.add_argument("--tail", type=share, default=None, metavar="SHARE", help=tail)
    policy = "for agents with critics, who plays: the policy of targets (default), or the one that acts in evaluation"
    sub.add_argument("--policy", choices=["target", "online"], default="target", help=policy)
    sub.add_argument("--out", metavar="DIR", help="folder for tables and figures (default RUN_DIR/diagnostics)")
    _trust(sub)


def _why(sub: argparse.ArgumentParser) -> None:
    _run_dir(sub)
    sub.add_argument("--step", type=int, required=True, metavar="N", help="step of the episode, from 0")
    sub.add_argument("--seconds", type=float, default=60.0, help="maximum wall time to reach the step (default 60)")
    sub.add_argument("--seed", type=int, default=0, help="random seed of the episode (default 0)")
    _which_agent(sub)
    _trust(sub)


def share(text: str) -> float | None:
    """A number, or None for `bootstrap`; messages use this function's name."""
    return None if text == "bootstrap" else float(text)


def _plot(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run_dirs", metavar="RUN_DIR", nargs="+")
    sub.add_argument("--smooth", type=int, default=1, metavar="N", help="mean over N points (default 1)")
    hline = "horizontal lines: numbers, or the last values of runs"
    sub.add_argument("--hline", nargs="+", default=[], metavar="RUN_OR_VALUE", help=hline)
    sub.add_argument("--out", default="curves.png", metavar="FILE", help="PNG, PDF or SVG (default curves.png)")


def _report(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run_dirs", metavar="RUN_DIR", nargs="+", help="directories of runs, of studies, or of many runs")
    sub.add_argument("-o", "--out", metavar="FILE", help="HTML, PNG or PDF (default report.html)")
    sub.add_argument("--format", metavar="FORMAT", help="html, or png or pdf for the learning curves alone")
    sub.add_argument("--smooth", type=int, default=10, metavar="N", help="points of smoothed curves (default 10)")
    sub.add_argument("--videos", type=int, default=2, metavar="N", help="newest videos of each run (default 2)")
    asked = "time to ask the models of the best runs what they believed, 0 for none (default 60)"
    sub.add_argument("--model-seconds", type=float, default=60.0, metavar="S", help=asked)
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of the episodes for this (default 0)")
    _trust(sub)


def _watch(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run_dirs", metavar="RUN_DIR", nargs="+", help="directories of runs, of studies, or of many runs")
    sub.add_argument("--port", type=int, default=8866, metavar="N", help="on this machine (default 8866; 0: any)")
    sub.add_argument("--smooth", type=int, default=10, metavar="N", help="points of smoothed curves (default 10)")


def _film(sub: argparse.ArgumentParser) -> None:
    _run_dir(sub)
    which = "their numbers in episodes.csv (default 0 1 8 27 64 ...)"
    sub.add_argument("--episodes", type=int, nargs="+", metavar="N", help=which)
    sub.add_argument("--overlay", action="store_true", help="write step, return so far and action on the frames")
    _trust(sub)


def _export(sub: argparse.ArgumentParser) -> None:
    _run_dir(sub)
    sub.add_argument("--out", metavar="FILE", help="default RUN_DIR/logs.mat")


def _export_agent(sub: argparse.ArgumentParser) -> None:
    _run_dir(sub)
    sub.add_argument("--out", metavar="FILE", help="default RUN_DIR/agent.stablehlo, or agent.onnx")
    kinds = "stablehlo, or onnx for a policy (default: as the file's ending says, else stablehlo)"
    sub.add_argument("--format", metavar="FORMAT", help=kinds)
    sub.add_argument("--batch", type=int, default=1, metavar="N", help="observations at once (default 1)")
    help = "of the machines that will run StableHLO (default cpu; also cuda, rocm, tpu)"
    sub.add_argument("--platforms", nargs="+", metavar="NAME", help=help)
    _which_agent(sub)
    _trust(sub)


def _presets(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("family", metavar="FAMILY", nargs="?", help="only these, such as pets, or parts")


def _show(sub: argparse.ArgumentParser) -> None:
    what = "a preset with parts, a YAML file, a section (planner), a kind (planner.cem), a setting, an agent or a part"
    sub.add_argument("what", metavar="WHAT", help=what)
    sub.add_argument("--env", metavar="ID", help="the environment of a preset; 'auto' chooses a preset for it")
    _set(sub)
    _trust(sub)


def _random(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("preset", metavar="PRESET", nargs="?", help="a preset or a YAML file, for its environment")
    sub.add_argument("--env", metavar="ID", help="an environment: a task, SomeId-v0 or module:SomeId-v0")
    sub.add_argument("--episodes", type=int, default=100, metavar="N", help="default 100")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of initial states and actions (default 0)")
    sub.add_argument("--out", metavar="FILE", help="write the returns as CSV")
    _set(sub)
    _trust(sub)


def _toy(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--out", default="runs/toy", metavar="DIR", help="for figure and numbers (default runs/toy)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="one seed, one result (default 0)")
    sub.add_argument("--trials", type=int, default=10, metavar="N", help="repetitions of each way (default 10)")
    sub.add_argument("--steps", type=int, default=10_000, metavar="N", help="training steps (default 10000)")


def _study(sub: argparse.ArgumentParser) -> None:
    names = "presets to compare, or one study: a name of `foretell studies`, or a YAML file"
    sub.add_argument("names", metavar="PRESET_OR_STUDY", nargs="+", help=names)
    sub.add_argument("--env", metavar="ID", help="a Gymnasium environment for all of them")
    sub.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1 of each (default 5, or as the study says)")
    at_a_time = "runs at a time: auto (default) is one for each processor core, or fewer if memory is short"
    sub.add_argument("--jobs", type=jobs, metavar="N", help=at_a_time)
    together = "train all seeds of a variant in one process, where their programs run as one"
    sub.add_argument("--vectorise", action="store_true", help=together)
    _set(sub)
    only = "the variants whose labels match, such as 'halfcheetah*' (default all)"
    sub.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help=only)
    sub.add_argument("--paper", action="store_true", help="the study as published, at its full cost")
    goal = "a return; the summary says when each run first reached it"
    sub.add_argument("--goal", type=float, metavar="RETURN", help=goal)
    where = "its directory; an existing study there is continued (default runs/studies/<study-with-dashes>)"
    sub.add_argument("--out", metavar="DIR", help=where)
    sub.add_argument("--dry-run", action="store_true", help="print what would be run, and write nothing")
    one = "execute this run alone, for job arrays: 0 to the number of runs - 1, seed by seed"
    sub.add_argument("--run", type=int, metavar="N", help=one)
    _ray(sub)
    _quiet(sub)


def _sweep(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", metavar="SWEEP", help="a YAML file, see docs/how-to/sweep.md")
    at_a_time = "runs at a time without Ray: auto (default) is one for each core, or fewer if memory is short"
    sub.add_argument("--jobs", type=jobs, metavar="N", help=at_a_time)
    _ray(sub)
    where = "its directory; an existing sweep there is continued (default runs/sweeps/<sweep>)"
    sub.add_argument("--out", metavar="DIR", help=where)
    sub.add_argument("--dry-run", action="store_true", help="print what would be run first, and write nothing")
    pinned = "refuse unless the code is committed and pushed, and write the commit to the directory"
    sub.add_argument("--pinned", action="store_true", help=pinned)
    _quiet(sub)


def _ray(sub: argparse.ArgumentParser) -> None:
    where = "use Ray: the cluster at this address, or else that of this machine, which is started if there is none"
    sub.add_argument("--ray", nargs="?", const="", metavar="ADDRESS", help=where)
    sub.add_argument("--cpus", type=float, metavar="N", help="processor cores of each run on Ray (default 1)")
    sub.add_argument("--gpus", type=float, metavar="F", help="GPUs of each run on Ray, such as 0.25 (default 0)")
    store = "where runs on Ray are kept if the nodes share no files: a folder of an object store, s3://bucket/folder"
    sub.add_argument("--store", metavar="URI", help=store)


def jobs(text: str) -> int | None:
    """A number, or None for `auto`; messages use this function's name."""
    return None if text == "auto" else int(text)


def _studies(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("family", metavar="FAMILY", nargs="?", help="only these, such as pets")


def _run_dir(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run_dir", metavar="RUN_DIR")


def _which_agent(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--trial", type=int, metavar="N", help="the agent of trial N (with train.save_all_models)")
    sub.add_argument("--best", action="store_true", help="the best agent of the run (with train.keep_best)")


def _trust(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--trust", action="store_true", help="run the code that a run names, even if it is not yours")


def _episodes(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--episodes", type=int, default=10, metavar="N", help="default 10")
    seed = "random seed of start states and noise (default 0)"
    sub.add_argument("--seed", type=int, default=0, metavar="S", help=seed)


def _set(sub: argparse.ArgumentParser) -> None:
    help = "change settings of the preset, see `foretell show`"
    sub.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY.PATH=VALUE", help=help)


def _quiet(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--quiet", action="store_true", help="print nothing")


_Command = tuple[str, Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], Any]]
_COMMANDS: dict[str, _Command] = {
    "train": ("train a preset", commands.train, _train),
    "resume": ("continue a run exactly where its newest checkpoint is", commands.resume, _resume),
    "study": ("train several presets with several seeds, and compare them", studies.study, _study),
    "sweep": ("search settings of presets: grids, random values, or Optuna", sweeps.sweep, _sweep),
    "studies": ("list the included studies", studies.studies, _studies),
    "eval": ("play fresh episodes with a trained agent", commands.evaluate, _eval),
    "inspect": (
        "play fresh episodes, and show how far the agent's targets trust its model there, or how far its model sees",
        commands.inspect,
        _inspect,
    ),
    "diagnose": (
        "play fresh episodes, and measure how accurate the agent's model and values are in them",
        commands.diagnose,
        _diagnose,
    ),
    "why": ("explain one action in a fresh episode: its plan, rejected candidates, uncertainty", commands.why, _why),
    "plot": ("draw the learning curves of runs, a mean with its spread for each preset", commands.plot, _plot),
    "report": ("write a page on what happened in runs and studies, to be opened offline", pages.report, _report),
    "watch": ("follow runs and studies in a browser as they are trained", pages.watch, _watch),
    "film": ("film past episodes of a run, including random ones", commands.film, _film),
    "export": ("write a trained agent as one file that runs without Foretell", commands.export, _export_agent),
    "export-mat": ("write a run's episodes as the released PETS code did", commands.export_mat, _export),
    "presets": ("list the presets, and the parts they can be combined with", listing.presets, _presets),
    "show": ("show what a preset resolves to, or what settings there are", listing.show, _show),
    "random": ("play episodes of random actions, and print their returns", commands.random, _random),
    "toy": ("the tabular toy study of STEVE: six ways to learn the values of a chain", commands.toy, _toy),
}
