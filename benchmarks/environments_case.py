"""Environments with a preset, from the command line: trained, killed, resumed, evaluated and filmed.

`environments.py` runs this file with the Python of a group of packages. The run that is killed has a process of its
own, and so have the commands after it; both are forked, so that Foretell and the package are imported once.
"""

import argparse
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HORIZON = 12
SETTINGS: dict[str, dict[str, Any]] = {
    "pets/default": {
        "model": {"members": 2, "hidden": [8]},
        "fit": {"min_steps": 1, "epochs": 1},
        "reward_model": {"hidden": [8]},
        "reward_fit": {"min_steps": 1, "epochs": 1},
        "imagination": {"particles": 2},
        "planner": {"horizon": 2, "population": 6, "iterations": 1, "elites": 2, "kept_elites": 0},
        "train": {"trials": 2, "random_steps": 0, "capacity": 100},
    },
    "sac/default": {
        "learner": {"hidden": [8], "batch_size": 8},
        "updates": {"per_step": 0.5, "pretraining": 5},
        "train": {"steps": 60, "steps_per_learning": 5, "random_steps": 10, "eval_every": 60, "log_every": 20}
        | {"capacity": 100, "eval_episodes": 1},
    },
}
"""Settings of each preset with which a run takes seconds."""
SAVES = {"pets/default": 16, "sac/default": 8}
"""The checkpoint of each preset after which a run is killed; the agent has learned before."""
STEPS = 3
"""Steps from then to the kill."""
CPU_SECONDS, SECONDS = 300, 7200.0
"""Time of the processor, and wall time, after which a process is stopped; it may have little of a shared core."""
TIME_UP = -9999
"""The exit code of a command that was stopped."""
COMMANDS = ("train", "resume", "eval", "film")
_SENTENCE = re.compile(r"^foretell: (.*)$", re.MULTILINE)
_FOLDER = re.compile(r"\S*/site-packages/")
_RESUMED = {"continues from the physical state": "physical state", "continues with a new episode": "new episode"}
"""How a run says that it could not repeat its episode, and what the table says."""


class Ending(NamedTuple):
    """How a command ended."""

    what: str
    """`killed`, `yes`, `refused`, `fault`, `time is up`; of a resumed run how it continued."""
    note: str = ""
    """The sentence of a refusal, or the last line of a failure."""


def run_case(env: str, preset: str, options: list[str], folder: Path) -> dict[str, str]:
    """Run all commands for one environment; a row of the table.

    Args:
        env: the name of the environment.
        preset: the preset.
        options: settings that the environment needs, `key=value`.
        folder: where the run goes.
    """
    before, run = _cpu_seconds(), folder / "run"
    folder.mkdir(parents=True, exist_ok=True)
    train = ["train", preset, "--env", env, "--out", str(run), "--overwrite", "--set", *settings(preset), *options]
    ends = forked({"train": train}, folder, kill_after=SAVES[preset])
    if ends["train"].what == "killed":
        film = ["film", str(run), "--episodes", "0"]
        resume = ["resume", str(run), "--set", "train.checkpoint_seconds=30"]
        commands = {"resume": resume, "eval": ["eval", str(run), "--episodes", "1"], "film": film}
        ends |= forked(commands, folder)
    row = sizes(run) | {name: ends[name].what if name in ends else "" for name in COMMANDS}
    note = next((end.note for end in ends.values() if end.note), "")
    return row | {"outcome": outcome(row), "note": note, "cpu_seconds": f"{_cpu_seconds() - before:.0f}"}


def sizes(run: Path) -> dict[str, str]:
    """Of observations and actions, in the first episode of a run."""
    episode = run / "data" / "episode_0000.npz"
    if not episode.is_file():
        return {}
    with np.load(episode) as data:
        return {name: str(data[name].shape[-1]) for name in ("observations", "actions")}


def _cpu_seconds() -> float:
    """Of the finished processes that this one has started."""
    times = os.times()
    return times.children_user + times.children_system


def settings(preset: str) -> list[str]:
    """The settings of a preset as words of a command."""
    sections = {"task": {"horizon": HORIZON}, **SETTINGS[preset]}
    sections["train"] = {**sections["train"], "checkpoint_seconds": 0.001}
    return [f"{section}.{key}={json.dumps(value)}" for section, keys in sections.items() for key, value in keys.items()]


def ending(name: str, code: int, output: str) -> Ending:
    """How a command ended: its exit code, and what it printed."""
    if code in (TIME_UP, -signal.SIGXCPU):
        spent = f"{SECONDS:.0f} seconds" if code == TIME_UP else f"{CPU_SECONDS} seconds of the processor"
        return Ending("time is up", f"{name} took more than {spent}")
    if code == 2 and _SENTENCE.search(output):
        return Ending("refused", _FOLDER.sub("", _SENTENCE.findall(output)[-1]))
    if code != (-signal.SIGKILL if name == "train" else 0):
        lines = [line for line in output.splitlines() if line.strip()]
        return Ending("fault", f"{name} ended with {code}: {(lines or ['it printed nothing'])[-1]}")
    if name == "resume":
        return Ending(next((said for text, said in _RESUMED.items() if text in output), "exactly"))
    return Ending({"train": "killed", "eval": "yes", "film": "yes"}[name])


def outcome(row: dict[str, str]) -> str:
    """`ok` if everything works but filming, which some environments refuse; else how it ended."""
    ends = [row[name] for name in COMMANDS]
    if "fault" in ends or "time is up" in ends:
        return "fault"
    return "ok" if all(ends) and "refused" not in ends[:3] else "refused"


def forked(commands: dict[str, list[str]], folder: Path, *, kill_after: int | None = None) -> dict[str, Ending]:
    """Run commands of Foretell, one after the other, in a process of their own; how they ended, up to a failure."""
    for name in commands:
        for path in _files(folder, name):
            path.unlink(missing_ok=True)
    if not (pid := os.fork()):
        _child(commands, folder, kill_after)
    end = time.monotonic() + SECONDS
    while not (found := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.05)
    if not found[0]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    own = os.waitstatus_to_exitcode(found[1]) if found[0] else TIME_UP
    return {name: _read(folder, name, own) for name in commands if _files(folder, name)[0].exists()}


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """What a command printed, and its exit code."""
    return folder / f"{name}.txt", folder / f"{name}.code"


def _read(folder: Path, name: str, otherwise: int) -> Ending:
    printed, code = _files(folder, name)
    return ending(name, int(code.read_text()) if code.exists() else otherwise, printed.read_text(errors="replace"))


def _child(commands: dict[str, list[str]], folder: Path, kill_after: int | None) -> None:
    """The rest of the process that runs commands."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 10))
    if kill_after is not None:
        kill_in_an_episode(kill_after)
    for name, words in commands.items():
        printed, ended = _files(folder, name)
        with printed.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        code = 1
        try:
            code = import_module("foretell.cli").main(words)
            sys.stdout.flush()
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        ended.write_text(str(code))
        if code:
            break
    os._exit(0)


def kill_in_an_episode(after: int) -> None:
    """Let this process end by SIGKILL some steps after so many checkpoints."""
    border, saver = import_module("foretell.tasks.border").Border, import_module("foretell.training.saver").Saver
    step, save, left, saves = border.step, saver.save, [STEPS], [after]

    def saving(self: Any, *args: Any) -> Any:
        saves[0] -= 1
        return save(self, *args)

    def stepping(self: Any, action: Any) -> Any:
        left[0] -= saves[0] <= 0
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, action)

    border.step, saver.save = stepping, saving


def prepare() -> None:
    """Import what the commands need; the figure of the learning curve, which takes longer than a run, is left out."""
    for name in ("foretell.cli.commands", "foretell.report.video", "foretell.envs.workers"):
        import_module(name)
    import_module("foretell.report.video").choose_renderer()  # as `film` does before it imports the environment
    curve = import_module("foretell.callbacks.curve")
    curve.draw_learning_curve = lambda *args, **options: None  # type: ignore[attr-defined]


def import_package(name: str) -> str:
    """Import a package; the last line of the error if that fails."""
    try:
        import_module(name)
    except BaseException as error:  # whatever the package raises
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the runs")
    parser.add_argument("cases", help="JSON: a list of {env, preset, options}")
    args = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some packages print when they are imported
    prepare()
    for case in json.loads(args.cases):
        wrong = import_package(case["env"].split(":")[0]) if ":" in case["env"] else ""
        folder = args.folder / re.sub(r"\W+", "-", f"{case['env']}-{case['preset']}")
        row = {"outcome": "cannot be imported", "note": wrong} if wrong else run_case(**case, folder=folder)
        print(json.dumps({"env": case["env"], "preset": case["preset"], **row}), file=answers, flush=True)


if __name__ == "__main__":
    main()
