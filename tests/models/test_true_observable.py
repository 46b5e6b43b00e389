"""The true model of MVE's robots: plans from observed states give what the simulator then gives, ends included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.models import TrueModel, open_loop, rollout, start
from foretell.tasks import TaskSettings, make_task

TASKS = ("cheetah", "swimmer", "walker2d", "hopper", "ant", "humanoid", "pusher", "acrobot")
ENDING = {
    "ant": {"z_velocity": 3.0},
    "acrobot": {"cos_1": np.cos(2.0), "sin_1": np.sin(2.0), "cos_2": 1.0, "sin_2": 0.0, "velocity_1": 2.0},
    "humanoid": {"z_velocity": -3.0},
    "hopper": {"pitch_velocity": 3.0},
    "walker2d": {"pitch": 0.9, "pitch_velocity": 9.0},
}
"""Where an episode soon terminates."""
STEPS = 20


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs where it runs that a model of Gymnasium's is written in an old way."""
    monkeypatch.chdir(tmp_path)


def imagined(task, obs, plans):
    """Observations, rewards and terminations of plans `[rows, steps, action]` from observations `[rows, obs]`."""
    model, key = TrueModel(task, 2), jax.random.key(0)

    @jax.jit
    def play(obs, plans):
        found = rollout(model, (), start(model, (), obs, key, 1), open_loop(plans, 1), STEPS, key)
        return found.obs[1:, 0], found.reward[:, 0, 0], found.terminated[:, 0]

    return jax.tree.map(np.asarray, play(jnp.array(obs), jnp.array(plans)))


def lived(task, obs, plan):
    """What the simulator gives, up to its end."""
    env, steps = task.simulator().unwrapped, []
    env.reset(seed=7)
    task.restore(env, obs.astype(np.float64))
    for action in plan:
        steps.append(env.step(action)[:3])
        if steps[-1][2]:
            break
    return tuple(np.float32(column) for column in zip(*steps, strict=True))


def begun(task, name, ending):
    """First observations of episodes, of which some are soon over."""
    env = task.simulator().unwrapped
    obs = np.float32([env.reset(seed=seed)[0] for seed in range(3)])
    for seen, value in ENDING.get(name, {}).items() if ending else ():
        obs[1:, task.spec.obs_names.index(seen)] = value
    return obs


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.long
def test_plans_lead_where_the_simulator_leads(name):
    task = make_task(TaskSettings(env=f"mve-{name}"))
    obs = begun(task, name, ending=True)
    plans = np.random.default_rng(0).uniform(-1, 1, (3, STEPS, task.spec.action_size)).astype(np.float32)
    found = imagined(task, obs, plans)
    lengths = []
    for row in range(3):
        real = lived(task, obs[row], plans[row])
        lengths.append(count := len(real[1]))
        for column, expected in zip(found, real, strict=True):
            np.testing.assert_array_equal(column[:count, row], expected)
        if count < STEPS:
            assert (found[2][count:, row] == 1).all() and not found[1][count:, row].any()
            np.testing.assert_array_equal(
                found[0][count:, row], np.broadcast_to(real[0][-1], found[0][count:, row].shape)
            )
    assert (min(lengths) < STEPS) == (name in ENDING)
