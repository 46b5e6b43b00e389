"""The agents of MB-MPC on a path: who follows one, and what that earns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.tasks import Follows, TaskSettings, make_task, waypoints
from foretell.tasks.nagabandi import Ant, HalfCheetah, Hopper, Swimmer


def test_only_a_task_with_a_path_follows_one():
    for kind in (Swimmer, HalfCheetah, Hopper, Ant):
        assert not isinstance(kind(), Follows)
    for env in ("mbmf-swimmer", "mbmf-cheetah", "mbmf-ant"):
        task = make_task(TaskSettings(env=env, options={"path": "straight"}))
        assert isinstance(task, Follows) and task.terminated is None
        assert not isinstance(make_task(TaskSettings(env=env)), Follows)
    assert Ant().terminated is not None


WEIGHTS = {
    (Ant, "straight"): (3.5, 85, 100, waypoints.STRAIGHT),
    (Ant, "left"): (4, 85, 100, waypoints.ANT_LEFT),
    (Ant, "right"): (3, 50, 100, waypoints.ANT_RIGHT),
    (Ant, "u-turn"): (3, 50, 100, waypoints.U_TURN),
    (Swimmer, "straight"): (4, 500, 2, waypoints.STRAIGHT),
    (Swimmer, "left"): (0.7, 200, 0.9, waypoints.LEFT),
    (Swimmer, "right"): (0.1, 250, 0.9, waypoints.RIGHT),
    (HalfCheetah, "straight"): (0, 40, 10, waypoints.STRAIGHT),
    (HalfCheetah, "backward"): (0, 20, 10, waypoints.BACKWARD),
    (HalfCheetah, "forward-backward"): (0, 20, 10, waypoints.FORWARD_BACKWARD),
}


@pytest.mark.long
@pytest.mark.parametrize(("kind", "path"), WEIGHTS, ids=lambda part: getattr(part, "__name__", part))
def test_what_following_earns(kind, path):
    """From the start, a step of 0.1 m along and 0.2 m beside the first segment, with a faultless posture."""
    task = kind(path=path)
    distance, advance, posture, route = WEIGHTS[kind, path]
    assert task.path_cost == (distance, advance, posture, 10 if kind is Ant else 1)
    length = np.hypot(*(route.end[0] - route.start[0]))
    direction = np.array([np.cos(route.angle[0]), np.sin(route.angle[0])])
    obs = jnp.zeros((2, task.spec.obs_size)).at[:, task.position[0]].set(5.0)
    place = obs[0, jnp.array(task.position)] + 0.1 * direction + 0.2 * direction[::-1] * [-1, 1]
    next_obs = obs.at[:, jnp.array(task.position)].set(place)
    if kind is Swimmer:
        next_obs = next_obs.at[:, 2].set(float(route.angle[0]))
    elif kind is HalfCheetah:
        next_obs = next_obs.at[:, 6:9].set(-0.1)
    else:
        next_obs = next_obs.at[:, 31].set(0.5)
    progress = task.plan_progress(task.start_progress(obs), obs)
    reward, progress = jax.jit(task.follow)(progress, obs, jnp.zeros((2, task.spec.action_size)), next_obs)
    np.testing.assert_allclose(reward, [advance * 0.1 / length - distance * 0.2] * 2, rtol=1e-4, atol=1e-4)
    assert progress.segment.tolist() == [0, 0] and reward.shape == (2,)


def test_the_posture_of_a_swimmer():
    task = Swimmer(path="straight")

    def cost(heading, joint1=0.0, joint2=0.0, angle=0.0):
        obs = jnp.zeros(16).at[2:5].set(jnp.array([heading, joint1, joint2]))
        return float(task.extra(obs, jnp.array(angle)))

    assert cost(0.5) == pytest.approx(1.0) == cost(-0.5) == cost(0.5, 1.0, -1.0)
    assert cost(np.pi / 3 + 0.01) == 20 and cost(-3.0, -1.1, 1.1) == 24 and cost(0, 0, -1.1) == 2
    assert cost(3.1, angle=-3.1) == pytest.approx(2 * (2 * np.pi - 6.2), abs=1e-5)
    assert cost(4 * np.pi + 0.25) == pytest.approx(0.5, abs=1e-4)


def test_the_posture_of_a_cheetah():
    obs = jnp.zeros((3, 24)).at[:, 6:9].set(jnp.array([[0.2, 0, 0], [0.1, -1, 0], [-1, -1, -1]]))
    np.testing.assert_array_equal(HalfCheetah(path="straight").extra(obs, jnp.zeros(3)), [30, 10, 0])


@pytest.mark.long
def test_the_height_of_an_ant():
    obs = jnp.zeros((5, 41)).at[:, 31].set(jnp.array([0.29, 0.3, 0.5, 0.67, 0.68]))
    np.testing.assert_array_equal(Ant(path="left").extra(obs, jnp.zeros(5)), [4000, 0, 0, 0, 4000])


@pytest.mark.long
def test_following_is_of_the_segment_one_has_moved_on_to():
    """A swimmer in the turn to the left is to head along the next segment."""
    task = Swimmer(path="left")
    at = jnp.zeros(16).at[10:12].set(jnp.array([3.2, 0.2])).at[2].set(np.pi / 4)
    progress = task.start_progress(jnp.zeros(16))._replace(segment=jnp.array(2))
    reward, progress = task.follow(progress, jnp.zeros(16), jnp.zeros(2), at)
    assert int(progress.segment) == 3 and bool(progress.moved)
    assert float(reward) == pytest.approx(200 * 0.2, abs=1e-3)


def walk(task, speed, options=None):
    """Step a robot that is carried along the x axis at so many metres a step; steps until it was cut, at most 60."""
    env = task.make()
    env.reset(seed=0, options=options)
    steps = 0
    observe = env.unwrapped._observation
    origin = observe()[list(task.position)]

    def carried():
        obs = observe()
        obs[list(task.position)] = origin + [speed * (steps + 1), 0.0]
        return obs

    env.unwrapped._observation = carried
    for steps in range(60):
        *_, terminated, truncated, _ = env.step(np.zeros(task.spec.action_size))
        if truncated or terminated:
            return steps + 1, truncated
    return None


@pytest.mark.long
def test_an_episode_is_cut_behind_the_sixth_segment():
    """Segments of half a metre to the left; one that walks the other way does not get on."""
    task = make_task(TaskSettings(env="mbmf-cheetah", options={"path": "backward"}))
    assert walk(task, -0.1) == (30, True)
    assert walk(task, 0.1) is None
    assert walk(task, -0.1, options={"collecting": True}) is None, "random actions go on"
    assert walk(HalfCheetah(path="backward", segments=2), -0.1) == (10, True)


@pytest.mark.long
def test_a_path_has_at_least_one_segment(refused):
    assert "task.options.segments must be at least 1, not 0" in refused(
        "train", "mbmpc/cheetah-path", "--set", "task.options.segments=0"
    )
