"""The cases of `walk.py` for commands and functions, made from the parser and the signatures; what is right."""

import argparse
import importlib
import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

import bad_input
import foretell
import tiny_runs
from foretell import registry
from foretell.errors import UserError
from foretell.runs.trees import leaf_paths, value_at


class Fault(Exception):
    """What must not happen; its text says what did."""


class Case(NamedTuple):
    """One input."""

    name: str
    run: Callable[[], str]
    """Gives it to Foretell, in the working directory. Returns `refused`, `memory` or `accepted`; raises `Fault`."""
    seconds: int = 15
    """CPU time after which it is stopped if it goes on."""


class Found(NamedTuple):
    """What came of a case."""

    case: str
    outcome: str
    """`refused`, `accepted`, `memory`, `slow`; of a fault its text."""
    fault: bool = False


class Reached(BaseException):
    """The computation would begin here."""


def shorten() -> None:
    """End computations where they would begin: of runs, diagnoses, beliefs and servers.

    The run that is inspected is loaded once, and exported once with the arguments that work.
    """
    from foretell import api
    from foretell.callbacks import curve
    from foretell.page import live
    from foretell.run import examined, trained

    for place, name, instead in (
        (api, "make_loop", _beginning(api.make_loop)),
        (api, "load", _loading(api.load)),
        (trained, "content", _exporting(trained.content)),
        (examined, "Examiner", _reach),
        (examined, "live", _reach),
        (live.ThreadingHTTPServer, "serve_forever", _reach),
        (live, "_handler", _serving(live._handler)),
        (curve, "draw_learning_curve", lambda *args, **options: None),
    ):
        patch.object(place, name, instead).start()  # refuses names that are not there


def _reach(*args: Any, **options: Any) -> Any:
    raise Reached


def _beginning(make_loop: Any) -> Any:
    def begin(info: Any, callbacks: Any, elsewhere: Any) -> Any:
        if any(getattr(each, "walks", False) for each in callbacks):
            return make_loop(info, callbacks, elsewhere)
        raise Reached

    return begin


def _loading(load: Any) -> Any:
    def found(run_dir: Any, **options: Any) -> Any:
        same = isinstance(run_dir, str) and run_dir == "run"
        if not same or any(
            value is not None and value is not False for key, value in options.items() if key != "quiet"
        ):
            return load(run_dir, **options)
        if not _run:
            _run.append(load("run", quiet=True))
        return _run[0]

    return found


def _exporting(content: Any) -> Any:
    def export(format: str, agent: Any, state: Any, spec: Any, *, batch: int, platforms: Any) -> Any:
        if (batch, platforms) not in ((1, []), (1, ["cpu"])):
            return content(format, agent, state, spec, batch=batch, platforms=platforms)
        if format not in _exported:
            _exported[format] = content(format, agent, state, spec, batch=batch, platforms=platforms)
        return _exported[format]

    return export


def _serving(handler: Any) -> Any:
    """The page is made once."""

    def serve(watcher: Any) -> Any:
        watcher.page()
        return handler(watcher)

    return serve


_run: list[Any] = []
_exported: dict[str, Any] = {}

# Commands.

_SET = [f"{path}={value_at(tiny_runs.PLANNED, path)}" for path in leaf_paths(tiny_runs.PLANNED)]
_TINY = ["--set", *_SET, "train.trials=1"]
_FILLED = {
    "RUN_DIR": ["run"],
    "PRESET": ["pets/default"],
    "PRESET_OR_STUDY": ["pets/default"],
    "SWEEP": ["sweep.yaml"],
    "FAMILY": ["pets"],
    "WHAT": ["pets/default"],
}
"""Arguments that work, by their names in the help."""
_SMALL = {
    "train": ["--out", "new", *_TINY],
    "resume": ["--set", "train.trials=7"],
    "eval": ["--episodes", "1"],
    "inspect": ["--episodes", "1"],
    "diagnose": ["--episodes", "1", "--horizon", "2", "--starts", "4", "--oracle", "1"],
    "random": ["--episodes", "1", "--set", *_SET],
    "show": ["--set", *_SET],
    "study": ["--out", "new", "--dry-run", *_TINY],
    "sweep": ["--out", "new", "--dry-run"],
    "report": ["--model-seconds", "0", "--out", "new.html"],
    "watch": ["--port", "0"],
    "export": ["--out", "new"],
    "toy": ["--steps", "20", "--trials", "1", "--out", "new"],
}
"""Options with which a command takes no time."""
_FURTHER = {
    "train": [
        ["auto", "--env"],
        ["sac/default", "--env"],
        ["auto", "--env", "Pendulum-v1", "--set"],
        ["imitation/default", "--env", "Pendulum-v1", "--set", "train.pretrained="],
        ["sac/default", "--env", "Pendulum-v1", "--set", "task.action_repeat="],
    ],
    "study": [["pets/default", "--out", "new", *_TINY, "--run"]],
    "export": [["run", "--format", "onnx", "--out"], ["run", "--format", "onnx", "--batch"]],
}
"""Further arguments of commands; a word of every kind follows, joined to an equals sign."""


def commands() -> Iterator[Case]:
    """Every command with every option and argument: left out, without a value, and with every kind of value."""
    subparsers = importlib.import_module("foretell.cli.parser")._parsers()[1]
    yield from (_command([word], [word]) for word in bad_input.words())
    for name, sub in subparsers.items():
        given = [each for each in sub._actions if not each.option_strings]
        filled = [word for action in given for word in _FILLED[str(action.metavar)]]
        small = _SMALL.get(name, [])
        for words in ([], filled, small, [*filled, "more"], [*filled, *small], *_further(name)):
            yield _command([name, *words], [name, *words])
        for action in sub._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            for wrong in _wrong(action):
                own = {each.dest: _FILLED[str(each.metavar)] for each in given}
                changed = own | {action.dest: wrong} if action.dest in own else own | {"": [*small, *wrong]}
                yield _command([name, *(word for words in changed.values() for word in words)], [name, *wrong])


def _further(name: str) -> Iterator[list[str]]:
    for words in _FURTHER.get(name, ()):
        for word in bad_input.words():
            yield [*words[:-1], words[-1] + word] if words[-1].endswith("=") else [*words, word]


def _wrong(action: argparse.Action) -> Iterator[list[str]]:
    """The words of an option or an argument that is left out, or has some value."""
    if not action.option_strings:
        yield from ([word] for word in bad_input.words())
        return
    option = action.option_strings[-1]
    yield [option]
    if action.nargs == 0:
        yield from ([f"{option}={word}"] for word in ("", "x", "true"))
        return
    for word in bad_input.words():
        yield [f"{option}={word}"] if word.startswith("-") else [option, word]
        if action.nargs == "+":
            yield [option, "1", word]


def _command(argv: list[str], words: list[str]) -> Case:
    return Case(f"foretell {' '.join(map(bad_input.shown, words))}", lambda: _call(argv))


def _call(argv: list[str]) -> str:
    from foretell.cli import main

    before = content()
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(argv)
    said = err.getvalue()
    if code not in (0, 1, 2):
        raise Fault(f"exit code {code}")
    if "Traceback" in said + out.getvalue() and "--traceback" not in argv:
        raise Fault("a traceback was printed")
    if code == 0:
        return "accepted"
    return _refused(said.removeprefix("foretell: ").removesuffix("\n"), before, loud="--traceback" in argv)


# Functions.


def functions() -> Iterator[Case]:
    """Every argument of every public function and method with every kind of value."""
    for name in foretell.__all__:
        thing = getattr(foretell, name)
        if inspect.isfunction(thing):
            yield from _arguments(name, thing, lambda name=name: getattr(foretell, name))
    for name, method in inspect.getmembers(foretell.Run, inspect.isfunction):
        if not name.startswith("_"):
            yield from _arguments(f"Run.{name}", method, lambda name=name: getattr(_loaded(), name))
    examination = importlib.import_module("foretell.diagnostics.examination")
    for field in examination.Sizes._fields:
        for value in bad_input.objects():
            sizes = _TINY_SIZES | {field: value}
            call = lambda sizes=sizes: _loaded().diagnose(examination.Sizes(**sizes))  # noqa: E731
            yield Case(f"Run.diagnose(Sizes({field}={bad_input.shown(value)}))", lambda call=call: outcome(call))


_TINY_SIZES = {"episodes": 1, "horizon": 2, "starts": 4, "oracle": (1,)}
_WORKING: dict[str, Any] = {
    "preset": "pets/default",
    "run_dir": "run",
    "paths": ["run"],
    "names": "pets/default",
    "out": "new",
    "overrides": [tiny_runs.PLANNED, {"train": {"trials": 1}}],
    "obs": [1.0, 0.0, 0.0],
    "section": "planner",
    "kind": "mine",
}
"""Arguments that work, by name, of what has no default."""
_FEW: dict[str, dict[str, Any]] = {
    "train": {name: _WORKING[name] for name in ("out", "overrides")},
    "resume": {"overrides": {"train.trials": 7}},
    "study": {"overrides": _SET, "executor": lambda members, stop: iter(()), "seeds": 1},
    "film": {"episodes": [0]},
    "Run.evaluate": {"episodes": 1},
    "Run.inspect": {"episodes": 1},
    "Run.export": {"out": "new"},
    "write_report": {"out": "new.html", "model_seconds": 0},
}
"""Arguments with which a function takes no time."""


def _loaded() -> Any:
    """The run in the working directory."""
    return foretell.load("run", quiet=True)


def _arguments(name: str, function: Callable, get: Callable[[], Callable]) -> Iterator[Case]:
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    needed = {each.name: _WORKING[each.name] for each in parameters if each.default is inspect.Parameter.empty}
    quiet = {"quiet": True} if any(each.name == "quiet" for each in parameters) else {}
    for parameter in parameters:
        for value in bad_input.objects():
            given = {**needed, **_FEW.get(name, {}), **quiet, parameter.name: value}
            call = lambda given=given: _finished(get()(**given))  # noqa: E731
            yield Case(f"{name}({parameter.name}={bad_input.shown(value)})", lambda call=call: outcome(call))


def _finished(result: Any) -> None:
    """Use what was returned."""
    if isinstance(result, Iterator):
        list(islice(result, 3))
    elif isinstance(result, foretell.Run):
        result.act(np.zeros(result.task.spec.obs_size))
    elif callable(result):  # a decorator
        registered = {section: dict(kinds) for section, kinds in registry._registered.items()}
        result(type("Mine", (), {}))
        registry._registered.update(registered)


# What is right.


def outcome(call: Callable[[], Any]) -> str:
    before = content()
    try:
        call()
    except UserError as error:
        return _refused(str(error), before)
    return "accepted"


_THEIRS = "the executor failed ("
"""How the sentence for a failure of the user's own code begins, which comes at any time."""


def _refused(text: str, before: Mapping[str, Any], *, loud: bool = False) -> str:
    """What a refusal is; raises `Fault` unless it is one sentence, before anything has been written."""
    if not loud:
        check_sentence(text)
    if "more memory than there is" in text:
        return "memory"
    if text.startswith(_THEIRS):
        return "refused"
    if (after := content()) != before:
        changed = sorted(str(path) for path in before.keys() ^ after.keys()) or ["its files"]
        raise Fault(f"'{text}', but only after it had written {', '.join(changed[:3])}")
    return "refused"


def check_sentence(text: str) -> None:
    if not text.strip() or not text.isprintable() or len(text) > 1210:
        raise Fault(f"no sentence: {text!r}")
    if any(mark in text for mark in ("Traceback", "pydantic", "NoneType' object", "has no attribute")):
        raise Fault(f"no sentence for a user: {text}")


def content() -> dict[str, int]:
    """Every file in the working directory, with its time of change."""
    files = (path for path in Path().rglob("*") if path.is_file() and path.name not in (".lock", "own.yaml"))
    return {str(path): path.stat().st_mtime_ns for path in files}
