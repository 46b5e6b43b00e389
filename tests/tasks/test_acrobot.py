"""MVE's acrobot against Gymnasium's, whose dynamics are written for one state at a time."""

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.classic_control import AcrobotEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.tasks.observable.acrobot import MAX_VELOCITIES, Acrobot, advance, height

TASK = Acrobot()
STATES = st.tuples(st.floats(-3.1, 3.1), st.floats(-3.1, 3.1), st.floats(-12, 12), st.floats(-28, 28))


def gymnasiums(state, torque):
    """The next state, whether it is terminal, and the reward, of Gymnasium's environment."""
    env = AcrobotEnv()
    env.state = np.array(state)
    _, reward, terminated, *_ = env.step(int(torque) + 1)
    return env.state, terminated, reward


@settings(deadline=None, max_examples=60)
@given(STATES, st.sampled_from([-1.0, 0.0, 1.0]))
@pytest.mark.long
def test_a_step_is_gymnasiums(state, torque):
    expected, terminated, reward = gymnasiums(state, torque)
    found = advance(np.array(state), torque)
    turn = (found[:2] - expected[:2] + np.pi) % (2 * np.pi) - np.pi  # -pi and pi are the same angle
    np.testing.assert_allclose(turn, 0, atol=1e-9)
    np.testing.assert_allclose(found[2:], expected[2:], rtol=1e-9, atol=1e-9)
    obs = jnp.array([np.cos(found[0]), np.sin(found[0]), np.cos(found[1]), np.sin(found[1]), *found[2:]])
    if abs(height(obs) - 1) > 1e-5:
        assert bool(TASK.terminated(obs, jnp.zeros(3), obs)) == terminated
        assert TASK.reward(obs, jnp.zeros(3), obs) == reward


def test_many_states_are_stepped_at_once():
    generator = np.random.default_rng(0)
    states, torques = generator.normal(size=(3, 4, 4)), generator.integers(-1, 2, (3, 4)).astype(float)
    together = advance(states, torques)
    for place in np.ndindex(3, 4):
        np.testing.assert_allclose(together[place], advance(states[place], torques[place]), rtol=1e-12)
    assert (np.abs(advance(1e3 * states, torques)) <= [np.pi, np.pi, *MAX_VELOCITIES]).all()


@pytest.mark.parametrize(
    ("preferences", "torque"), [((1, 0, 0), -1), ((-1, 0.1, 0), 0), ((0, 0, 0.5), 1), ((0, 0, 0), -1)]
)
def test_the_greatest_preference_is_the_torque(preferences, torque):
    env = TASK.simulator().unwrapped
    env.reset(seed=0)
    before = env.state.copy()
    env.step(np.float32(preferences))
    np.testing.assert_array_equal(env.state, advance(before, float(torque)))


@pytest.mark.long
def test_the_start_hangs_down():
    env, starts, heights = TASK.simulator().unwrapped, [], []
    for seed in range(200):
        heights.append(height(env.reset(seed=seed)[0]))
        starts.append(env.state)
    assert 0.095 < np.abs(starts).max() <= 0.1 and np.std(starts) == pytest.approx(0.1 / 3**0.5, rel=0.1)
    assert max(heights) < -1.9


@pytest.mark.long
def test_it_can_be_swung_up():
    """Pushing along with the joint's turn adds energy; the last step is free, and ends the episode."""
    env = TASK.simulator().unwrapped
    obs, rewards, terminated = env.reset(seed=0)[0], [], False
    while not terminated and len(rewards) < 500:
        pushed = np.float32([0, 0, 1] if obs[5] > 0 else [1, 0, 0])
        before, (obs, reward, terminated, *_) = obs, env.step(pushed)
        step = jnp.array(before), jnp.array(pushed), jnp.array(obs)
        assert (TASK.reward(*step), TASK.terminated(*step)) == (reward, terminated)
        rewards.append(reward)
    assert terminated and len(rewards) > 5 and rewards == [-1.0] * (len(rewards) - 1) + [0.0]
