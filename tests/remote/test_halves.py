"""Learning in two halves: together they compute what the whole agent does, but for rounding."""

from functools import partial

import jax
import numpy as np
import pytest

from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.learner import learn
from foretell.training.state import init_run
from tiny import quick_jit

STEVE = {
    "task": {"env": "Pendulum-v1"},
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "updates": {"per_step": 1.0, "pretraining": 600, "sync_policy_every": 8, "sync_model_every": 16},
    "train": {"capacity": 300, "steps_per_learning": 10, "random_steps": 20},
}
MVE = {
    "task": {"env": "Pendulum-v1"},
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8]},
    "fit": {"batch_size": 8},
    "updates": {
        "per_step": 0.5,
        "model_per_step": 0.5,
        "pretraining": 20,
        "sync_policy_every": None,
        "sync_model_every": None,
    },
    "train": {"capacity": 300, "steps_per_learning": 10, "random_steps": 20},
}
CALLS = 5


def agent_and_state(preset, changes):
    settings = resolve(preset, [changes])
    task = make_task(settings.task)
    agent = settings.build(task)
    state, _ = init_run(agent, task.spec, settings.train, 0)
    return agent, state


def new_steps(rng, like):
    drawn = jax.tree.map(
        lambda a: rng.normal(size=a.shape).astype(a.dtype) if a.dtype == np.float32 else np.zeros_like(a), like
    )
    return drawn._replace(valid=np.ones_like(like.valid))


assert_close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)


def with_online(state, online):
    return state._replace(model=state.model._replace(online=online))


@pytest.mark.long
@pytest.mark.parametrize("preset, changes", [("steve/default", STEVE), ("mve/default", MVE)])
def test_both_halves_compute_what_the_whole_agent_does(preset, changes):
    agent, start = agent_and_state(preset, changes)
    halves, replay = agent.halves(), start.replay
    host = jax.tree.map(np.array, start.agent)
    states = {
        "whole": host,
        "values": with_online(host, host.model.target),
        "model": host,
        "counting": host._replace(model=host.model._replace(online=np.int32(-1), target=np.int32(-1))),
    }
    agents = {"whole": agent, "values": halves.values, "model": halves.model, "counting": halves.counting}
    programs = {name: quick_jit(partial(learn, one)) for name, one in agents.items()}
    rng, renewed, versions = np.random.default_rng(0), [], []
    for number in range(CALLS):
        steps = new_steps(rng, start.collected.steps)
        states["counting"] = with_online(states["counting"], np.int32(number))
        found = {}
        for name in ("whole", "model", "counting", "values"):
            if name == "values":
                states[name] = with_online(states[name], states["model"].model.target)
            found[name] = programs[name](states[name], replay, steps, {}, np.int32(0), np.int32(number))
            states[name] = found[name][0]
        replay = found["whole"][2]
        whole, values, model = (jax.device_get(states[name]) for name in ("whole", "values", "model"))
        jax.tree.map(assert_close, whole.learner, values.learner)
        jax.tree.map(assert_close, whole.model.online, model.model.online)
        jax.tree.map(assert_close, whole.model.target, values.model.target)
        metrics = {**found["model"][3], **found["values"][3]}
        assert set(metrics) == set(found["whole"][3])
        for name, value in found["whole"][3].items():
            assert_close(metrics[name], value)
        renewed.append(int(states["counting"].model.target) == number)
        versions.append(int(found["counting"][1].version))
        assert versions[-1] == int(found["whole"][1].version)
    assert any(renewed[1:]) and versions[-1] > versions[0]
    if preset == "steve/default":
        assert not all(renewed)


def test_without_a_learned_model_the_values_are_all_there_is():
    agent, _ = agent_and_state("td3/default", {"task": {"env": "Pendulum-v1"}})
    assert agent.halves().model is None and agent.halves().values is agent


def test_an_agent_that_learns_between_episodes_has_no_halves():
    settings = resolve("pets/default", [{"task": {"env": "Pendulum-v1"}}])
    assert settings.build(make_task(settings.task)).halves() is None
