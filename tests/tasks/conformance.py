"""What a task says, against its simulator: checks that raise an AssertionError where they differ."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tiny import quick_jit

SAME = 1e-6
"""The greatest difference, also relative, of numbers that count as equal."""


class Transitions(NamedTuple):
    """Steps of random actions, one a row, in double precision."""

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray


def transitions(task, count=40):
    """Random actions from resets; an episode is never longer than a third of all steps."""
    env, generator, rows = task.simulator().unwrapped, np.random.default_rng(0), []
    obs = env.reset(seed=1)[0]
    for i in range(count):
        action = generator.uniform(task.spec.action_low, task.spec.action_high).astype(np.float32)
        next_obs, reward, terminated, *_ = env.step(action)
        rows.append((obs, action, next_obs, reward, terminated))
        obs = env.reset(seed=2 + i)[0] if terminated or (i + 1) % (count // 3) == 0 else next_obs
    return Transitions(*(np.array(column, np.float64) for column in zip(*rows, strict=True)))


def exactly(function, steps):
    """What a function of a task gives of transitions, in double precision."""
    with jax.enable_x64(True):
        return np.asarray(quick_jit(function)(*map(jnp.asarray, steps[:3])))


def check_spec(task):
    """Names, sizes and bounds; five steps that stay finite and are of the sizes."""
    with task.make() as env:
        spec, space = task.spec, env.action_space
        assert len(set(spec.obs_names)) == spec.obs_size, "names of observations are given twice"
        assert env.observation_space.shape == (spec.obs_size,), "the observation is of another size"
        assert tuple(space.low) == spec.action_low and tuple(space.high) == spec.action_high, "other bounds of actions"
        env.reset(seed=0), space.seed(0)
        for _ in range(5):
            obs, reward, *_ = env.step(space.sample())
            assert obs.shape == (spec.obs_size,) and np.isfinite(obs).all() and np.isfinite(reward)


def check_reward(task, steps):
    np.testing.assert_allclose(exactly(task.reward, steps), steps.reward, rtol=SAME, atol=SAME)


def check_terminated(task, steps):
    found = exactly(task.terminated, steps) if task.terminated else np.zeros(len(steps.obs), bool)
    np.testing.assert_array_equal(found, steps.terminated)


def check_prediction(task, steps):
    """`advance` undoes `target`, of as many numbers as the task says; features are finite."""
    obs, _, next_obs = map(jnp.float32, steps[:3])
    target = task.target(obs, next_obs)
    assert target.shape == (len(obs), task.target_size) and task.features(obs).shape == (len(obs), task.feature_size)
    assert jnp.isfinite(task.features(obs)).all()
    np.testing.assert_allclose(task.advance(obs, target), next_obs, rtol=1e-4, atol=1e-4)


def check_restored(task, steps):
    """A simulator that was elsewhere, put into the state of an observation, steps as the one that was observed."""
    env = task.simulator().unwrapped
    env.reset(seed=99)
    for obs, action, next_obs, reward, terminated in zip(*steps, strict=True):
        task.restore(env, obs)
        found = env.step(action.astype(np.float32))
        np.testing.assert_allclose(found[0], next_obs, rtol=SAME, atol=SAME)
        np.testing.assert_allclose(found[1], reward, rtol=SAME, atol=SAME)
        assert found[2] == terminated
