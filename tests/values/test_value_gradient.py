"""The N-step soft return and its gradient, against numbers computed by hand (specification of DHMBPO, section 7)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.values.expansion import Expansion, Frames
from foretell.values.value_gradient import Path, path_targets, soft_return
from tiny import on_host

ALPHA, GAMMA = 0.1, 0.9


def test_targets_and_policy_value_of_three_steps():
    reward = jnp.array([[1.0, 0.5, -1.0], [0.8, 0.4, -0.5], [0.6, 0.3, 0.0]])
    log_density = jnp.array([[0.3, -0.2, 1.0], [-0.5, 0.1, 0.7], [0.2, -1.0, 0.4], [0.9, -0.3, -0.6]])
    done = jnp.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    value = jnp.array([20.0, 30.0, 40.0])
    none = jnp.zeros((4, 3, 1))
    path = Path(none, none, -ALPHA * log_density, reward, done)
    target, gain = on_host(lambda p, v: (path_targets(p, v, GAMMA), soft_return(p, v, GAMMA)))(path, value)
    np.testing.assert_allclose(target, [16.74919, 0.851, -1.0], rtol=1e-6)
    np.testing.assert_allclose(gain, [16.71919, 0.871, -1.1], rtol=1e-6)


def test_the_one_step_target_of_mbpo():
    """Section 7.7: the least of two critics, with the entropy of the next action, unless the episode has ended."""
    reward, done = jnp.array([1.0, -0.5, 2.0]), jnp.array([0.0, 0.0, 1.0])
    bonus = -0.2 * jnp.array([-1.2, 0.4, -3.0])
    value = jnp.array([[10.0, 4.0, 7.0], [9.5, 4.5, 6.0]]).min(0)
    none = jnp.zeros((1, 1, 3, 1))
    frames = Frames(none, none, reward[None, None, None], done[None, None], bonus[None, None], value[None, None, None])
    target = on_host(lambda frames: Expansion(horizon=0).targets(frames, 0.99).target[0])(frames)
    np.testing.assert_allclose(target, [10.6426, 3.3808, 2.0], rtol=1e-6)


def test_what_is_imagined_after_the_end_may_be_infinite():
    none = jnp.zeros((3, 1, 1))
    path = Path(none, none, jnp.zeros((3, 1)), jnp.array([[1.0], [jnp.inf]]), jnp.array([[1.0], [0.0]]))
    target, gain = on_host(lambda p, v: (path_targets(p, v, GAMMA), soft_return(p, v, GAMMA)))(
        path, jnp.array([jnp.nan])
    )
    assert target == 1.0 and gain == 1.0


NOISE = jnp.array([0.3, -0.7, 0.2])


def gain_of(k, log_std, *, alpha=ALPHA, ends=0.0, stopped=False, squashed=True):
    """The soft return of `a = tanh(k s + e^l noise)`, or without tanh, in a linear world."""
    s, states, actions, densities, rewards = jnp.array(0.5), [], [], [], []
    for t in range(3):
        u = k * s + jnp.exp(log_std) * NOISE[t]
        a = jnp.tanh(u) if squashed else u
        gaussian = -0.5 * NOISE[t] ** 2 - 0.5 * jnp.log(2 * jnp.pi) - log_std
        densities.append(gaussian - (jnp.log(1.0 - a**2) if squashed else 0.0))
        states.append(s)
        actions.append(a)
        rewards.append(1.0 - s**2 - 0.1 * a**2)
        s = s + 0.1 * s + 0.5 * a
        s = jax.lax.stop_gradient(s) if stopped else s
    column = lambda values: jnp.stack(values)[:, None]  # noqa: E731
    path = Path(
        column(states)[..., None],
        column(actions)[..., None],
        -alpha * column(densities),
        column(rewards[:2]),
        jnp.array([[0.0], [ends]]),
    )
    value = -2.0 * states[2] ** 2 + 0.3 * states[2] * actions[2]
    return soft_return(path, value[None], GAMMA)[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0.264226, -1.819201, 0.357055)),
        ({"stopped": True}, (0.264226, 0.018615, 0.268115)),
        ({"ends": 1.0}, (1.201044, -0.350541, 0.115983)),
        ({"squashed": False, "alpha": 0.0}, (0.261326, -1.815060, 0.074059)),
    ],
    ids=["soft", "state-gradients-stopped", "third-state-dead", "linear"],
)
def test_the_gradient_flows_through_the_states(options, expected):
    """Without the states' gradient the derivative by the first parameter has the other sign."""
    found = on_host(jax.value_and_grad(lambda k, log_std: gain_of(k, log_std, **options), argnums=(0, 1)))(0.4, -1.0)
    np.testing.assert_allclose([found[0], *found[1]], expected, rtol=2e-5)
