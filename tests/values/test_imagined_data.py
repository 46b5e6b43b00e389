"""Imagined transitions as data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.models import Step
from foretell.values.imagined_data import ImaginedData, imagined_transitions
from tiny import quick_jit

KEY = jax.random.key(0)


class Walk(NamedTuple):
    """Moves by the action; a reward of the new position; it ends beyond 2."""

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape))

    def step(self, params, carry, action, key):
        obs = carry + action
        return obs, Step(obs, obs[None, ..., 0], 1.0 * (obs[..., 0] > 2))


def made(start, horizon=4):
    def act(obs):
        return jnp.ones((*obs.shape[:2], 1))

    run = quick_jit(lambda obs: imagined_transitions(KEY, horizon, obs, model=Walk(), params=(), particles=1, act=act))
    return jax.device_get(run(np.float32(start)[:, None]))


def test_transitions_follow_each_other_until_their_trajectory_ends():
    rows, use = made([0.0, 1.5, -9.0])
    steps = rows.obs.reshape(4, 3)
    np.testing.assert_allclose(steps, np.add.outer(np.arange(4), [0.0, 1.5, -9.0]))
    np.testing.assert_allclose(rows.next_obs, rows.obs + 1)
    np.testing.assert_allclose(rows.reward, rows.next_obs[:, 0])
    np.testing.assert_array_equal(rows.terminated, rows.next_obs[:, 0] > 2)
    np.testing.assert_array_equal(use.reshape(4, 3).sum(0), [3, 1, 4])  # the step that ends is part of it


def test_what_is_not_finite_is_not_used():
    _, use = made([np.inf, 0.0], horizon=1)
    np.testing.assert_array_equal(use, [False, True])


@pytest.mark.parametrize(("ratio", "steps", "horizon", "starts"), [(4, 100, 5, 80), (1, 100, 7, 14), (0.5, 4, 2, 1)])
@pytest.mark.long
def test_so_many_trajectories_begin_at_each_call(ratio, steps, horizon, starts):
    assert ImaginedData(ratio=ratio, horizon=horizon).starts(steps) == starts


@pytest.mark.long
def test_too_few_steps_for_a_trajectory_are_refused():
    with pytest.raises(ValueError, match=r"imagined_data.ratio \(0.1\) makes no trajectory .* the least is 0.5"):
        ImaginedData(ratio=0.1, horizon=5).check(10)
