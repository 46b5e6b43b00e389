"""Speed of updates of actor-critic learners, MVE and STEVE: `python benchmarks/updates.py [steve] [mve] [learners]`.

`steve`: one update of the values and one of the model at the paper's sizes, together and apart, as a share of this
machine's own matrix-multiply rate at the shapes of the layers that cost most, the imagined ones.

`mve`: the same for the sizes of the released MVE, whose networks are small. An update of the values is timed at several
sizes of the minibatch. The constant part of a straight line through these times is the cost that does not depend on the
number of rows.

`learners`: updates of DDPG, TD3 and SAC at the sizes of SBX (Stable Baselines in JAX), and whole environment steps,
each with one update. With `--peer PYTHON`, the Python of an environment where `pip install sbx-rl 'gymnasium[mujoco]'`
was run, SBX itself is timed too, by `peers/sbx_updates.py`. `--install-peer` makes that environment in the user's cache
directory, with the versions of JAX, Gymnasium and MuJoCo that are used here (several GB, most of it PyTorch).

Times and shares mean something only with nothing else running.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import platformdirs
from rich.console import Console
from rich.table import Table

from foretell.agents.updates import repeat
from foretell.agents.value_expansion import ValueExpansion, ValueExpansionState
from foretell.callbacks import CSVLog
from foretell.compilation import COMPILER_OPTIONS
from foretell.keys import Stream, key_for
from foretell.models import LearnedModel, SteveModel
from foretell.nn import MLP
from foretell.replay import Replay, Transitions, add, init_replay
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.tasks.base import TaskSpec
from foretell.training.events import Callback, RunInfo, StepTaken
from foretell.training.loop import Loop
from foretell.values.learners import TD3
from machine import best_seconds, describe, matmul_rate, network_flop, network_sizes

ROWS = 5000
"""Transitions in the replay."""
LEARNERS = ("ddpg", "td3", "sac")
PEER_PACKAGES = ("sbx-rl", "gymnasium[mujoco]")
SAME_VERSIONS = ("jax", "jaxlib", "gymnasium", "mujoco", "numpy")
WARM, BLOCK = 500, 1000
"""Environment steps before the clock starts, and steps that are timed together."""


class UpdateFlop(NamedTuple):
    """Floating-point operations of the matrix multiplications of one update."""

    values: float
    model: float


def update_flop(agent: ValueExpansion, state: ValueExpansionState) -> UpdateFlop:
    """Of an update of the learner, and of one of the model.

    A network is trained at the cost of three forward passes, the first one included; a gradient with respect to its
    inputs alone costs two. A policy that is trained at every second update costs half.
    """
    values, model = _learner_flop(agent, state), 0.0
    if isinstance(agent.model, SteveModel) and state.model is not None:
        settings, batch_size = agent.model.settings, agent.model.training.batch_size
        transition, reward, termination = map(_row_flop, state.model.online.networks)
        frames = agent.expansion.horizon * settings.members * agent.learner.batch_size
        values += frames * (transition + settings.reward_members * reward + termination)
        everyone = settings.assignment == "independent"
        predicted = (settings.members if everyone else 1) * (transition + termination)
        predicted += (settings.reward_members if everyone else 1) * reward
        model = 3.0 * batch_size * predicted
    if isinstance(agent.model, LearnedModel):
        dynamics = network_flop(network_sizes(agent.model))
        values += agent.expansion.horizon * agent.model.particles * agent.learner.batch_size * dynamics
        model = 3.0 * agent.model.regressor.members * agent.model.training.batch_size * dynamics
    return UpdateFlop(values, model)


def _learner_flop(agent: ValueExpansion, state: ValueExpansionState) -> float:
    """Of actions and values of all frames, of training the critics, and of training the policy."""
    learner, expansion = agent.learner, agent.expansion
    policy, critic, batch = _row_flop(state.learner.policy), _row_flop(state.learner.critics), learner.batch_size
    particles, frames = agent.model.particles if agent.model else 1, expansion.horizon + 1
    targets = frames * particles * batch * (policy + learner.critics * learner.pair * critic)
    pairs = batch * (frames * particles if expansion.tdk else 1)
    trained = learner.pair * (learner.critics if learner.assignment == "independent" else 1)
    judges = learner.critics * (1 if isinstance(learner, TD3) else learner.pair)
    actor = batch * (3.0 * policy + 2.0 * judges * critic) / learner.policy_delay
    return targets + 3.0 * pairs * trained * critic + actor


def _row_flop(network: MLP | None) -> float:
    """Of one member's forward pass of one row; none where the task says what a network would."""
    if network is None:
        return 0.0
    widths = (weight.shape[1] for weight in network.weights)
    return network_flop((*widths, network.weights[-1].shape[2]))


class Subject(NamedTuple):
    """An agent that has begun to act, and data to learn from."""

    agent: ValueExpansion
    state: ValueExpansionState
    replay: Replay


def subject(preset: str, overrides: dict[str, Any]) -> Subject:
    """The agent of a preset, which makes one update for each new step, and random transitions."""
    settings = resolve(preset, [overrides, {"updates": {"per_step": 1.0, "pretraining": 0}}])
    task = make_task(settings.task)
    agent = settings.build(task)
    state = jax.jit(agent.init)(key_for(0, Stream.INIT))
    return Subject(agent, state._replace(calls=state.calls + 1), random_replay(task.spec, ROWS))


def random_replay(spec: TaskSpec, rows: int) -> Replay:
    """A full replay of transitions that have nothing to do with each other."""
    generator = np.random.default_rng(0)
    obs, next_obs = generator.normal(size=(2, rows, spec.obs_size)).astype(np.float32)
    action = generator.uniform(spec.action_low, spec.action_high, (rows, spec.action_size)).astype(np.float32)
    reward = generator.normal(size=rows).astype(np.float32)
    data = Transitions(obs, action, reward, next_obs, np.zeros(rows, bool))
    return jax.jit(add)(init_replay(rows, spec.obs_size, spec.action_size), data)


def update_seconds(subject: Subject, update: Any, count: int, repeats: int, inner: int = 1) -> float:
    """Seconds of one update where `update(state, replay, count, key)` makes so many in one program."""
    call_once = lambda *args: update(*args[:3], key_for(0, Stream.LEARN, args[3]))  # noqa: E731
    program, state = jax.jit(call_once, compiler_options=COMPILER_OPTIONS), subject.state
    numbers = iter(range(10**9))

    def call():
        nonlocal state
        state, _ = jax.block_until_ready(program(state, subject.replay, np.int32(count), np.int32(next(numbers))))
        return state

    return best_seconds(call, repeats=repeats, inner=inner) / count


def steve_table(preset: str, assignments: list[str], count: int, repeats: int) -> Table:
    """Time and rate of an update with each rule of which member learns from which row, whole and in parts."""
    rows, limits = [], []
    for assignment in assignments:
        rule = {"assignment": assignment}
        given = subject(preset, {"model": rule, "learner": rule})
        members, *widths = max((w.shape for w in given.state.model.target.transition.weights), key=np.prod)
        for name, flop, update in _parts(given):
            rows.append((assignment, name, flop, update_seconds(given, update, count, repeats)))
            limits.append(matmul_rate(members, given.agent.learner.batch_size, *widths))
    limit = max(limits)  # the same shape every time, in the same minutes
    columns = ("assignment", "updates of", "ms", "updates/s", "GFLOP", "GFLOP/s", "share")
    title = f"one update, {preset}, matmul {limit / 1e9:.0f} GFLOP/s, {describe()}"
    table = _table(title, columns, left=2)
    for assignment, name, flop, seconds in rows:
        rate = flop / seconds
        numbers = (f"{1e3 * seconds:.1f}", f"{1 / seconds:.2f}", f"{flop / 1e9:.1f}", f"{rate / 1e9:.0f}")
        table.add_row(assignment, name, *numbers, f"{100 * rate / limit:.0f} %", end_section=name == "model")
    return table


def mve_table(presets: list[str], batch_sizes: list[int], count: int, repeats: int) -> Table:
    """Time and rate of an update of the values at each batch size, and of one of the model, for each preset."""
    columns = ("preset", "updates of", "rows", "ms", "GFLOP", "GFLOP/s", "matmul", "share", "constant ms")
    table = _table(f"one update of the released MVE, {describe()}", columns, left=2)
    for preset in presets:
        seconds = []
        for rows in batch_sizes:
            given = subject(preset, {"learner": {"batch_size": rows}})
            _, (_, flop, update), (_, model_flop, model_update) = _parts(given)
            seconds.append(update_seconds(given, update, count, repeats))
            _add_mve_row(table, preset, "values", rows, flop, seconds[-1], _constant(batch_sizes, seconds))
        rows = given.agent.model.training.batch_size  # type: ignore[union-attr]
        _add_mve_row(table, preset, "model", rows, model_flop, update_seconds(given, model_update, count, repeats), "")
        table.add_section()
    return table


def _constant(batch_sizes: list[int], seconds: list[float]) -> str:
    """Milliseconds of an update of no rows, by a straight line through the times so far."""
    if len(seconds) < 2:
        return ""
    return f"{1e3 * np.polyfit(batch_sizes[: len(seconds)], seconds, 1)[1]:.2f}"


def _add_mve_row(table: Table, preset: str, part: str, rows: int, flop: float, seconds: float, constant: str) -> None:
    width = 128 if part == "model" or not preset.endswith("-0") else 64  # of the layers that cost most
    limit, rate = matmul_rate(1, rows, width, width), flop / seconds
    numbers = (f"{1e3 * seconds:.2f}", f"{flop / 1e9:.3f}", f"{rate / 1e9:.1f}", f"{limit / 1e9:.0f}")
    table.add_row(preset, part, str(rows), *numbers, f"{100 * rate / limit:.0f} %", constant)


def _parts(given: Subject) -> list[tuple[str, float, Any]]:
    """(name, FLOP, function for `update_seconds`) of a whole update and its two halves."""
    agent, flop = given.agent, update_flop(given.agent, given.state)

    def alone(update: Any) -> Any:
        return lambda state, replay, count, key: repeat(count, partial(update, replay=replay), state, key)

    return [
        ("values and model", sum(flop), learn_from(agent)),
        ("values", flop.values, alone(agent._train_values)),
        ("model", flop.model, alone(agent._train_model)),
    ]


def learn_from(agent: ValueExpansion) -> Any:
    """The agent's `learn` as a function for `update_seconds`."""
    return lambda state, replay, count, key: agent.learn(state, replay._replace(new=count), key)


def learner_overrides(env: str, per_call: int) -> dict[str, Any]:
    """The sizes of SBX, and as often an update, and a newer policy, as there."""
    schedule = {"steps_per_learning": per_call, "random_steps": 100, "eval_episodes": 0, "capacity": ROWS}
    return {
        "task": {"env": env},
        "learner": {"hidden": [256, 256], "batch_size": 256, "target_tau": 0.005},
        "updates": {"per_step": 1.0, "pretraining": 0, "sync_policy_every": 1},
        "train": schedule,
    }


class Timer(Callback):
    """The time of every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, event: StepTaken) -> None:
        self.times.append(time.perf_counter())


def step_seconds(name: str, env: str, per_call: int, blocks: int) -> float:
    """Seconds of one environment step of a run, its files included, in the best of some blocks of steps."""
    steps = {"train": {"steps": WARM + blocks * BLOCK + 1}}
    settings, timer = resolve(f"{name}/default", [learner_overrides(env, per_call), steps]), Timer()
    task = make_task(settings.task)
    preset = f"{name}/default"
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory.create(Path(folder) / "run", overwrite=False)
        directory.write_config(settings, preset, 0)
        agent, schedule = settings.build(task), settings.train
        run = RunInfo(directory=directory, preset=preset, seed=0, task=task, agent=agent, schedule=schedule)
        Loop(run, [CSVLog(), timer]).run()
    return float(min(np.diff(timer.times[WARM::BLOCK]))) / BLOCK


class Plan(NamedTuple):
    """What is timed of the learners, here and by the peer."""

    env: str
    repeats: int
    blocks: int
    """Blocks of environment steps, of which the best counts."""

    def calls(self, count: int) -> int:
        """Calls of a program that makes `count` updates, timed together."""
        return max(2, -(-200 // count))


def learner_table(plan: Plan, counts: list[int], peer: Path | None) -> Table:
    """Updates and environment steps of each learner, beside the peer's if there is one."""
    columns = ("learner", "at a time", "updates/s", "SBX", "ratio", "step ms", "SBX", "ratio")
    table = _table(f"2 x 256 networks, 256 rows, {plan.env}, {describe()}", columns, left=1)
    for name in LEARNERS:
        for count in counts:
            given = subject(f"{name}/default", learner_overrides(plan.env, count))
            update = update_seconds(given, learn_from(given.agent), count, plan.repeats, plan.calls(count))
            step = step_seconds(name, plan.env, count, plan.blocks)
            his = time_peer(peer, name, count, plan) if peer else {}
            rates = (f"{1 / update:.0f}", *_beside(update, his.get("update"), lambda s: f"{1 / s:.0f}"))
            table.add_row(name, str(count), *rates, f"{1e3 * step:.2f}", *_beside(step, his.get("step"), _milliseconds))
        table.add_section()
    return table


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def _beside(seconds: float, his: float | None, show: Any) -> tuple[str, str]:
    """The peer's number, and how many times faster this is."""
    return ("-", "-") if his is None else (show(his), f"{his / seconds:.2f}")


def _table(title: str, columns: tuple[str, ...], left: int) -> Table:
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right")
    return table


def install_peer() -> Path:
    """The Python of an environment with SBX, made if there is none."""
    folder = Path(platformdirs.user_cache_dir("foretell")) / "sbx"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    same = [f"{name}=={version(name)}" for name in SAME_VERSIONS]
    _run(sys.executable, "-m", "venv", str(folder))
    _run(str(python), "-m", "pip", "install", "--quiet", *PEER_PACKAGES, *same)
    return python


def time_peer(python: Path, algorithm: str, count: int, plan: Plan) -> dict[str, float]:
    """Seconds of its update and of its step, as its own script tells."""
    script = Path(__file__).parent / "peers" / "sbx_updates.py"
    words = f"--algorithm {algorithm} --per-call {count} --calls {plan.calls(count)} --repeats {plan.repeats}".split()
    words += f"--env {plan.env} --warm {WARM} --block {BLOCK} --blocks {plan.blocks}".split()
    return json.loads(_run(str(python), str(script), *words).splitlines()[-1])


def peer_python(args: argparse.Namespace) -> Path | None:
    """The Python of an environment with SBX; none if it was not asked for or, which is told, cannot be had."""
    if not (args.peer or args.install_peer):
        return None
    try:
        python = args.peer or install_peer()
        told = _run(str(python), "-c", "import jax, sbx; print(sbx.__version__, 'on jax', jax.__version__)")
        print(f"beside SBX {told.strip()}")
        return python
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        print(f"SBX is not timed, since it could not be installed or imported: {said}")
        return None


def _run(*command: str) -> str:
    """What a command prints, on the same kind of device."""
    environ = {**os.environ, "JAX_PLATFORMS": jax.default_backend()}
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help="steve, mve, learners (default: all)")
    parser.add_argument("--preset", default="steve/halfcheetah", help="what `steve` updates")
    rules = ("balanced", "independent")
    parser.add_argument(
        "--assignment", nargs="+", choices=rules, default=rules, help="who learns from a row in `steve`"
    )
    parser.add_argument("--updates", type=int, default=8, help="updates of `steve` in one program")
    parser.add_argument("--env", default="HalfCheetah-v5", help="the environment of `learners`")
    parser.add_argument("--per-call", type=int, nargs="+", default=[1, 20], help="updates of `learners` in one program")
    parser.add_argument("--blocks", type=int, default=3, help=f"blocks of {BLOCK} environment steps, the best counts")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", type=Path, help="the Python of an environment with SBX")
    parser.add_argument("--install-peer", action="store_true", help="make that environment in the user's cache")
    args = parser.parse_args()
    console, tables = Console(width=120), args.tables or ["steve", "mve", "learners"]
    if "steve" in tables:
        console.print(steve_table(args.preset, args.assignment, args.updates, args.repeats))
    if "mve" in tables:
        console.print(mve_table(["mve/hc-0", "mve/hc-5", "mve/hc-5-notdk"], [64, 128, 256], 40, args.repeats))
    if "learners" in tables:
        plan = Plan(args.env, args.repeats, args.blocks)
        console.print(learner_table(plan, args.per_call, peer_python(args)))


if __name__ == "__main__":
    main()
