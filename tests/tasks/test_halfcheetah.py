"""The half-cheetah: the simulator's physics, and what the task says of it."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators import differing_fields, gymnasiums_model, play, random_steps, returns

from foretell.tasks import make_task
from foretell.tasks.choice import TaskSettings
from foretell.tasks.halfcheetah import HalfCheetah

TASK = HalfCheetah()


@pytest.fixture(scope="module")
def env():
    with TASK.make() as env:
        yield env


@pytest.fixture(scope="module")
def model(env):
    return env.unwrapped.model


@pytest.fixture(scope="module")
def steps(env):
    return random_steps(env, 300)


def test_the_spec_agrees_with_the_environment(env):
    assert env.observation_space.shape == (TASK.spec.obs_size,) == (18,)
    assert tuple(env.action_space.low) == TASK.spec.action_low == (-1,) * 6
    assert tuple(env.action_space.high) == TASK.spec.action_high == (1,) * 6
    assert TASK.spec.horizon == 1000
    assert isinstance(make_task(TaskSettings(env="halfcheetah")), HalfCheetah)


def test_masses(model):
    assert model.body_mass.sum() == pytest.approx(14)


@pytest.mark.filterwarnings("ignore:compiler attribute")
def test_the_model_is_gymnasiums_but_for_how_it_is_drawn(model):
    gymnasiums = gymnasiums_model("half_cheetah.xml")
    assert differing_fields(model, gymnasiums) == {"geom_size"}
    np.testing.assert_array_equal(model.geom_size[1:], gymnasiums.geom_size[1:])
    assert model.geom_type[0] == mujoco.mjtGeom.mjGEOM_PLANE  # it has no end, whatever its size
    assert (model.stat.extent, model.stat.meaninertia) == (gymnasiums.stat.extent, gymnasiums.stat.meaninertia)


def test_integration(model, env):
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    assert model.opt.timestep == 0.01
    assert env.unwrapped.dt == 0.05
    np.testing.assert_allclose(model.opt.gravity, [0, 0, -9.81])


def test_the_motors(model):
    np.testing.assert_array_equal(model.actuator_gear[:, 0], [120, 90, 60, 120, 60, 30])
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-1, 1]] * 6)
    assert model.actuator_ctrllimited.all()


def test_the_reward_is_speed_less_effort():
    still, running = jnp.zeros(18), jnp.zeros(18).at[0].set(3.0)
    assert float(TASK.reward(still, jnp.zeros(6), running)) == pytest.approx(3)
    assert float(TASK.reward(running, jnp.ones(6), still)) == pytest.approx(-0.6)


def test_the_reward_equals_the_simulators_over_random_steps(steps):
    found = jax.jit(TASK.reward)(*map(jnp.array, (steps.obs, steps.action, steps.next_obs)))
    np.testing.assert_allclose(found, steps.reward, atol=1e-6)
    assert np.ptp(steps.reward) > 1


@pytest.mark.long
def test_reward_and_features_accept_any_leading_axes():
    obs, action = jnp.ones((2, 3, 18)), jnp.ones((2, 3, 6))
    assert TASK.reward(obs, action, obs).shape == (2, 3)
    assert TASK.features(obs).shape == TASK.target(obs, obs).shape == TASK.advance(obs, obs).shape == (2, 3, 18)


def test_features():
    obs = np.arange(18.0) / 10
    expected = [0.1, np.sin(0.2), np.cos(0.2), *obs[3:]]
    np.testing.assert_allclose(TASK.features(jnp.array(obs)), expected, rtol=1e-6)
    assert (TASK.feature_size, TASK.target_size) == (18, 18)


def test_the_target_is_the_next_speed_and_the_change_of_the_rest(steps):
    target = TASK.target(jnp.array(steps.obs), jnp.array(steps.next_obs))
    np.testing.assert_array_equal(target[:, 0], steps.next_obs[:, 0])
    np.testing.assert_allclose(target[:, 1:], steps.next_obs[:, 1:] - steps.obs[:, 1:])


VECTORS = st.lists(st.floats(-50, 50, width=32), min_size=18, max_size=18)


@settings(deadline=None, max_examples=40)
@given(VECTORS, VECTORS)
@pytest.mark.long
def test_advance_and_target_undo_each_other(first, second):
    obs, other = jnp.array(first), jnp.array(second)
    np.testing.assert_allclose(TASK.advance(obs, TASK.target(obs, other)), other, atol=2e-5)
    np.testing.assert_allclose(TASK.target(obs, TASK.advance(obs, other)), other, atol=2e-5)


@pytest.mark.long
def test_nothing_terminates(env):
    env.reset(seed=0)
    assert TASK.terminated is None and not TASK.learns_termination
    assert not any(any(env.step(env.action_space.high)[2:4]) for _ in range(TASK.spec.horizon + 5))


def test_an_observation_is_speed_positions_and_velocities(env):
    env.reset(seed=0)
    data = env.unwrapped.data
    before = data.qpos[0]
    obs = env.step(env.action_space.high)[0]
    np.testing.assert_array_equal(obs[1:], [*data.qpos[1:], *data.qvel])
    assert obs[0] == (data.qpos[0] - before) / 0.05
    assert abs(obs[0] - obs[9]) > 1e-3  # the mean speed over the step is not the speed at its end


def test_speed_does_not_depend_on_where_it_is(env):
    obs = []
    for x in (0.0, 300.0):
        env.reset(seed=3)
        data = env.unwrapped.data
        env.unwrapped.set_state(data.qpos + [x, *[0] * 8], data.qvel.copy())
        obs.append(env.step(np.full(6, 0.5))[0])
    np.testing.assert_allclose(*obs, atol=1e-9)


@pytest.mark.long
def test_the_reset_is_normal_with_deviation_a_thousandth(env):
    starts, positions = [], []
    for seed in range(600):
        starts.append(env.reset(seed=seed)[0])
        positions.append(env.unwrapped.data.qpos[0])
    np.testing.assert_array_equal(np.array(starts)[:, 0], 0)
    drawn = np.column_stack([positions, np.array(starts)[:, 1:]])
    np.testing.assert_allclose(drawn.std(0), 0.001, rtol=0.1)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.00015)
    assert np.abs(drawn).max() > 0.0025  # a uniform draw with this standard deviation would end at 0.0017


@pytest.mark.long
def test_a_seed_repeats_an_episode(env):
    np.testing.assert_array_equal(play(env, 7), play(env, 7))


@pytest.mark.long
def test_the_return_of_random_actions(env):
    assert returns(TASK, env, 6) == pytest.approx(-279, abs=100)


@pytest.mark.long
def test_the_return_of_doing_nothing(env):
    assert returns(TASK, env, 2, still=True) == pytest.approx(0, abs=1)
