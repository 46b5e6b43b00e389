"""Diagnostics of policy optimisation: values of pairs in their scale, and returns that the policy is improved by."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.callbacks import diagnostics
from foretell.diagnostics.critics import imagined_returns, imagines_returns, pair_values
from foretell.diagnostics.examination import Examiner, Sizes
from foretell.models import ModelDefaults, Step
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.values.learners.state import ValueRange
from tiny import LINE, on_host, quick_jit

SMALL = {
    "task": {"env": LINE, "terminated": "none"},
    "model": {"members": 2, "hidden": [8]},
    "fit": {"min_steps": 2, "max_steps": 4, "batch_size": 8},
    "imagination": {"particles": 2},
    "learner": {"hidden": [8], "batch_size": 8, "initial_temperature": 1e-9},
    "branches": {"starts": 4, "horizon": 3, "every": 2},
    "updates": {"refit_every": 10, "critic_first": 2},
    "train": {"steps": 20, "steps_per_learning": 5, "random_steps": 10, "eval_episodes": 0, "capacity": 50},
}


class Paid(ModelDefaults):
    """Nothing moves, every step earns 1, and the last one is terminal if the action is positive."""

    particles = 2

    def init(self, key):
        return None

    def fit(self, state, replay, key):
        return state, {}

    def step(self, params, carry, action, key):
        return carry, Step(carry, jnp.ones((1, *carry.shape[:2])), 1.0 * (action[..., 0] > 0))


@cache
def agent_of(**changes):
    settings = resolve("dhmbpo/default", [SMALL, {"improvement": changes}])
    return settings.build(make_task(settings.task))


@cache
def untrained():
    return quick_jit(agent_of().init)(jax.random.key(0))


def test_values_are_in_the_scale_of_the_critics():
    """A range of values from -10 to 30: the centre is 10, and the critics' zeros stand for it."""
    agent, state = agent_of(), untrained()
    learner = state.learner._replace(value_range=ValueRange(jnp.float32(-10), jnp.float32(30), jnp.bool_(True)))
    obs, action, length = jnp.zeros((2, 4, 2)), jnp.zeros((2, 3, 1)), jnp.array([3, 2])
    values = on_host(lambda state: pair_values(agent, state, obs, action, length, jax.random.key(0)))
    critic, target, tail = values(state._replace(learner=learner))
    np.testing.assert_allclose(critic, np.full((2, 3), 10.0))
    np.testing.assert_allclose(target, critic)
    np.testing.assert_allclose(tail, [10.0, 10.0], rtol=1e-5)


@pytest.mark.parametrize(("kind", "steps"), [("gradient", 5), ("replay", 3)])
def test_the_imagined_return_is_that_of_the_model_and_then_the_value(kind, steps):
    """As long as the rollout with gradients, or as branches. Where the first action ends the episode it is 1."""
    agent = replace(agent_of(), model=Paid(), improvement=agent_of().improvement.model_copy(update={"kind": kind}))
    state = untrained()._replace(model=None)
    biased = state.learner.policy.biases
    for mean, expected in ((-50.0, sum(0.995**t for t in range(steps))), (50.0, 1.0)):
        policy = replace(state.learner.policy, biases=(*biased[:-1], biased[-1] + np.float32([mean, 0.0])))
        shifted = state._replace(learner=state.learner._replace(policy=policy))
        found = on_host(lambda state: imagined_returns(agent, state, jnp.zeros((3, 4, 2)), jax.random.key(1)))(shifted)
        np.testing.assert_allclose(found, np.full((3, 3), expected), rtol=1e-4)


def test_everything_is_measured_together():
    """Along the policy: errors of the model, of values and of imagined returns, and optimism of the model's rewards."""
    agent = agent_of()
    assert imagines_returns(agent)
    examiner = Examiner(agent, agent.task, Sizes(episodes=2, horizon=2, starts=4, oracle=(1,)), seed=0)
    try:
        found = examiner.examine(untrained(), [])
    finally:
        examiner.close()
    assert set(found.values.estimates) == {"critic", "target", "oracle_1", "imagined"}
    assert all(np.isfinite(a).all() and a.shape == (2, 5) for a in found.values.estimates.values())
    assert found.open_loop.planned_ikd.shape == (4, 2, 2) and found.discount == 0.995
    assert len(found.returns) == 2 and found.plan is None


@pytest.mark.slow
def test_a_run_writes_its_diagnostics(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnostics, "SIZES", Sizes(episodes=2, horizon=2, starts=4, oracle=(1,)))
    run = foretell.train(
        "dhmbpo/default", out=tmp_path / "run", overrides=[SMALL, {"train": {"diagnose_every": 8}}], quiet=True
    )
    header, *rows = (run.directory / "diagnostics.csv").read_text().splitlines()
    assert len(rows) == 1 and {"q_bias_imagined", "mse_2", "reward_bias", "action_noise"} <= {*header.split(",")}
