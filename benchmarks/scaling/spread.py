"""One run in one process, and with its parts in processes of Ray: synchronised, and free-running."""

import pickle
import tempfile
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np

from foretell.envs import empty_episodes
from foretell.errors import UserError
from foretell.experiments.executor import available_cores
from foretell.experiments.process import run_process
from foretell.remote.free_processes import BLOCK, Block
from foretell.runs.presets import parse_override, resolve
from foretell.tasks import make_task
from foretell.training.state import init_run, no_steps
from scaling.watching import FIRST, Watch, read, steps_and_updates

FREE = "train.free_running=true"


def cases() -> dict[str, tuple[list[str], list[str]]]:
    """Options and settings of each row."""
    found = {f"one process, lag {lag}": ([], [f"train.lag={lag}"]) for lag in (0, 1)}
    if not find_spec("ray"):
        return found
    for actors in (1, 2):
        options = ["--runtime", "ray", "--actors", str(actors)]
        plural = "s" * (actors > 1)
        found |= {f"Ray, lag {lag}, {actors} actor{plural}": (options, [f"train.lag={lag}"]) for lag in (0, 1)}
        found[f"Ray, free-running, {actors} actor{plural}"] = options, [FREE]
    return found


def measure(preset: str, env: str, settings: list[str]) -> list[dict]:
    """A row for each case."""
    return [{"case": name, **_measured(preset, env, settings, *case)} for name, case in cases().items()]


def _measured(preset: str, env: str, settings: list[str], options: list[str], more: list[str]) -> dict:
    """Rates of one run, and what its processes on Ray took for a step and for an update."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        words = ["train", preset, "--env", env, "--out", str(run), *options, "--set", *settings, *more]
        with Watch([run]) as watch:
            code, error, _ = run_process(words, run.with_suffix(".log"), tuple(available_cores()), lambda: False)
        if code:
            raise UserError(f"foretell {' '.join(words)}: {error}")
        steps, updates = steps_and_updates(run)
        processes = read(run / "processes.csv") if options else []
    model = _done(processes, "model learner") if FREE in more else updates
    rates = watch.rates(steps={run: steps}, updates={run: updates}, model_updates={run: model})
    return {**rates, "start s": watch.start, "total s": watch.seconds, **(costs(processes) if FREE in more else {})}


def _done(processes: list[dict[str, str]], name: str) -> np.ndarray:
    """What a process has done up to each row of metrics."""
    return np.cumsum([float(row["done"]) for row in processes if row["process"] == name])


def costs(processes: list[dict[str, str]]) -> dict[str, float]:
    """Seconds that an actor works for a step, and the learner of values for an update, after everything is compiled."""
    found = {}
    for name, kind in (("actor s/step", "actor"), ("learner s/update", "values learner")):
        times = sorted({float(row["seconds"]) for row in processes})[FIRST:]
        rows = [row for row in processes if row["process"].startswith(kind) and float(row["seconds"]) > times[0]]
        rows = [row for row in rows if float(row["done"])]
        worked = sum(float(row["busy"]) * float(row["done"]) / float(row["per_second"]) for row in rows)
        found[name] = worked / sum(float(row["done"]) for row in rows)
    return found


def sent(preset: str, env: str, settings: list[str]) -> list[dict]:
    """Bytes that processes of a free-running run send each other."""
    run = resolve(preset, [{"task": {"env": env}}, *map(parse_override, settings)])
    task = make_task(run.task)
    agent, spec = run.build(task), task.spec
    state, policy = init_run(agent, spec, run.train, 0)
    block = Block(no_steps(spec, BLOCK, 1), finished=[], unused=[], under_way=empty_episodes(spec, 1))
    things = {
        "policy": policy,
        "model": agent.model_params(state.agent),
        f"{BLOCK} steps": block.steps,
        "block with them": block,
    }
    return [{"what": name, "bytes": size(thing)} for name, thing in things.items()]


def size(tree: object) -> int:
    """Bytes of a tree of arrays, pickled as Ray does."""
    arrays = jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, tree)
    return len(pickle.dumps(arrays, protocol=5))
