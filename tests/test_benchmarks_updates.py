"""The count of floating-point operations in `benchmarks/updates.py`."""

import math

import jax
import jax.numpy as jnp
import pytest

from foretell.replay import init_replay
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from tiny import benchmark

SBX = {"learner": {"hidden": [256, 256], "batch_size": 256, "policy_delay": 1}, "task": {"env": "HalfCheetah-v5"}}
INDEPENDENT = {"model": {"assignment": "independent"}, "learner": {"assignment": "independent"}}


@pytest.fixture(scope="module")
def updates():
    return benchmark("updates")


def abstract(preset, overrides):
    """An agent, and its state and a replay without their numbers."""
    settings = resolve(preset, [overrides])
    task = make_task(settings.task)
    agent = settings.build(task)
    replay = jax.eval_shape(lambda: init_replay(10, task.spec.obs_size, task.spec.action_size))
    return agent, jax.eval_shape(agent.init, jax.random.key(0)), replay


def multiplied(jaxpr):
    """Operations of all matrix multiplications of a program, of the dearest branch where it has a choice."""
    total = 0.0
    for equation in jaxpr.eqns:
        parts = [p for v in equation.params.values() for p in (v if isinstance(v, tuple) else (v,))]
        inner = [multiplied(part) for part in parts if hasattr(part, "eqns")]
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += max(inner, default=0.0) if equation.primitive.name == "cond" else times * sum(inner)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            terms = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2.0 * terms * math.prod(equation.outvars[0].aval.shape)
    return total


@pytest.mark.long
@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("steve/halfcheetah", {}),
        ("steve/halfcheetah", INDEPENDENT),
        ("steve/halfcheetah+ensemble-mve", {}),
        ("steve/halfcheetah+sac", {}),
        ("mve/hc-5", {}),
        ("mve/hc-5-notdk", {}),
        ("ddpg/default", SBX),
        ("td3/default", SBX),
        ("sac/default", SBX),
    ],
)
def test_operations_counted_are_those_of_the_program(updates, preset, overrides):
    agent, state, replay = abstract(preset, overrides)
    counted = updates.update_flop(agent, state)
    program = jax.make_jaxpr(agent._train_values)(state, replay, jax.random.key(0))
    # No gradient is needed with respect to what the first layers see, which the count ignores.
    assert multiplied(program) == pytest.approx(counted.values, rel=0.04)
    if state.model is None:
        assert counted.model == 0.0
    else:
        program = jax.make_jaxpr(agent._train_model)(state, replay, jax.random.key(0))
        assert multiplied(program) == pytest.approx(counted.model, rel=0.02)


def test_a_policy_trained_less_often_costs_less(updates):
    overrides = ({**SBX, "learner": {"policy_delay": delay}} for delay in (1, 2))
    always, delayed = (abstract("td3/default", changes)[:2] for changes in overrides)
    assert updates.update_flop(*delayed).values < updates.update_flop(*always).values


@pytest.mark.parametrize(("preset", "of_the_model"), [("mve/hc-5", 1.0), ("steve/halfcheetah", None)])
def test_an_update_is_one_of_values_and_one_of_the_model(updates, preset, of_the_model):
    settings = updates.subject(preset, {"learner": {"hidden": [8]}}).agent.updates
    assert (settings.per_step, settings.model_per_step) == (1.0, of_the_model)


@pytest.mark.long
def test_seconds_are_those_of_one_update(updates):
    """Three updates in each program, and one step of the state for each program."""
    given, called = updates.Subject(None, jnp.zeros(()), None), []

    def update(state, replay, count, key):
        called.append(count)
        return state + 1, {}

    assert 0 < updates.update_seconds(given, update, 3, repeats=2) < 60
    assert len(called) == 1


@pytest.mark.long
def test_parts_of_an_update_are_timed(updates):
    given = updates.subject("mve/hc-5", {"model": {"hidden": [8]}, "learner": {"hidden": [8]}})
    parts = updates._parts(given)
    assert [name for name, _, _ in parts] == ["values and model", "values", "model"]
    for _, flop, update in parts[1:]:
        assert flop > 0 and updates.update_seconds(given, update, 1, repeats=1) > 0


@pytest.mark.parametrize(
    ("preset", "overrides", "shape"),
    [
        ("steve/halfcheetah", {}, (4, 512, 512, 512)),
        ("mve/hc-5", {"model": {"hidden": [8, 32]}, "fit": {"batch_size": 3}}, (1, 3, 32, 18)),
        ("sac/default", SBX, (2, 256, 256, 256)),
    ],
)
def test_the_largest_layer_is_that_of_the_model_or_of_a_critic(updates, preset, overrides, shape):
    agent, state, replay = abstract(preset, overrides)
    assert updates.largest_shape(updates.Subject(agent, state, replay)) == shape
