"""Agents that are ready to be timed: one control step, and one call of training an ensemble."""

from typing import Any, NamedTuple

import jax
import numpy as np

from foretell.keys import Stream, key_for
from foretell.replay import Transitions, add
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.actor import begin_and_act
from foretell.training.state import init_run
from machine import network_flop, network_sizes


class Prepared(NamedTuple):
    """A function to compile, and what its multiplications are."""

    function: Any
    arguments: tuple[Any, ...]
    flop: float
    """Floating-point operations of the networks in one call; for `fit`, in one gradient step."""
    shape: tuple[int, int, int, int]
    """Members, rows and widths of the batched multiply of the first hidden layer: arguments of `matmul_rate`."""
    agent: Any


def planned(preset: str, *overrides: dict[str, Any]) -> Prepared:
    """One control step of an untrained agent of this preset, in all its environments."""
    settings = resolve(preset, list(overrides))
    task = make_task(settings.task)
    agent = settings.build(task)
    run, policy = init_run(agent, task.spec, settings.train, 0)
    count, planner, particles = settings.train.environments, agent.planner, agent.model.particles

    def act(policy, carry, obs, fresh, call):
        return begin_and_act(agent, Stream.ACT, policy, carry, obs, fresh, np.int32(0), call, explore=True)

    obs = np.zeros((count, task.spec.obs_size), np.float32)
    arguments = (policy, run.carry, obs, np.zeros(count, bool), np.int32(0))
    sizes, members = network_sizes(agent.model), settings.model.members
    rows = count * planner.population * particles
    flop = rows * planner.iterations * planner.horizon * network_flop(sizes)
    return Prepared(act, arguments, flop, (members, rows // members, sizes[1], sizes[2]), agent)


def fitted(preset: str, rows: int, *overrides: dict[str, Any]) -> Prepared:
    """One call of training the model of this preset on so many random rows."""
    settings = resolve(preset, list(overrides))
    task = make_task(settings.task)
    agent = settings.build(task)
    run, _ = init_run(agent, task.spec, settings.train, 0)
    generator = np.random.default_rng(0)
    obs = generator.normal(size=(rows + 1, task.spec.obs_size)).astype(np.float32)
    action = generator.normal(size=(rows, task.spec.action_size)).astype(np.float32)
    zeros = np.zeros(rows, np.float32)
    replay = jax.jit(add)(run.replay, Transitions(obs[:-1], action, zeros, obs[1:], zeros > 0))

    def learn(state, replay, call):
        return agent.learn(state, replay, key_for(0, Stream.LEARN, call))

    sizes, batch, members = network_sizes(agent.model), settings.fit.batch_size, settings.model.members
    flop = 3.0 * members * batch * network_flop(sizes)
    return Prepared(learn, (run.agent, replay, np.int32(0)), flop, (members, batch, sizes[1], sizes[2]), agent)
