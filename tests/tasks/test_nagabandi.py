"""The agents of MB-MPC: what they observe, where episodes begin and end, what is paid and what plans are judged by."""

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from simulators import gymnasiums_model, random_steps

from foretell.tasks import nagabandi_simulators as simulators
from foretell.tasks.nagabandi import Ant, HalfCheetah, Hopper, Swimmer

KINDS = (Swimmer, HalfCheetah, Hopper, Ant)
FALLING = (Hopper, Ant)
SIZES = {Swimmer: (16, 2, 333), HalfCheetah: (24, 6, 1000), Hopper: (17, 3, 1000), Ant: (41, 8, 1000)}
PAID = {Swimmer: (0, 0.005), HalfCheetah: (0, 0.05), Hopper: (1, 0.005), Ant: (0.05, 0.005)}
"""What a step is worth, and the weight of effort, in the environments."""
JUDGED = {  # what a step is worth, and the weight of effort as released and as published, for planning
    Swimmer: (0, 0.5 / 2500, 0.5),
    HalfCheetah: (0, 0.05, 0.05),
    Hopper: (1, 0.005 / 200, 0.005),
    Ant: (0.5, 0.005 / 22500, 0.005),
}
TIMES = {Swimmer: (0.001, 150), HalfCheetah: (0.01, 1), Hopper: (0.02, 1), Ant: (0.02, 1)}
MODELS = {Swimmer: "swimmer.xml", HalfCheetah: "half_cheetah.xml", Hopper: "hopper.xml", Ant: "ant.xml"}
TORQUES = {Swimmer: [50] * 2, HalfCheetah: [120, 90, 60, 120, 60, 30], Hopper: [200] * 3, Ant: [150] * 8}

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
falling_kinds = pytest.mark.parametrize("kind", FALLING, ids=lambda kind: kind.__name__)


def bare(kind, **options):
    return kind(**options).make().unwrapped


def fresh(env):
    """A copy of the simulation brought up to date by everything MuJoCo knows."""
    data = copy.copy(env.data)
    mujoco.mj_forward(env.model, data)
    mujoco.mj_subtreeVel(env.model, data)
    return data


def played(env, seed, count=40, **reset):
    rng = np.random.default_rng(seed)
    seen = [env.reset(seed=seed, **reset)[0]]
    for _ in range(count):
        seen.append(env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))[0])
    return np.array(seen)


@every_kind
def test_sizes(kind):
    task = kind()
    assert (task.spec.obs_size, task.spec.action_size, task.spec.horizon) == SIZES[kind]
    assert set(task.spec.action_low) == {-1} and set(task.spec.action_high) == {1}
    assert task.spec.obs_names[task.speed] == "com_x_velocity"
    assert task.spec.obs_names[task.speed - (9 if kind is Ant else 3)] == "com_x"


def test_places():
    assert [Swimmer.spec.obs_names[i] for i in (2, *Swimmer.position)] == ["heading", "com_x", "com_y"]
    assert [HalfCheetah.spec.obs_names[i] for i in (*HalfCheetah.position, 6, 7, 8)] == [
        *("com_x", "com_y", "front_thigh", "front_shin", "front_foot")
    ]
    assert [Hopper.spec.obs_names[i] for i in (0, 1, 11)] == ["z", "pitch", "com_x"]
    assert [Ant.spec.obs_names[i] for i in (*Ant.position, Ant.height)] == ["com_x", "com_y", "com_z"]


@every_kind
@pytest.mark.filterwarnings("ignore:compiler attribute")
def test_the_simulators_are_rllabs(kind):
    env, gymnasiums = bare(kind), gymnasiums_model(MODELS[kind])
    model = env.model
    assert (model.opt.timestep, env.frame_skip) == TIMES[kind]
    runge_kutta = kind in (Hopper, Ant)
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 * runge_kutta
    np.testing.assert_array_equal(model.actuator_gear[:, 0], TORQUES[kind])
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-1, 1]] * model.nu)
    assert model.actuator_ctrllimited.all()
    for same in ("body_mass", "jnt_range", "jnt_axis", "jnt_pos", "geom_friction", "dof_damping", "body_inertia"):
        np.testing.assert_allclose(getattr(model, same), getattr(gymnasiums, same), rtol=1e-6, err_msg=same)
    if kind is Swimmer:
        assert not model.dof_armature.any() and (model.opt.density, model.opt.viscosity) == (4000, 0.1)
    if kind is Ant:
        np.testing.assert_allclose(model.geom_solimp[:, :3], [[0.8, 0.8, 0.01]] * model.ngeom)


@every_kind
def test_an_action_is_a_share_of_the_greatest_torque_and_is_clipped(kind):
    env = bare(kind)
    env.reset(seed=0)
    env.step(np.full(env.model.nu, 0.5, np.float32))
    np.testing.assert_allclose(env.data.qfrc_actuator[-env.model.nu :], 0.5 * np.array(TORQUES[kind]))
    bounded, beyond = (
        env.step(np.full(env.model.nu, size, np.float32)) for size in (1, 3) if env.reset(seed=0)[0] is not None
    )
    np.testing.assert_array_equal(bounded[0], beyond[0])
    assert bounded[1] == beyond[1]


@every_kind
def test_an_observation_is_of_the_end_of_the_step(kind):
    env = bare(kind)
    for count in (0, 1, 7):
        obs = played(env, 3, count)[-1]
        data = fresh(env)
        whole = [*data.subtree_com[1]], [*data.subtree_linvel[1]]
        qpos, qvel = data.qpos, data.qvel
        if kind is Hopper:
            qpos, qvel = qpos[[1, 2, 3, 4, 5]], np.clip(qvel[[1, 0, 2, 3, 4, 5]], -10, 10)
        joints = [*qpos, *qvel]
        np.testing.assert_array_equal(obs[: len(joints)], joints)
        np.testing.assert_allclose(obs[len(joints) : len(joints) + 3], whole[0], atol=1e-12)
        np.testing.assert_allclose(obs[-3:], whole[1], atol=1e-12)


@pytest.mark.parametrize("kind", [HalfCheetah, Hopper, Ant])
def test_the_velocity_is_that_of_the_whole_robot(kind):
    env = bare(kind)
    seen = played(env, 0, 60, options=simulators.COLLECTING)
    moved = np.diff(seen[:, kind.position[0] if kind is not Hopper else 11]) / env.dt
    mean = 0.5 * (seen[1:, kind.speed] + seen[:-1, kind.speed])
    assert np.abs(moved - mean).mean() < 0.1 * np.abs(mean).max()


def test_a_hopper_sees_bounded_velocities():
    env = bare(Hopper)
    env.reset(seed=0)
    env.set_state(env.data.qpos.copy(), np.array([0.0, -30.0, 0.0, 25.0, 0.0, 0.0]))
    assert env._observation()[5] == -10 and env._observation()[8] == 10


def test_looking_does_not_change_the_course():
    env, twin = bare(HalfCheetah), bare(HalfCheetah)
    twin._look = lambda: None
    np.testing.assert_array_equal(played(env, 0)[:, :18], played(twin, 0)[:, :18])


@every_kind
def test_a_seed_repeats_an_episode(kind):
    for reset in ({}, {"options": simulators.COLLECTING}):
        first, other = bare(kind), bare(kind)
        played(other, 2)
        np.testing.assert_array_equal(played(first, 7, **reset), played(other, 7, **reset))
        assert not np.array_equal(played(first, 7, 0, **reset), played(first, 8, 0, **reset))


@every_kind
def test_what_the_environment_pays(kind):
    env, (bonus, weight) = bare(kind), PAID[kind]
    steps = random_steps(env, 30)
    wanted = steps.next_obs[:, kind.speed] + bonus - weight * np.square(steps.action).sum(-1)
    np.testing.assert_allclose(steps.reward, wanted, atol=1e-5)
    obs_reward = env.step(np.zeros(env.model.nu))[1] - bonus
    assert obs_reward == pytest.approx(fresh(env).subtree_linvel[1][0], abs=1e-9)


@every_kind
@pytest.mark.parametrize("cost", ["released", "paper"])
@pytest.mark.long
def test_what_plans_are_judged_by_agrees_with_the_simulators_numbers(kind, cost):
    task, env, rows = kind(cost=cost), bare(kind), []
    bonus, released, paper = JUDGED[kind]
    rng, obs = np.random.default_rng(1), env.reset(seed=1, options=simulators.COLLECTING)[0]
    for _ in range(60):
        action = rng.uniform(-1, 1, env.model.nu).astype(np.float32)
        next_obs = env.step(action)[0]
        effort = (released if cost == "released" else paper) * np.square(action).sum()
        fallen = kind in FALLING and cost == "released" and not stands(kind, env.data)
        rows.append((obs, action, next_obs, (0 if fallen else fresh(env).subtree_linvel[1][0] + bonus) - effort))
        obs = next_obs
    *seen, wanted = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    np.testing.assert_allclose(jax.jit(task.reward)(*map(jnp.array, seen)), wanted, atol=1e-5)
    assert task.reward(*(jnp.ones((2, 3, size)) for size in (len(obs), len(action), len(obs)))).shape == (2, 3)


def stands(kind, data):
    if kind is Hopper:
        return abs(data.qpos[2]) < 0.3 and data.qpos[1] > 0.7
    return 0.3 <= data.subtree_com[1][2] <= 1.0


def as_released(kind, states, actions):
    """The cost of one candidate: the sum over its states, the present one included, as the released code has it."""
    dead, total, scale = False, 0.0, {Swimmer: 50, HalfCheetah: 1, Hopper: 200, Ant: 150}[kind]
    weight = {Swimmer: 0.5, HalfCheetah: 0.05, Hopper: 0.005, Ant: 0.005}[kind]
    for number, state in enumerate(states):
        last = number == len(actions)
        effort = weight * np.square(actions[number - last] / scale).sum()
        if kind is Hopper:
            dead = dead or abs(state[1]) >= 0.3 or state[0] <= 0.7
            effort = effort if last else weight * np.square(actions[number]).sum() / scale
        if kind is Ant:
            dead = dead or state[31] > 1 or state[31] < 0.3
        if not dead:
            total += effort - state[kind.speed] - {Hopper: 1, Ant: 0.5}.get(kind, 0)
    return total, (0.0 if dead else weight * np.square(actions[-1] / scale).sum())


@every_kind
def test_returns_rank_candidates_as_the_released_sums_do(kind):
    """They differ by the present state, which is the same for all, and by the last action, which counts twice there."""
    task, rng = kind(), np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (50, 6, task.spec.action_size)).astype(np.float32)
    states = rng.normal(0, 0.3, (50, 7, task.spec.obs_size)).astype(np.float32)
    if kind in FALLING:
        states[..., 0] += 1.25
        states[..., 31 if kind is Ant else 1] += 0.65 if kind is Ant else 0
        states[..., 1] *= 0.6
    states[:, 0] = 0.0
    states[:, 0, 0], states[:, 0, -10] = 1.25, 0.65  # a hopper and an ant that stand
    reward = task.reward(*map(jnp.array, (states[:, :-1], actions, states[:, 1:])))
    alive = np.ones((50, 6))
    if task.terminated is not None:
        falls = np.array(task.terminated(jnp.array(states[:, :-1]), jnp.array(actions), jnp.array(states[:, 1:])))
        alive[:, 1:] = np.cumprod(~falls, 1)[:, :-1]
        assert 0.2 < alive.mean() < 0.95
    costs, twice = np.array([as_released(kind, s, a) for s, a in zip(states, actions, strict=True)]).T
    present = JUDGED[kind][0]
    np.testing.assert_allclose(-(alive * reward).sum(1), costs - twice + present, atol=1e-4)


@pytest.mark.parametrize(("reset", "stds"), [("collection", (0.01, 0.1)), ("paper", (0.001**0.5, 0.001**0.5))])
@every_kind
def test_normal_resets(kind, reset, stds):
    positions, velocities = starts(bare(kind, reset=reset))
    ends = bare(kind).init_qpos
    if kind is Ant:  # a quaternion of almost no turn: the real part is 1 to second order
        positions, ends = np.delete(positions, 3, 1), np.delete(ends, 3)
    np.testing.assert_allclose(positions.std(0), stds[0], rtol=0.2)
    np.testing.assert_allclose(positions.mean(0), ends, atol=0.25 * stds[0])
    np.testing.assert_allclose(velocities.std(0), stds[1], rtol=0.2)
    assert np.abs(velocities).max() > 2.5 * stds[1]


def starts(env, count=300, **reset):
    found = []
    for seed in range(count):
        env.reset(seed=seed, **reset)
        found.append((env.data.qpos.copy(), env.data.qvel.copy()))
    return tuple(np.array(part) for part in zip(*found, strict=True))


@every_kind
def test_resets_in_the_style_of_gym(kind):
    env = bare(kind, reset="gym")
    positions, velocities = starts(env)
    away = np.abs(positions - env.init_qpos)
    if kind is Swimmer:
        assert (positions[:, 2] == 0).all()
        away = np.delete(away, 2, 1)
        assert 0.095 < np.abs(velocities).max() < 0.1
    if kind is Ant:
        np.testing.assert_allclose(np.linalg.norm(positions[:, 3:7], axis=1), 1)
        away = np.delete(away, [3, 4, 5, 6], 1)
    assert 0.095 < away.max() < 0.1
    np.testing.assert_allclose(velocities.std(0), 0.1 / np.sqrt(3) if kind is Swimmer else 0.1, rtol=0.2)


@every_kind
def test_random_data_begin_otherwise_than_plans(kind):
    env = bare(kind)
    for options, style in ((None, "gym"), (dict(kind.collecting_reset), "collection"), (None, "gym")):
        found, wanted = starts(env, 2, options=options), starts(bare(kind, reset=style), 2)
        for part, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(part, other)


def test_swimmers_that_learn_to_follow_paths_begin_anywhere():
    positions, _ = starts(bare(Swimmer, path="left"), options=simulators.COLLECTING)
    np.testing.assert_allclose(np.delete(positions, 2, 1).std(0), 0.5, rtol=0.15)
    assert positions[:, 2].min() < -3 and positions[:, 2].max() > 3 and np.abs(positions[:, 2]).max() < np.pi
    positions, velocities = starts(bare(Swimmer, path="left", reset="paper"), options=simulators.COLLECTING)
    assert np.abs(positions[:, 2]).max() > 3 and np.abs(np.delete(positions, 2, 1)).max() < 0.2
    np.testing.assert_allclose(velocities.std(0), 0.001**0.5, rtol=0.2)


@pytest.mark.parametrize(("path", "heading"), [(None, 0), ("left", 0), ("right", np.pi / 2)])
def test_swimmers_that_plan_head_along_their_path(path, heading):
    assert (starts(bare(Swimmer, path=path), 5)[0][:, 2] == heading).all()
    near = starts(bare(Swimmer, path=path, reset="paper"), 5)[0][:, 2]
    assert np.abs(near - heading).max() < 0.15


def test_ants_begin_with_bent_legs():
    env = bare(Ant)
    np.testing.assert_array_equal(env.init_qpos, [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1])
    heights = [env.reset(seed=seed)[0][31] for seed in range(50)]
    assert min(heights) > 0.3 and max(heights) < 0.7


@pytest.mark.long
@falling_kinds
def test_the_model_knows_when_an_episode_ends(kind):
    task, env, rng, ends = kind(), bare(kind), np.random.default_rng(0), 0
    for seed in range(12 if kind is Hopper else 4):
        obs, rows, fell = env.reset(seed=seed)[0], [], []
        for _ in range(400):
            action = rng.uniform(-1, 1, env.model.nu).astype(np.float32)
            next_obs, _, terminated, truncated, _ = env.step(action)
            rows.append((obs, action, next_obs))
            fell.append(terminated)
            obs = next_obs
            assert not truncated
        seen = (jnp.array(np.array(column, np.float32)) for column in zip(*rows, strict=True))
        np.testing.assert_array_equal(jax.jit(task.terminated)(*seen), fell)
        ends += any(fell)
    assert ends and not task.learns_termination


@pytest.mark.long
@falling_kinds
def test_only_a_hopper_may_fall_while_random_data_are_collected(kind):
    env, rng = bare(kind), np.random.default_rng(0)
    for collecting in (True, False):
        ended = False
        for seed in range(4):
            env.reset(seed=seed, options=simulators.COLLECTING if collecting else None)
            ended |= any(env.step(rng.uniform(-1, 1, env.model.nu).astype(np.float32))[2] for _ in range(900))
        assert ended == (kind is Ant or not collecting)


@pytest.mark.parametrize(("height", "pitch", "ends"), [(0.7, 0, 1), (0.71, 0.3, 1), (0.71, -0.29, 0), (np.nan, 0, 1)])
def test_where_a_hopper_falls(height, pitch, ends):
    obs = jnp.zeros(17).at[:2].set(jnp.array([height, pitch]))
    assert bool(Hopper().terminated(obs, jnp.zeros(3), obs)) == bool(ends)


def test_the_others_never_end():
    for kind in (Swimmer, HalfCheetah):
        assert kind().terminated is None
        env = bare(kind)
        env.reset(seed=0)
        assert not any(any(env.step(env.action_space.high)[2:4]) for _ in range(50))


def test_angles():
    yaw, pitch, roll = 0.3, -0.4, 0.7
    quaternion = np.zeros(4)
    mujoco.mju_euler2Quat(quaternion, [yaw, pitch, roll], "zyx")
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    rotation = matrix.reshape(3, 3)
    np.testing.assert_allclose(simulators.angles(rotation), [yaw, pitch, roll])
    released = simulators.angles(rotation, released=True)
    np.testing.assert_allclose(released[1:], [pitch, roll])
    assert released[0] == np.arctan2(rotation[1, 0], rotation[0, 1])


@pytest.mark.parametrize("released", [False, True])
def test_an_ant_sees_its_angles(released):
    env = bare(Ant, released_angles=released)
    obs = played(env, 0, 5)[-1]
    found = np.arctan2(obs[33:38:2], obs[32:38:2])
    wanted = simulators.angles(fresh(env).xmat[1].reshape(3, 3), released=released)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
