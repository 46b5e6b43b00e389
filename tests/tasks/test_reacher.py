"""The 7-DOF reacher: the simulator's physics, and what the task says of it."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from simulators import names, play, random_steps, returns

from foretell.tasks import make_task
from foretell.tasks.choice import TaskSettings
from foretell.tasks.reacher import GOAL, JOINTS, Reacher, hand

TASK = Reacher()

POSITIONS = [
    ((0, 0, 0, 0, 0, 0), (0.98928, -0.188, 0)),
    ((0.3, 0.2, -0.4, -0.7, 0.5, -0.6), (0.786360322, 0.158093110, 0.203723252)),
    ((-1, 0.9, -2.5, -1.8, 1.2, -1.5), (0.339238628, -0.140558956, -0.304048730)),
]
BEYOND = (0.5, 0.1, -1, 0.2, 0.7, -0.3)
"""The elbow is beyond its limit of zero."""

ARM = {  # damping (N m s/rad) and range (rad)
    "shoulder_pan": (10, (-2.2854, 1.714602)),
    "shoulder_lift": (10, (-0.5236, 1.3963)),
    "upper_arm_roll": (0.1, (-3.9, 0.8)),
    "elbow_flex": (1, (-2.3213, 0)),
    "forearm_roll": (0.1, None),
    "wrist_flex": (0.1, (-2.094, 0)),
    "wrist_roll": (0.1, None),
}


@pytest.fixture(scope="module")
def env():
    with TASK.make() as env:
        yield env


@pytest.fixture(scope="module")
def model(env):
    return env.unwrapped.model


@pytest.fixture(scope="module")
def steps(env):
    return random_steps(env, 150)


def random_angles(count):
    """Of the arm, within its limits, and one turn either way where it has none."""
    ranges = np.array([limits or (-np.pi, np.pi) for _, limits in ARM.values()])
    return np.random.default_rng(0).uniform(*ranges.T, (count, 7))


def test_the_spec_agrees_with_the_environment(env):
    assert env.observation_space.shape == (TASK.spec.obs_size,) == (17,)
    assert tuple(env.action_space.low) == TASK.spec.action_low == (-20,) * 7
    assert tuple(env.action_space.high) == TASK.spec.action_high == (20,) * 7
    assert TASK.spec.horizon == 150
    assert isinstance(make_task(TaskSettings(env="reacher")), Reacher)


def test_masses(model):
    assert model.body_mass.sum() == pytest.approx(46.366477, abs=1e-6)
    capsule = 1000 * np.pi * (0.05**2 * 0.321 + 4 / 3 * 0.05**3)
    assert model.body("r_forearm_link").mass == pytest.approx(capsule)


def test_integration(model, env):
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    assert (model.opt.timestep, model.opt.iterations) == (0.01, 20)
    assert env.unwrapped.dt == 0.02
    np.testing.assert_array_equal(model.opt.gravity, 0)


@pytest.mark.parametrize("name", ARM)
def test_the_arms_joints(model, name):
    joint, (damping, limits) = model.joint(f"r_{name}_joint"), ARM[name]
    assert joint.id == JOINTS.index(name)
    assert (joint.damping, joint.armature, joint.stiffness) == (pytest.approx(damping), 0.04, 0)
    assert bool(joint.limited) == bool(limits)
    if limits:
        np.testing.assert_allclose(joint.range, limits)


def test_the_arms_lengths(model):
    np.testing.assert_allclose(model.body("r_shoulder_pan_link").pos, [0, -0.188, 0])
    assert model.geom("fa").size[1] == pytest.approx(0.321 / 2)
    np.testing.assert_allclose(model.geom("fa").pos, [0.1605, 0, 0])


def test_what_the_pusher_has_and_the_reacher_has_not(model):
    assert not {"object", "goal", "tips_arm"} & set(names(model, "body"))
    assert "table" not in names(model, "geom")
    assert all(names(model, "geom"))  # the pusher's fork is of geoms without a name
    assert model.njnt == 10


def test_the_gripper(model):
    assert model.body("r_gripper_palm_link").parentid == model.body("r_wrist_roll_link").id
    np.testing.assert_allclose(model.geom("wr").size[:2], [0.01, 0.02])
    np.testing.assert_allclose(model.geom("pl").size[:2], [0.05, 0.02])
    np.testing.assert_allclose(model.geom("pl").pos, [0.05, 0, 0])
    for side, sign in (("l", 1), ("r", -1)):
        finger, tip = (model.body(f"r_gripper_{side}_finger_{part}") for part in ("link", "tip_link"))
        np.testing.assert_allclose(finger.pos, [0.07691, sign * 0.03, 0])
        np.testing.assert_allclose(tip.pos, [0.09137, sign * 0.00495, 0])
        half = np.hypot(0.09137, 0.00495) / 2
        np.testing.assert_allclose(model.geom(f"{side}f").size[:2], [0.01, half])
        np.testing.assert_allclose(model.geom(f"{side}f").pos, np.array(tip.pos) / 2)
        np.testing.assert_allclose(model.geom(f"{side}ft").size[:2], [0.01, 0.09137 / 2])
        np.testing.assert_allclose(model.geom(f"{side}ft").pos, [0.09137 / 2, 0, 0])


def test_the_goals_joints(model):
    assert model.geom("target").size[0] == 0.035
    for i, axis in enumerate("xyz"):
        joint = model.joint(f"target_{axis}")
        assert joint.type == mujoco.mjtJoint.mjJNT_SLIDE and not joint.limited
        np.testing.assert_array_equal(joint.axis, np.eye(3)[i])
        assert (joint.damping, joint.armature, joint.stiffness) == (0, 0, 0)
    np.testing.assert_array_equal(model.qpos0[GOAL], [0, 0.25, 0])


def test_every_geom(model):
    np.testing.assert_allclose(model.geom_friction, np.tile([0.5, 0.1, 0.1], (model.ngeom, 1)))
    assert not model.geom_contype.any() and not model.geom_conaffinity.any()


def test_the_motors(model):
    assert model.nu == 7 and model.actuator_ctrllimited.all()
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-20, 20]] * 7)
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 1)
    np.testing.assert_array_equal(model.actuator_trnid[:, 0], range(7))


@pytest.mark.parametrize(("angles", "position"), POSITIONS)
@pytest.mark.parametrize("original", [False, True])
def test_the_hand(angles, position, original):
    np.testing.assert_allclose(hand(np.array(angles, float), original=original), position, atol=1e-9)
    np.testing.assert_allclose(hand(jnp.array(angles, float), original=original), position, atol=1e-6)


def test_the_hand_beyond_the_limits_depends_on_the_formula():
    angles = np.array(BEYOND)
    np.testing.assert_allclose(hand(angles), (0.887394109, 0.221031627, -0.092416040), atol=1e-9)
    np.testing.assert_allclose(hand(angles, original=True), (0.879424257, 0.184639043, -0.184635391), atol=1e-9)


def test_the_original_formula_forgets_a_roll_before_a_straight_hinge():
    angles = np.array([0.1, 0.2, 0.8, 0.0, 0.3, -0.5])
    without_roll = angles * [1, 1, 0, 1, 1, 1]
    np.testing.assert_allclose(hand(angles, original=True), hand(without_roll))
    assert np.abs(hand(angles) - hand(without_roll)).max() > 0.01


def test_the_hand_is_where_the_simulator_has_it(env):
    angles, data = random_angles(200), env.unwrapped.data
    for row in angles:
        env.unwrapped.set_state(np.append(row, [0, 0.25, 0]), np.zeros(10))
        tips = [data.body(f"r_gripper_{side}_finger_tip_link").xpos for side in "lr"]
        wrist = data.body("r_wrist_roll_link")
        expected = wrist.xpos + 0.16828 * wrist.xmat.reshape(3, 3)[:, 0]
        np.testing.assert_allclose(np.mean(tips, 0), expected, atol=1e-12)
        np.testing.assert_allclose(hand(row), expected, atol=1e-12)
        np.testing.assert_allclose(hand(row, original=True), expected, atol=1e-12)


def test_the_hand_beyond_the_limits_is_where_the_simulator_has_it(env):
    env.unwrapped.set_state(np.array([*BEYOND, 0.0, 0, 0.25, 0]), np.zeros(10))
    wrist = env.unwrapped.data.body("r_wrist_roll_link")
    np.testing.assert_allclose(hand(np.array(BEYOND)), wrist.xpos + 0.16828 * wrist.xmat[::3], atol=1e-12)


def test_the_reward_of_a_touch_is_only_the_action_cost():
    angles, position = POSITIONS[1]
    obs = jnp.array([*angles, 0, *position, *[0] * 7])
    assert float(TASK.reward(obs, jnp.zeros(7), obs)) == pytest.approx(0, abs=1e-6)
    assert float(TASK.reward(obs, jnp.full(7, 20.0), obs)) == pytest.approx(-28)


def test_the_reward_is_of_the_next_hand_and_the_present_goal():
    reaching = jnp.zeros(17).at[GOAL].set(jnp.array(POSITIONS[0][1]))
    astray = jnp.zeros(17).at[0].set(1.0)
    assert float(TASK.reward(reaching, jnp.zeros(7), astray.at[GOAL].set(9.0))) == pytest.approx(
        -float(jnp.square(hand(astray) - hand(reaching)).sum()), rel=1e-5
    )


@pytest.mark.parametrize("task", [TASK, Reacher(original_kinematics=True)])
def test_the_reward_equals_the_simulators_over_random_steps(task):
    with task.make() as env:
        steps = random_steps(env, 300, seed=1)
    found = jax.jit(task.reward)(*map(jnp.array, (steps.obs, steps.action, steps.next_obs)))
    np.testing.assert_allclose(found, steps.reward, rtol=1e-6, atol=2e-5)


@pytest.mark.long
def test_reward_and_features_accept_any_leading_axes():
    obs, action = jnp.ones((2, 3, 17)), jnp.ones((2, 3, 7))
    assert TASK.reward(obs, action, obs).shape == (2, 3)
    assert TASK.features(obs).shape == (2, 3, 17)
    assert Reacher(original_kinematics=True).reward(obs, action, obs).shape == (2, 3)


def test_features_are_the_observation(steps):
    np.testing.assert_array_equal(TASK.features(jnp.array(steps.obs)), steps.obs)
    assert (TASK.feature_size, TASK.target_size) == (17, 17)


def test_the_target_is_the_change_and_advance_undoes_it(steps):
    obs, next_obs = jnp.array(steps.obs), jnp.array(steps.next_obs)
    change = TASK.target(obs, next_obs)
    np.testing.assert_allclose(change, next_obs - obs)
    np.testing.assert_allclose(TASK.advance(obs, change), next_obs, atol=1e-5)


def test_a_goal_that_is_not_predicted_stands_still(steps):
    obs, task = jnp.array(steps.obs), Reacher(predicts_goal=False)
    output = jnp.full(obs.shape, 0.5)
    moved = task.advance(obs, output) - obs
    np.testing.assert_allclose(moved[:, GOAL], 0)
    np.testing.assert_allclose(jnp.delete(moved, jnp.arange(7, 10), axis=1), 0.5, atol=1e-5)
    assert task.target_size == 17
    np.testing.assert_allclose(
        task.advance(obs, task.target(obs, jnp.array(steps.next_obs))), steps.next_obs, atol=1e-5
    )


def test_nothing_terminates(env):
    env.reset(seed=0)
    assert TASK.terminated is None and not TASK.learns_termination
    assert not any(any(env.step(env.action_space.high)[2:4]) for _ in range(TASK.spec.horizon + 5))


def test_an_observation_is_angles_goal_and_velocities(env):
    env.reset(seed=0)
    obs, data = env.step(env.action_space.high)[0], env.unwrapped.data
    np.testing.assert_array_equal(obs, [*data.qpos, *data.qvel[:7]])
    np.testing.assert_allclose(data.body("target").xpos, obs[GOAL], atol=1e-12)


def test_the_goal_stands_still(steps):
    assert np.abs(steps.next_obs[:, :7]).max() > 1
    np.testing.assert_array_equal(steps.next_obs[:, GOAL], np.tile(steps.obs[0, GOAL], (150, 1)))


def test_the_reset_draws_only_the_goal(env):
    starts = np.array([env.reset(seed=seed)[0] for seed in range(600)])
    np.testing.assert_array_equal(np.delete(starts, [7, 8, 9], 1), 0)
    np.testing.assert_allclose(starts[:, GOAL].mean(0), [0, 0.25, 0], atol=0.015)
    np.testing.assert_allclose(starts[:, GOAL].std(0), 0.1, rtol=0.1)
    assert np.abs(starts[:, 7]).max() > 0.25  # a uniform draw with this standard deviation would end at 0.17


def test_a_seed_repeats_an_episode(env):
    np.testing.assert_array_equal(play(env, 7), play(env, 7))


@pytest.mark.long
def test_the_return_of_random_actions(env):
    assert returns(TASK, env, 8) == pytest.approx(-1509, abs=80)


@pytest.mark.long
def test_the_return_of_doing_nothing(env):
    # The arm rests, so this is 150 times the mean squared distance from where it starts to the goal.
    assert returns(TASK, env, 24, still=True) == pytest.approx(-187, abs=25)
