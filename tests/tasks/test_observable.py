"""MVE's robots against the specification's numbers and Gymnasium's own environments."""

import gymnasium
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from conformance import exactly, transitions
from simulators import differing_fields, gymnasiums_model

from foretell.errors import UserError
from foretell.tasks import TaskSettings, make_task
from foretell.tasks.observable.humanoid import shares

# Sizes of observation and action, seconds per step, MuJoCo's steps per step.
TABLE = {
    "mve-cheetah": (18, 6, 0.05, 5),
    "mve-swimmer": (10, 2, 0.04, 4),
    "mve-walker2d": (18, 6, 0.008, 4),
    "mve-hopper": (12, 3, 0.008, 4),
    "mve-ant": (114, 8, 0.05, 5),
    "mve-humanoid": (420, 17, 0.015, 5),
    "mve-pusher": (31, 7, 0.05, 5),
}
RUNNERS = [name for name in TABLE if name != "mve-pusher"]
TWINS = {
    "mve-cheetah": ("HalfCheetah-v5", 1.0),
    "mve-swimmer": ("Swimmer-v5", 1.0),
    "mve-walker2d": ("Walker2d-v5", 1.0),
    "mve-hopper": ("Hopper-v5", 1.0),
    "mve-ant": ("Ant-v5", 1.0),
    "mve-humanoid": ("Humanoid-v5", 0.4),
}
"""Gymnasium's environments with the same physics, and the motor command that our action 1 stands for."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs where it runs that a model of Gymnasium's is written in an old way."""
    monkeypatch.chdir(tmp_path)


def task_of(name, **options):
    return make_task(TaskSettings(env=name, options=options))


def bare(name):
    return task_of(name).simulator().unwrapped


def random_action(env, generator):
    return generator.uniform(-1, 1, env.action_space.shape).astype(np.float32)


@pytest.mark.parametrize("name", TABLE)
def test_sizes_and_times(name):
    task, env = task_of(name), bare(name)
    found = (task.spec.obs_size, task.spec.action_size, env.dt, env.frame_skip)
    assert found == pytest.approx(TABLE[name])
    assert task.spec.horizon == 1000 and task.any_horizon
    assert task.spec.action_low == (-1,) * found[1] and task.spec.action_high == (1,) * found[1]


@pytest.mark.parametrize("name", RUNNERS)
def test_the_names_are_in_the_order_of_the_joints(name):
    env, names = bare(name), task_of(name).spec.obs_names
    first, joints = int(name == "mve-ant"), [env.model.joint(i).name for i in range(env.model.njnt)]
    if name in ("mve-ant", "mve-humanoid"):
        assert list(names[first + 7 : first + env.model.nq]) == joints[1:]
    for index in range(env.model.nv):  # every velocity is that of the position of the same name
        velocity = names[first + env.model.nq + index]
        assert velocity.endswith("_velocity") or velocity.startswith("spin_")


@pytest.mark.parametrize("name", TWINS)
def test_the_physics_are_gymnasiums(name):
    """From the same state, the next one is the same to what the solver of contacts leaves open."""
    env, (twin_id, motor), generator = bare(name), TWINS[name], np.random.default_rng(0)
    twin = gymnasium.make(twin_id).unwrapped
    env.reset(seed=0), twin.reset(seed=0)
    for _ in range(15):
        twin.data.qacc_warmstart[:] = 0.0
        twin.set_state(env.data.qpos, env.data.qvel)
        action = random_action(env, generator)
        _, _, over, *_ = env.step(action)
        twin.step(motor * action)
        np.testing.assert_allclose(env.data.qpos, twin.data.qpos, atol=1e-6)
        np.testing.assert_allclose(env.data.qvel, twin.data.qvel, atol=1e-5)
        if over:
            env.reset(seed=1)


def rewards_by_hand(name, obs, action, next_obs):
    """The specification's formulas, from observations."""
    x, after, effort = obs[:, 0], next_obs[:, 0], np.square(action).sum(-1)
    if name == "mve-humanoid":
        mass = gymnasiums_model("humanoid.xml").body_mass
        centre, centre_after = (rows[:, 378:420:3] @ mass / mass.sum() for rows in (obs, next_obs))
        contact = np.minimum(0.5e-6 * np.square(next_obs[:, 294:378]).sum(-1), 10)
        return 0.25 * (centre_after - centre) / 0.003 - 0.1 * 0.16 * effort - contact + 5
    contact = 0.5e-3 * np.square(next_obs[:, 30:]).sum(-1) if name == "mve-ant" else 0.0
    dt, cost, bonus = {
        "mve-cheetah": (0.05, 0.1, 0),
        "mve-swimmer": (0.04, 1e-4, 0),
        "mve-walker2d": (0.008, 1e-3, 1),
        "mve-hopper": (0.008, 1e-3, 1),
        "mve-ant": (0.05, 0.5, 1),
    }[name]
    return (after - x) / dt - cost * effort - contact + bonus


@pytest.mark.parametrize("name", RUNNERS)
def test_rewards(name):
    """Steps that terminate an episode are among them; the bonus is paid there too."""
    steps = transitions(task_of(name), 90)
    by_hand = rewards_by_hand(name, *steps[:3])
    np.testing.assert_allclose(steps.reward, by_hand, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(exactly(task_of(name).reward, steps), by_hand, rtol=1e-6, atol=1e-6)
    assert steps.terminated.any() or name not in ("mve-walker2d", "mve-hopper", "mve-humanoid")


@pytest.mark.parametrize("name", RUNNERS)
def test_in_single_precision_the_reward_errs_by_the_rounding_of_positions(name):
    task, steps = task_of(name), transitions(task_of(name), 30)
    far = np.array([seen in ("x", "torso_x") or seen[:4] + seen[-2:] == "com__x" for seen in task.spec.obs_names])
    obs, next_obs = (jnp.float32(rows + 100.0 * far) for rows in (steps.obs, steps.next_obs))
    error = np.abs(task.reward(obs, jnp.float32(steps.action), next_obs) - steps.reward)
    assert error.max() <= task.runner.weight * np.spacing(np.float32(101)) / task.runner.dt + 1e-5
    assert (error.max() > 1e-6) and far.sum() == (15 if name == "mve-humanoid" else 1 + (name == "mve-ant"))


def edge(name, **values):
    """A state that does not terminate, but for these."""
    task = task_of(name)
    env = task.simulator().unwrapped
    obs = env.reset(seed=0)[0]
    for seen, value in values.items():
        obs[task.spec.obs_names.index(seen)] = value
    return bool(task.terminated(jnp.array(obs), jnp.zeros(task.spec.action_size), jnp.array(obs)))


@pytest.mark.parametrize(
    ("name", "values", "ends"),
    [
        *(("mve-walker2d", {"z": z}, ends) for z, ends in ((0.79, 1), (0.81, 0), (1.99, 0), (2.01, 1))),
        *(("mve-walker2d", {"pitch": pitch}, ends) for pitch, ends in ((-1.01, 1), (-0.99, 0), (0.99, 0), (1.01, 1))),
        *(("mve-hopper", {"z": z}, ends) for z, ends in ((0.69, 1), (0.71, 0), (9.0, 0))),
        *(("mve-hopper", {"pitch": pitch}, ends) for pitch, ends in ((-0.21, 1), (-0.19, 0), (0.19, 0), (0.21, 1))),
        *(("mve-hopper", {"foot": angle}, ends) for angle, ends in ((99.0, 0), (-101.0, 1), (np.nan, 1))),
        *(("mve-ant", {"z": z}, ends) for z, ends in ((0.19, 1), (0.21, 0), (0.99, 0), (1.01, 1))),
        *(("mve-ant", {"ankle_2_velocity": value}, ends) for value, ends in ((np.inf, 1), (99.0, 0))),
        *(("mve-humanoid", {"z": z}, ends) for z, ends in ((0.99, 1), (1.01, 0), (1.99, 0), (2.01, 1))),
    ],
)
def test_where_an_episode_terminates(name, values, ends):
    assert edge(name, **values) == bool(ends)


def test_the_others_never_terminate():
    assert all(task_of(name).terminated is None for name in ("mve-cheetah", "mve-swimmer", "mve-pusher"))


@pytest.mark.parametrize(
    ("name", "bound", "normal"),
    [
        ("mve-cheetah", 0.1, True),
        ("mve-ant", 0.1, True),
        ("mve-swimmer", 0.1, False),
        ("mve-walker2d", 0.005, False),
        ("mve-hopper", 0.005, False),
        ("mve-humanoid", 0.005, False),
    ],
)
def test_noise_at_reset(name, bound, normal):
    env, positions, velocities = bare(name), [], []
    for seed in range(60):
        env.reset(seed=seed)
        positions.append(env.data.qpos - env.init_qpos)
        velocities.append(env.data.qvel.copy())
    positions, velocities = np.array(positions), np.array(velocities)
    straight = np.delete(positions, range(3, 7), 1) if name in ("mve-ant", "mve-humanoid") else positions
    assert 0.9 * bound < np.abs(straight).max() <= bound
    assert velocities.std() == pytest.approx(bound if normal else bound / 3**0.5, rel=0.15)
    assert (np.abs(velocities).max() > bound) == normal


@pytest.mark.parametrize(("name", "first", "last"), [("mve-ant", 30, 114), ("mve-humanoid", 294, 378)])
def test_contact_forces_are_felt_and_clipped_and_the_floor_has_none(name, first, last):
    forces = transitions(task_of(name), 60).next_obs[:, first:last]
    assert np.abs(forces).max() == 1 and (np.abs(forces) == 1).mean() > 0.01
    assert not forces[:, :6].any()


def test_velocities_of_walker_and_hopper_are_clipped():
    for name in ("mve-walker2d", "mve-hopper"):
        env = bare(name)
        env.reset(seed=0)
        env.set_state(env.data.qpos, np.linspace(-30, 30, env.model.nv))
        np.testing.assert_array_equal(env._observation()[env.model.nq :], np.clip(env.data.qvel, -10, 10))


def test_a_humanoid_observes_its_bodies_as_they_are():
    """All of it belongs to the same instant, so it is what the joints alone lead to."""
    env, generator = bare("mve-humanoid"), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(8):
        obs = env.step(random_action(env, generator))[0]
    data = mujoco.MjData(env.model)
    data.qpos[:], data.qvel[:] = obs[:24], obs[24:47]
    mujoco.mj_forward(env.model, data)
    for first, rows in ((47, data.cinert), (187, data.cvel), (378, data.xipos)):
        np.testing.assert_allclose(obs[first : first + rows.size], rows.ravel(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(obs[271:294], env.data.qfrc_actuator)
    assert np.abs(obs[271:294]).max() > 10 and not obs[271:277].any()


def test_a_humanoids_actions_are_weaker_motor_commands():
    env = bare("mve-humanoid")
    env.reset(seed=0)
    action = np.linspace(-1, 1, 17).astype(np.float32)
    kept = action.copy()
    env.step(action)
    np.testing.assert_array_equal(action, kept)
    np.testing.assert_allclose(env.data.ctrl, 0.4 * kept)


def test_shares_of_the_humanoids_mass():
    assert shares().sum() == pytest.approx(1) and shares()[0] == 0 and shares().argmax() == 1


MOVED = {"x": 3.0, "y": -2.0, "torso_x": 3.0}


@pytest.mark.parametrize(
    ("name", "features"),
    [
        *(("mve-cheetah", 17), ("mve-walker2d", 17), ("mve-hopper", 11)),
        *(("mve-swimmer", 8), ("mve-ant", 111), ("mve-humanoid", 415)),
    ],
)
@pytest.mark.long
def test_networks_do_not_see_where_on_the_floor_a_robot_is_unless_asked(name, features):
    """And nothing but that is missing: all else that they are not shown is constant."""
    task, raw = task_of(name), task_of(name, inputs="raw")
    env, generator = task.simulator().unwrapped, np.random.default_rng(0)
    env.reset(seed=0)
    obs = env.step(random_action(env, generator))[0]
    planar = name in ("mve-cheetah", "mve-walker2d", "mve-hopper")
    env.data.qpos[: 1 if planar else 2] += 3.0
    mujoco.mj_kinematics(env.model, env.data)
    moved = env._observation()
    assert (task.feature_size, raw.feature_size) == (features, len(obs))
    np.testing.assert_allclose(task.features(jnp.array(moved)), task.features(jnp.array(obs)), atol=1e-5)
    np.testing.assert_array_equal(raw.features(jnp.array(moved)), jnp.array(moved))
    assert not np.array_equal(moved, obs)
    assert task.features(jnp.zeros((2, 3, len(obs)))).shape == (2, 3, features)


def test_an_unknown_kind_of_inputs_is_refused():
    with pytest.raises(UserError, match=r"^task.options.inputs of 'mve-ant' must not be 'row'; did you mean 'raw'\?$"):
        task_of("mve-ant", inputs="row")


# The pusher.


def test_the_pushers_reward_is_that_of_the_state_before_the_step():
    steps = transitions(task_of("mve-pusher"), 30)
    tip, thing, goal = steps.obs[:, 22:25], steps.obs[:, 25:28], steps.obs[:, 28:31]
    far, near = np.linalg.norm(thing - goal, axis=-1), np.linalg.norm(thing - tip, axis=-1)
    by_hand = -far - 0.5 * near - 0.1 * 4 * np.square(steps.action).sum(-1)
    np.testing.assert_allclose(steps.reward, by_hand, rtol=1e-6)
    np.testing.assert_allclose(exactly(task_of("mve-pusher").reward, steps), by_hand, rtol=1e-6)


def test_where_the_pusher_begins():
    env, starts = bare("mve-pusher"), []
    initial = env.init_qpos.copy()
    for seed in range(200):
        starts.append(env.reset(seed=seed)[0])
    qpos, qvel = np.array(starts)[:, :11], np.array(starts)[:, 11:22]
    gaps, thing = np.linalg.norm(qpos[:, 7:9], axis=-1), qpos[:, 7:9]
    assert 0.17 < gaps.min() < 0.18 and (thing >= [-0.3, -0.2]).all() and (thing <= [0, 0.2]).all()
    assert np.ptp(thing, 0) == pytest.approx([0.3, 0.4], rel=0.05)
    assert not qpos[:, :7].any() and not qpos[:, 9:].any() and not qvel[:, 7:].any()
    assert 0.0045 < np.abs(qvel).max() <= 0.005
    np.testing.assert_array_equal(env.init_qpos, initial)


def test_the_object_can_be_pushed():
    env = bare("mve-pusher")
    env.reset(seed=0)
    env.set_state(np.array([0, 1.2, 0, -1.435, 0, 0, 0, -0.25, 0.15, 0, 0]), np.zeros(11))
    start = env.data.body("object").xpos.copy()
    for _ in range(40):
        obs = env.step(np.array([0.5, 0, 0, 0, 0, 0, 0]))[0]
    assert np.linalg.norm(obs[25:28] - start) > 0.1


def test_the_pushers_model_is_gymnasiums_but_for_the_object():
    found = differing_fields(bare("mve-pusher").model, gymnasiums_model("pusher_v5.xml"))
    assert {"body_mass", "dof_armature"} <= found
    arm = bare("mve-pusher").model.body_mass[:-2]
    np.testing.assert_array_equal(arm, gymnasiums_model("pusher_v5.xml").body_mass[:-2])
