"""The 7-DOF pusher: the simulator's physics, and what the task says of it."""

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from simulators import differing_fields, gymnasiums_model, play, random_steps, returns

from foretell.tasks import make_task
from foretell.tasks.choice import TaskSettings
from foretell.tasks.pusher import GOAL, OBJECT, TIP, Pusher

TASK = Pusher()
ORIGINAL_MASS = 13.672997  # of the arm and a weightless object and goal (kg)


@pytest.fixture(scope="module")
def env():
    with TASK.make() as env:
        yield env


@pytest.fixture(scope="module")
def original():
    with Pusher(original_object=True).make() as env:
        yield env


@pytest.fixture(scope="module")
def model(env):
    return env.unwrapped.model


@pytest.fixture(scope="module")
def steps(env):
    return random_steps(env, 300)


def start(env, arm=(0, 0, 0, 0, 0, 0, 0)):
    """Put the arm somewhere and the object at its mean start, all at rest."""
    env.reset(seed=0)
    env.unwrapped.set_state(np.array([*arm, -0.25, 0.15, 0, 0], float), np.zeros(11))


def push(env):
    """How far (m) the object goes as the lowered arm turns against it."""
    start(env, arm=(0, 1.2, 0, -1.435, 0, 0, 0))
    before = env.unwrapped.data.body("object").xpos.copy()
    for _ in range(40):
        obs = env.step(np.array([1.0, 0, 0, 0, 0, 0, 0]))[0]
    return np.linalg.norm(obs[OBJECT] - before)


def test_the_spec_agrees_with_the_environment(env):
    assert env.observation_space.shape == (TASK.spec.obs_size,) == (20,)
    assert tuple(env.action_space.low) == TASK.spec.action_low == (-2,) * 7
    assert tuple(env.action_space.high) == TASK.spec.action_high == (2,) * 7
    assert TASK.spec.horizon == 150
    assert isinstance(make_task(TaskSettings(env="pusher")), Pusher)


def test_masses(model, original):
    assert original.unwrapped.model.body_mass.sum() == pytest.approx(ORIGINAL_MASS, abs=1e-6)
    assert model.body_mass.sum() == pytest.approx(ORIGINAL_MASS + 0.04, abs=1e-6)
    assert model.body("object").mass == pytest.approx(0.04)


def test_the_original_model_is_gymnasiums_but_for_the_shoulders_limit(original):
    gymnasiums, ours = gymnasiums_model("pusher.xml"), original.unwrapped.model
    assert differing_fields(ours, gymnasiums) == {"jnt_range"}
    assert ours.stat.meaninertia == gymnasiums.stat.meaninertia
    assert np.abs(ours.jnt_range - gymnasiums.jnt_range).sum() == pytest.approx(2.0 - 1.714602)
    np.testing.assert_allclose(ours.joint("r_shoulder_pan_joint").range, [-2.2854, 2.0])


def test_the_object_differs_from_the_original_only_in_how_it_is_inert(model, original):
    derived = {"body_subtreemass", "body_invweight0", "dof_invweight0"}
    found = differing_fields(model, original.unwrapped.model)
    assert found - derived == {"body_mass", "body_inertia", "dof_armature"}
    np.testing.assert_array_equal(model.joint("obj_slidex").armature, 0)
    np.testing.assert_array_equal(model.joint("obj_slidey").armature, 0)
    np.testing.assert_array_equal(model.dof_armature[[*range(7), 9, 10]], 0.04)


def test_the_objects_inertia_is_the_original(env, original):
    matrices = np.zeros((2, 11, 11))
    for out, simulator in zip(matrices, (env.unwrapped, original.unwrapped), strict=True):
        start(simulator)
        for i, column in enumerate(np.eye(11)):
            mujoco.mj_mulM(simulator.model, simulator.data, out[i], column)
    np.testing.assert_allclose(*matrices, atol=1e-7)
    assert matrices[0, 7, 7] == pytest.approx(0.04)


def test_integration(model, env):
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    assert (model.opt.timestep, model.opt.iterations) == (0.01, 20)
    assert env.unwrapped.dt == 0.04
    np.testing.assert_array_equal(model.opt.gravity, 0)


def test_the_motors(model):
    assert model.nu == 7 and model.actuator_ctrllimited.all()
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-2, 2]] * 7)
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 1)


def test_the_object_can_be_pushed(env):
    # MuJoCo 2.3.7 moves the original object by 0.1546 m.
    assert push(env) == pytest.approx(0.1546, abs=0.005)


def test_the_original_object_cannot_be_pushed(original):
    assert push(original) < 1e-3


def test_the_object_moves_as_the_original_with_the_contact_forces_of_mujoco_2():
    with Pusher(original_object=True).make() as env:
        model = env.unwrapped.model
        model.body_invweight0[model.body("object").id] = (1 / 0.06, 0)
        found = push(env)
    with TASK.make() as env:
        assert push(env) == pytest.approx(found, abs=0.002)


def test_where_everything_starts(env):
    start(env)
    obs, data = env.unwrapped._observation(), env.unwrapped.data
    np.testing.assert_allclose(obs[TIP], [0.921, -0.6, 0], atol=1e-6)
    np.testing.assert_allclose(obs[OBJECT], [0.6, -0.3, -0.275], atol=1e-12)
    np.testing.assert_allclose(data.body("goal").xpos, GOAL, atol=1e-12)
    np.testing.assert_allclose(data.body("goal").subtree_com, GOAL, atol=1e-12)


def test_the_tip_is_between_the_forks_ends(env):
    start(env, arm=(0.3, 0.4, -0.5, -1.0, 0.6, -0.7, 0.8))
    obs, wrist = env.unwrapped._observation(), env.unwrapped.data.body("r_wrist_roll_link")
    np.testing.assert_allclose(obs[TIP], wrist.xpos + 0.1 * wrist.xmat[::3], atol=1e-6)


def test_the_tip_may_be_the_wrist():
    with Pusher(wrist_tip=True).make() as env:
        start(env)
        np.testing.assert_allclose(env.unwrapped._observation()[TIP], [0.821, -0.6, 0], atol=1e-12)
        assert env.step(np.zeros(7))[1] == pytest.approx(-0.958)


def test_the_reward_at_the_mean_start(env):
    start(env)
    assert env.step(np.zeros(7))[1] == pytest.approx(-1.008, abs=1e-6)
    start(env)
    assert env.step(np.full(7, 2.0))[1] == pytest.approx(-1.008 - 2.8, abs=1e-6)


def test_a_step_is_rewarded_for_where_it_starts(steps):
    reward = jax.jit(TASK.reward)
    obs, action, next_obs = map(jnp.array, (steps.obs, steps.action, steps.next_obs))
    nowhere = jnp.full_like(obs, jnp.nan)
    np.testing.assert_allclose(reward(nowhere, action, obs), steps.reward, atol=1e-5)
    assert np.abs(reward(obs, action, next_obs) - steps.reward).max() > 1e-3


def test_the_best_reward_is_not_zero():
    obs = jnp.zeros(20).at[OBJECT].set(jnp.array([*GOAL[:2], -0.275])).at[TIP].set(jnp.array([*GOAL[:2], -0.275]))
    assert float(TASK.reward(obs, jnp.zeros(7), obs)) == pytest.approx(-1.25 * 0.048, abs=1e-6)


def test_reward_and_features_accept_any_leading_axes():
    obs, action = jnp.ones((2, 3, 20)), jnp.ones((2, 3, 7))
    assert TASK.reward(obs, action, obs).shape == (2, 3)
    assert TASK.features(obs).shape == (2, 3, 20)


def test_features_are_the_observation(steps):
    np.testing.assert_array_equal(TASK.features(jnp.array(steps.obs)), steps.obs)
    assert (TASK.feature_size, TASK.target_size) == (20, 20)


def test_the_target_is_the_change_and_advance_undoes_it(steps):
    obs, next_obs = jnp.array(steps.obs), jnp.array(steps.next_obs)
    change = TASK.target(obs, next_obs)
    np.testing.assert_allclose(change, next_obs - obs)
    np.testing.assert_allclose(TASK.advance(obs, change), next_obs, atol=1e-5)


def test_nothing_terminates(env):
    env.reset(seed=0)
    assert TASK.terminated is None and not TASK.learns_termination
    assert not any(any(env.step(env.action_space.high)[2:4]) for _ in range(TASK.spec.horizon + 5))


def test_an_observation_is_angles_velocities_tip_and_object(env):
    env.reset(seed=0)
    obs, data = env.step(env.action_space.high)[0], env.unwrapped.data
    np.testing.assert_array_equal(obs[:14], [*data.qpos[:7], *data.qvel[:7]])
    np.testing.assert_array_equal(obs[TIP], data.body("tips_arm").subtree_com)
    np.testing.assert_array_equal(obs[OBJECT], data.body("object").subtree_com)


def test_positions_lag_one_of_the_simulators_steps(env):
    env.reset(seed=0)
    for _ in range(5):
        env.step(env.action_space.high)
    model, data = env.unwrapped.model, copy.copy(env.unwrapped.data)
    obs, late = env.step(env.action_space.high)[0], {}
    data.ctrl[:] = env.action_space.high
    for substep in (3, 4):
        now = copy.copy(data)
        mujoco.mj_step(model, now, nstep=substep)
        mujoco.mj_forward(model, now)
        late[substep] = now.body("tips_arm").subtree_com
    np.testing.assert_allclose(obs[TIP], late[3], atol=1e-9)
    assert np.linalg.norm(obs[TIP] - late[4]) > 1e-3


def test_the_reset(env):
    starts = np.array([env.reset(seed=seed)[0] for seed in range(600)])
    np.testing.assert_array_equal(starts[:, :7], 0)
    assert np.abs(starts[:, 7:14]).max() <= 0.005 and (np.abs(starts[:, 7:14]).max(0) > 0.0049).all()
    np.testing.assert_allclose(starts[:, 7:14].std(0), 0.005 / np.sqrt(3), rtol=0.1)
    np.testing.assert_allclose(starts[:, TIP], np.tile([0.921, -0.6, 0], (600, 1)), atol=1e-6)
    np.testing.assert_allclose(starts[:, OBJECT].mean(0), [0.6, -0.3, -0.275], atol=0.004)
    np.testing.assert_allclose(starts[:, OBJECT].std(0), [0.025, 0.025, 0], rtol=0.1, atol=1e-12)
    assert np.abs(starts[:, 17] - 0.6).max() > 0.0625  # a uniform draw with this standard deviation would end at 0.043
    np.testing.assert_array_equal(env.unwrapped.data.qvel[7:], 0)
    np.testing.assert_array_equal(env.unwrapped.data.qpos[9:], 0)


def test_a_seed_repeats_an_episode(env):
    np.testing.assert_array_equal(play(env, 7), play(env, 7))


@pytest.mark.long
def test_the_return_of_random_actions(env):
    assert returns(TASK, env, 10) == pytest.approx(-296, abs=15)


@pytest.mark.long
def test_the_return_of_doing_nothing(env):
    assert returns(TASK, env, 12, still=True) == pytest.approx(-152, abs=8)
