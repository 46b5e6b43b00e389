"""A run so small that it takes about a second, and a look at everything it has written."""

import csv
import importlib
import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import pytest
import yaml

import foretell
from foretell import api
from foretell.experiments.executor import Ended
from foretell.runs.directory import RunDirectory
from foretell.training.events import Callback
from foretell.training.interrupt import Interrupted

LINE = "environments:tiny/Line-v0"
TINY: dict[str, Any] = {
    "model": {"members": 2, "hidden": [8], "weight_decay": 0.0},
    "fit": {"min_steps": 1, "epochs": 1},
    "reward_model": {"hidden": [8]},
    "reward_fit": {"min_steps": 1, "epochs": 1},
    "imagination": {"particles": 2},
    "planner": {"horizon": 2, "population": 6, "iterations": 1, "elites": 2, "kept_elites": 0},
    "train": {"trials": 2, "random_steps": 0, "capacity": 50},
}
"""Settings with which a run takes about a second, once its programs are compiled."""
TINY_SET = ["--set", *(f"{section}.{key}={value}" for section, keys in TINY.items() for key, value in keys.items())]


def tiny_run(out, *overrides, callbacks=(), seed=0, quiet=True, **schedule):
    """A whole run with these settings, on the line, and what else section `train` is to have."""
    options = {"env": LINE, "overrides": [TINY, {"train": schedule}, *overrides], "callbacks": callbacks}
    return foretell.train("pets/default", out=out, seed=seed, quiet=quiet, **options)


def results(run):
    """Everything that a run has produced and is the same for the same seed: all but wall times."""
    tables = []
    for path in filter(Path.exists, (run / "episodes.csv", run / "metrics.csv")):
        with path.open(newline="") as file:
            rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]
        tables.append([{k: v for k, v in row.items() if k != "compile_count"} for row in rows])
    return tables, [(path.name, path.read_bytes()) for path in sorted((run / "data").iterdir())]


def benchmark(name):
    """A module in `benchmarks/`, which are scripts and not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        return importlib.import_module(name)


def finished_run(member, cores, stop):
    """In place of a run: one that has finished two trials."""
    member.path.mkdir(parents=True)
    RunDirectory(member.path).write_config(member.arm.settings, member.arm.preset, member.seed)
    lines = "episode,env_steps,kind,return,length,wall_seconds\n0,200,train,-300,200,1\n1,400,train,-100,200,2\n"
    (member.path / "episodes.csv").write_text(lines)
    return Ended(member, 0)


def written_run(folder, preset, kind, returns):
    """A run directory with a random episode, and episodes of this kind that ended after so many steps."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"preset": preset, "seed": 3}))
    lines = ["episode,env_steps,kind,return,length,wall_seconds", "0,1000,random,-1,1000,1.0"]
    lines += [f"{i + 1},{steps},{kind},{value},1000,2.0" for i, (steps, value) in enumerate(returns)]
    (folder / "episodes.csv").write_text("\n".join(lines) + "\n")
    return folder


def quick_jit(function, *static):
    """Compile without optimising, which takes longer in a test than what it saves."""
    return jax.jit(function, static_argnums=static, compiler_options={"xla_backend_optimization_level": 0})


def on_host(function, *static):
    """Compiled without optimising; the results are NumPy's, of which JAX compiles nothing further."""
    run = quick_jit(function, *static)
    return lambda *args: jax.device_get(run(*args))


_work: list[str] = []
"""What JAX has traced, lowered, or compiled, in order."""
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: _work.append(event) if event.startswith("/jax/core/compile/") else None
)


@contextmanager
def nothing_compiled():
    """Check that JAX traces, lowers and compiles nothing within the block."""
    before = len(_work)
    yield
    assert _work[before:] == []


def by_hand(*values):
    """Values of a parameter that take part with `-m slow` alone."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def presses_at(hook: str, count: int) -> Callback:
    """A callback that presses Ctrl-C when its `on_<hook>` is called for the `count`th time."""

    class Presses(Callback):
        left = count

    def listen(self, event):
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)

    setattr(Presses, f"on_{hook}", listen)
    return Presses()


@contextmanager
def interrupted_at(hook: str, count: int):
    """Press Ctrl-C when the callbacks' `on_<hook>` is called for the `count`th time; the run within is then stopped."""
    usual, presses = api.default_callbacks, presses_at(hook, count)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted, match="foretell resume"):
        patch.setattr(api, "default_callbacks", lambda run, *, quiet: [*usual(run, quiet=quiet), presses])
        yield


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file, but for the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def read(descriptor):
    """What a terminal shows next; nothing once nobody has it open any more."""
    try:
        return os.read(descriptor, 2**16).decode(errors="replace")
    except OSError:
        return ""
