"""The swing-up cartpole: the simulator's physics, and what the task says of it."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from foretell.tasks import Task, make_task
from foretell.tasks.cartpole import Cartpole, tip
from foretell.tasks.choice import TaskSettings

TASK = Cartpole()


@pytest.fixture(scope="module")
def env():
    with TASK.make() as env:
        yield env


@pytest.fixture(scope="module")
def model(env):
    return env.unwrapped.model


def reward(obs, action=0.0):
    obs = jnp.array(obs, jnp.float32)
    return float(TASK.reward(obs, jnp.array([action]), obs))


def play(env, seed, policy):
    env.reset(seed=seed)
    return sum(env.step(policy())[1] for _ in range(TASK.spec.horizon))


def test_the_spec_agrees_with_the_environment(env):
    assert env.observation_space.shape == (TASK.spec.obs_size,) == (4,)
    assert (env.action_space.low, env.action_space.high) == TASK.spec.action_low + TASK.spec.action_high == (-3, 3)
    assert TASK.spec.horizon == 200
    assert isinstance(make_task(TaskSettings(env="cartpole")), Cartpole)


def test_masses(model):
    np.testing.assert_allclose(model.body_mass, [0, 10.47198, 5.01859], rtol=1e-6)


def test_the_pole(model):
    pole = model.body("pole")
    np.testing.assert_allclose(pole.ipos, [0.0005, 0, -0.3], atol=1e-9)
    np.testing.assert_allclose(pole.inertia, [0.188750, 0.188750, 0.005907], atol=1e-6)
    np.testing.assert_allclose(pole.pos, 0)


def test_integration(model, env):
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    assert model.opt.timestep == 0.02
    assert env.unwrapped.dt == 0.04
    np.testing.assert_allclose(model.opt.gravity, [0, 0, -9.81])


def test_joints(model):
    slider, hinge = model.joint("slider"), model.joint("hinge")
    assert (slider.type, hinge.type) == (mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE)
    np.testing.assert_array_equal(slider.axis, [1, 0, 0])
    np.testing.assert_array_equal(hinge.axis, [0, 1, 0])
    assert slider.limited and not hinge.limited
    np.testing.assert_array_equal(slider.range, [-2.5, 2.5])
    np.testing.assert_array_equal(model.dof_damping, [1, 1])
    np.testing.assert_array_equal(model.dof_armature, [0, 0])


def test_the_motor(model):
    motor = model.actuator("force")
    assert motor.gear[0] == 100
    assert motor.ctrllimited
    np.testing.assert_array_equal(motor.ctrlrange, [-3, 3])


def test_nothing_collides(model):
    assert not model.geom_contype.any()


def test_the_tip():
    np.testing.assert_allclose(tip(jnp.array([0.3, 0.7, 1.0, -2.0])), (-0.086531, -0.458905), atol=1e-6)


def test_the_tip_is_where_the_simulator_has_it(env):
    env.reset(seed=0)
    env.unwrapped.set_state(np.array([0.3, 0.7]), np.zeros(2))
    data = env.unwrapped.data
    x, _, z = data.body("pole").xpos + data.body("pole").xmat.reshape(3, 3) @ [0, 0, -0.6]
    np.testing.assert_allclose(tip(jnp.array([0.3, 0.7, 0, 0])), (x, z), atol=1e-6)


def test_the_reward_of_hanging_and_of_standing():
    assert reward([0, 0, 0, 0]) == pytest.approx(np.exp(-4))
    assert reward([0, np.pi, 0, 0]) == pytest.approx(1)
    assert reward([0, -3 * np.pi, 5, 5]) == pytest.approx(1)
    assert reward([0, np.pi, 0, 0], action=3.0) == pytest.approx(0.91)


def test_the_reward_is_of_the_next_observation():
    hanging, standing = jnp.zeros((1, 4)), jnp.array([[0, np.pi, 0, 0]])
    np.testing.assert_allclose(TASK.reward(hanging, jnp.zeros((1, 1)), standing), [1], rtol=1e-6)


@pytest.mark.long
def test_the_reward_equals_the_simulators_over_random_steps(env):
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    found, expected = [], []
    for i in range(300):
        if i % 10 == 0:  # start over at any angle: random actions alone rarely leave the bottom
            env.unwrapped.set_state(rng.uniform([-1, -7], [1, 7]), rng.normal(size=2))
            obs = np.concatenate([env.unwrapped.data.qpos, env.unwrapped.data.qvel])
        action = rng.uniform(-3, 3, 1).astype(np.float32)
        next_obs, true_reward, *_ = env.step(action)
        found.append(TASK.reward(jnp.float32(obs), jnp.array(action), jnp.float32(next_obs)))
        expected.append(true_reward)
        obs = next_obs
    assert max(expected) > 0.8
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_reward_and_features_accept_any_leading_axes():
    obs, action = jnp.ones((2, 3, 4)), jnp.ones((2, 3, 1))
    assert TASK.reward(obs, action, obs).shape == (2, 3)
    assert TASK.features(obs).shape == (2, 3, 5)


def test_features():
    found = TASK.features(jnp.array([0.3, 0.7, -1.0, 2.0]))
    np.testing.assert_allclose(found, [np.sin(0.7), np.cos(0.7), 0.3, -1.0, 2.0], rtol=1e-6)
    assert TASK.feature_size == 5


def test_the_target_is_the_change_and_advance_undoes_it():
    obs, next_obs = jnp.array([0.3, 0.7, -1.0, 2.0]), jnp.array([0.5, 0.6, 1.0, 2.5])
    change = TASK.target(obs, next_obs)
    np.testing.assert_allclose(change, [0.2, -0.1, 2.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(TASK.advance(obs, change), next_obs, atol=1e-6)
    assert TASK.target_size == 4


def test_nothing_terminates(env):
    env.reset(seed=0)
    assert TASK.terminated is None and not TASK.learns_termination
    assert not any(any(env.step(env.action_space.high)[2:4]) for _ in range(TASK.spec.horizon + 5))


def test_an_observation_is_position_then_velocity(env):
    env.reset(seed=0)
    env.unwrapped.set_state(np.array([1.0, 2.0]), np.zeros(2))
    obs = env.step(np.zeros(1))[0]
    data = env.unwrapped.data
    np.testing.assert_array_equal(obs, [*data.qpos, *data.qvel])
    np.testing.assert_allclose(obs[:2], [1, 2], atol=0.05)


def test_the_reset_is_normal_with_deviation_a_tenth(env):
    starts = np.array([env.reset(seed=seed)[0] for seed in range(600)])
    np.testing.assert_allclose(starts.std(0), 0.1, rtol=0.1)
    np.testing.assert_allclose(starts.mean(0), 0, atol=0.015)
    assert np.abs(starts).max() > 0.25  # a uniform draw with this standard deviation would end at 0.17


def test_a_seed_repeats_an_episode(env):
    def episode():
        return env.reset(seed=7)[0], *(env.step(np.array([1.5]))[0] for _ in range(20))

    np.testing.assert_array_equal(episode(), episode())


@pytest.mark.long
def test_the_return_of_random_actions(env):
    rng = np.random.default_rng(0)
    returns = [play(env, seed, lambda: rng.uniform(-3, 3, 1)) for seed in range(12)]
    assert np.mean(returns) == pytest.approx(-4.5, abs=1.0)


@pytest.mark.long
def test_the_return_of_doing_nothing(env):
    env.reset(seed=0)
    env.unwrapped.set_state(np.zeros(2), np.zeros(2))
    at_rest = sum(env.step(np.zeros(1))[1] for _ in range(TASK.spec.horizon))
    assert at_rest == pytest.approx(200 * np.exp(-4), abs=0.01)
    # From a reset the cart drifts off, its friction being small.
    assert 2.0 < np.mean([play(env, seed, lambda: np.zeros(1)) for seed in range(8)]) < at_rest


@pytest.mark.long
def test_a_task_knows_nothing_unless_it_says_so():
    class Plain(Task):
        spec = TASK.spec

    plain, obs = Plain(), jnp.arange(4.0)
    assert plain.reward is None and plain.terminated is None and not plain.learns_termination
    assert (plain.features(obs) == obs).all()
    assert (plain.feature_size, plain.target_size) == (4, 4)
