"""Speed of updates of MVE and STEVE: `python benchmarks/updates.py [steve] [mve]`.

`steve`: one update of the values and one of the model at the paper's sizes, together and apart, as a share of this
machine's own matrix-multiply rate at the shapes of the layers that cost most, the imagined ones.

`mve`: the same for the sizes of the released MVE, whose networks are small. An update of the values is timed at several
sizes of the minibatch. The constant part of a straight line through these times is the cost that does not depend on the
number of rows.

Times and shares mean something only with nothing else running.
"""

import argparse
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from foretell.agents.updates import repeat
from foretell.agents.value_expansion import ValueExpansion, ValueExpansionState
from foretell.compilation import COMPILER_OPTIONS
from foretell.keys import Stream, key_for
from foretell.models import LearnedModel, SteveModel
from foretell.nn import MLP
from foretell.replay import Replay, Transitions, add, init_replay
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.tasks.base import TaskSpec
from foretell.values.learners import TD3
from machine import best_seconds, describe, matmul_rate, network_flop, network_sizes

ROWS = 5000
"""Transitions in the replay."""


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
    """The agent of a preset, which makes one update of values and model for each new step, and random transitions."""
    one = {"per_step": 1.0, "pretraining": 0}
    if resolve(preset, [overrides]).updates.model_per_step is not None:  # null: one of the model with each of values
        one["model_per_step"] = 1.0
    settings = resolve(preset, [overrides, {"updates": one}])
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
    program, state = program_of(update), subject.state
    numbers = iter(range(10**9))

    def call():
        nonlocal state
        state, _ = jax.block_until_ready(program(state, subject.replay, np.int32(count), np.int32(next(numbers))))
        return state

    return best_seconds(call, repeats=repeats, inner=inner) / count


def program_of(update: Any) -> Any:
    """The program that makes updates of a state: `(state, replay, count, number of the call)`."""
    call_once = lambda *args: update(*args[:3], key_for(0, Stream.LEARN, args[3]))  # noqa: E731
    return jax.jit(call_once, compiler_options=COMPILER_OPTIONS)


def largest_shape(given: Subject) -> tuple[int, int, int, int]:
    """Members, rows and widths of the multiply of the largest layer, for `matmul_rate`."""
    state, model, rows = given.state, given.agent.model, given.agent.learner.batch_size
    networks = state.learner.critics
    if isinstance(model, SteveModel):
        networks = state.model.target.networks.transition
    if isinstance(model, LearnedModel):
        networks, rows = state.model.online.regressor.params.network, model.training.batch_size
    members, *widths = max((weight.shape for weight in networks.weights), key=np.prod)
    return (members, rows, *widths)


def steve_table(preset: str, assignments: list[str], count: int, repeats: int) -> Table:
    """Time and rate of an update with each rule of which member learns from which row, whole and in parts."""
    rows, limits = [], []
    for assignment in assignments:
        rule = {"assignment": assignment}
        given = subject(preset, {"model": rule, "learner": rule})
        for name, flop, update in _parts(given):
            rows.append((assignment, name, flop, update_seconds(given, update, count, repeats)))
            limits.append(matmul_rate(*largest_shape(given)))
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


def _table(title: str, columns: tuple[str, ...], left: int) -> Table:
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help="steve, mve (default: both)")
    parser.add_argument("--preset", default="steve/halfcheetah", help="what `steve` updates")
    rules = ("balanced", "independent")
    parser.add_argument(
        "--assignment", nargs="+", choices=rules, default=rules, help="who learns from a row in `steve`"
    )
    parser.add_argument("--updates", type=int, default=8, help="updates of `steve` in one program")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    console, tables = Console(width=120), args.tables or ["steve", "mve"]
    if "steve" in tables:
        console.print(steve_table(args.preset, args.assignment, args.updates, args.repeats))
    if "mve" in tables:
        console.print(mve_table(["mve/hc-0", "mve/hc-5", "mve/hc-5-notdk"], [64, 128, 256], 40, args.repeats))


if __name__ == "__main__":
    main()
