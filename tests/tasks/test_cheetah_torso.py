"""The homework's half-cheetah: which positions it sees, what it pays, and what plans are judged by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators import differing_fields, gymnasiums_model, play, random_steps, returns

from foretell.tasks import TaskSettings, make_task
from foretell.tasks.cheetah_torso import CheetahTorso, HalfCheetahTorsoEnv

TASK = CheetahTorso()
COM = slice(17, 20)
SIGNALS = ("com-lagged", "com", "torso")


@pytest.fixture(scope="module")
def env():
    with TASK.make() as env:
        yield env


@pytest.fixture(scope="module")
def steps(env):
    return random_steps(env, 300)


def course(progress, count=40):
    """Observations, and positions (x) of the torso, of an episode with this signal."""
    env, rng = HalfCheetahTorsoEnv(progress=progress), np.random.default_rng(1)
    seen, xs = [env.reset(seed=1)[0]], [env.data.qpos[0]]
    for _ in range(count):
        seen.append(env.step(rng.uniform(-1, 1, 6).astype(np.float32))[0])
        xs.append(env.data.qpos[0])
    return np.array(seen), np.array(xs)


@pytest.mark.filterwarnings("ignore:compiler attribute")
def test_the_model_is_gymnasiums_stepped_one_by_one(env):
    env = env.unwrapped
    assert differing_fields(env.model, gymnasiums_model("half_cheetah.xml")) == {"geom_size"}
    assert env.frame_skip == 1 and env.dt == 0.01


def test_an_observation_is_positions_velocities_and_the_centre_of_mass(env):
    obs, _ = env.reset(seed=0)
    data = env.unwrapped.data
    np.testing.assert_array_equal(obs, [*data.qpos[1:], *data.qvel, *data.subtree_com[1]])
    obs = env.step(env.action_space.high)[0]
    np.testing.assert_array_equal(obs[:17], [*data.qpos[1:], *data.qvel])
    assert TASK.spec.obs_names[5:8] == ("front_thigh", "front_shin", "front_foot")
    assert TASK.spec.obs_names[17] == "com_x" and len(obs) == 20


def test_the_centre_of_mass_is_the_whole_robots_and_stays_in_its_plane(steps):
    assert np.abs(steps.obs[:, 17] - course("torso")[0][0, 17]).max() > 0.01
    np.testing.assert_array_equal(steps.obs[:, 18], 0)


def test_by_default_the_position_is_late_by_exactly_one_step():
    lagged, fresh = course("com-lagged")[0], course("com")[0]
    np.testing.assert_array_equal(lagged[0, COM], fresh[0, COM])
    np.testing.assert_array_equal(lagged[1:, COM], fresh[:-1, COM])
    assert lagged[1, 17] == lagged[0, 17] and (np.diff(fresh[:, 17]) != 0).all()
    assert (np.diff(lagged[1:, 17]) != 0).all()


def test_the_torsos_position_is_late_too():
    obs, xs = course("torso")
    np.testing.assert_array_equal(obs[1:, 17], xs[:-1])
    assert obs[0, 17] == xs[0]


def test_a_reset_leaves_nothing_behind():
    env = HalfCheetahTorsoEnv()
    first = env.reset(seed=5)[0]
    env.step(env.action_space.high)
    np.testing.assert_array_equal(env.reset(seed=5)[0], first)


@pytest.mark.parametrize("progress", SIGNALS)
def test_the_signal_does_not_change_the_course(progress):
    np.testing.assert_array_equal(course(progress)[0][:, :17], course("com")[0][:, :17])
    with make_task(TaskSettings(env="cheetah-torso", options={"progress": progress})).make() as env:
        assert env.unwrapped._progress == progress


def test_the_cost_of_plans():
    obs = jnp.zeros(20).at[5:8].set(jnp.array([0.25, -0.1, 0.0]))
    assert float(TASK.reward(obs, jnp.ones(6), obs.at[17].add(0.012))) == pytest.approx(-18.8, abs=1e-5)


@pytest.mark.parametrize(("angles", "parts"), [((0.2, 0, 0), 3), ((0.1999, -0.001, -0.001), 0), ((-1, 0.5, -0.2), 1)])
def test_the_limits_are_folded_back_already(angles, parts):
    obs = jnp.zeros(20).at[5:8].set(jnp.array(angles))
    assert float(TASK.reward(obs, jnp.zeros(6), jnp.zeros(20))) == -10 * parts


def test_the_posture_is_that_before_the_action():
    straight = jnp.zeros(20).at[5:8].set(-0.1)
    assert float(TASK.reward(straight, jnp.zeros(6), jnp.zeros(20))) == 0


@pytest.mark.long
@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=30))
def test_without_fines_a_paths_cost_is_what_it_gained(xs):
    obs = jnp.zeros((len(xs), 20)).at[:, 5:8].set(-0.1).at[:, 17].set(jnp.array(xs))
    total = TASK.reward(obs[:-1], jnp.ones((len(xs) - 1, 6)), obs[1:]).sum()
    assert float(total) == pytest.approx((xs[-1] - xs[0]) / 0.01, abs=0.02)


@pytest.mark.parametrize("progress", SIGNALS)
def test_the_cost_of_plans_agrees_with_the_simulators_numbers(progress):
    env, rng, rows = HalfCheetahTorsoEnv(progress=progress), np.random.default_rng(0), []
    place = (lambda: env.data.xpos[1, 0]) if progress == "torso" else (lambda: env.data.subtree_com[1, 0])
    obs, _ = env.reset(seed=0)
    for _ in range(300):
        before, legs, action = place(), env.data.qpos[6:9] >= [0.2, 0, 0], rng.uniform(-1, 1, 6).astype(np.float32)
        next_obs = env.step(action)[0]
        rows.append((obs, action, next_obs, (place() - before) / 0.01 - 10 * legs.sum()))
        obs = next_obs
    *seen, wanted = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    found = jax.jit(CheetahTorso(progress=progress).reward)(*map(jnp.array, seen))
    np.testing.assert_allclose(found, wanted, atol=2e-4)  # positions of 1 m are known to 1e-7
    assert len(np.unique((-wanted / 10).round())) >= 3


def test_the_environment_pays_speed_less_effort_whatever_plans_are_judged_by(env, steps):
    env.reset(seed=0)
    rng, xs = np.random.default_rng(0), [env.unwrapped.data.qpos[0]]
    for _ in range(300):
        env.step(rng.uniform(-1, 1, 6).astype(np.float32))
        xs.append(env.unwrapped.data.qpos[0])
    paid = np.diff(xs) / 0.01 - 0.1 * np.square(steps.action).sum(-1)
    np.testing.assert_allclose(steps.reward, paid, atol=1e-5)
    assert np.abs(steps.reward - TASK.reward(*map(jnp.array, (steps.obs, steps.action, steps.next_obs)))).max() > 5


def test_the_model_sees_the_observation_and_predicts_its_change(steps):
    obs, next_obs = jnp.array(steps.obs), jnp.array(steps.next_obs)
    np.testing.assert_array_equal(TASK.features(obs), obs)
    np.testing.assert_array_equal(TASK.target(obs, next_obs), next_obs - obs)
    assert TASK.terminated is None and not TASK.learns_termination


def test_reward_accepts_any_leading_axes():
    obs, action = jnp.ones((2, 3, 20)), jnp.ones((2, 3, 6))
    assert TASK.reward(obs, action, obs).shape == (2, 3)


def test_the_reset_is_uniform_in_positions_and_normal_in_velocities():
    env, starts = HalfCheetahTorsoEnv(), []
    for seed in range(600):
        env.reset(seed=seed)
        starts.append([*env.data.qpos, *env.data.qvel])
    position, velocity = np.split(np.array(starts), 2, axis=1)
    assert 0.099 < np.abs(position).max() < 0.1 and np.abs(velocity).max() > 0.3
    np.testing.assert_allclose(position.std(0), 0.1 / np.sqrt(3), rtol=0.1)
    np.testing.assert_allclose(velocity.std(0), 0.1, rtol=0.1)
    np.testing.assert_allclose([position.mean(0), velocity.mean(0)], 0, atol=0.015)


@pytest.mark.long
def test_a_seed_repeats_an_episode(env):
    np.testing.assert_array_equal(play(env, 7), play(env, 7))


@pytest.mark.long
def test_the_return_of_random_actions_is_the_published_one(env):
    assert -360 < returns(TASK, env, 5) < -240


@pytest.mark.long
def test_the_homework_of_the_next_year_had_shorter_episodes(env):
    short = make_task(TaskSettings(env="cheetah-torso", horizon=500))
    assert short.spec.horizon == 500 and -190 < returns(short, env, 5) < -110
