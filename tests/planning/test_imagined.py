"""What planners search on: the return of action sequences in imagination."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.models import Step, open_loop, returns, rollout, start
from foretell.planning import objective_of
from foretell.planning.imagined import imagined_returns
from tiny import quick_jit

PARTICLES, CANDIDATES, HORIZON = 4, 3, 5
KEY = jax.random.key(0)
OBS = np.float32([0.3, -0.2])
PLANS = np.float32(np.random.default_rng(0).uniform(-1, 1, (CANDIDATES, HORIZON, 1)))


class Gusts(NamedTuple):
    """A point pushed by the action, and by a wind that every particle begins with. It may fall off beyond 2."""

    def begin(self, params, obs, key, particles):
        wind = jax.random.normal(key, (particles, len(obs), 1))
        return jnp.broadcast_to(obs, (particles, *obs.shape)), wind

    def step(self, params, carry, action, key):
        obs, wind = carry
        after = obs + 0.5 * action + params * wind + 0.1 * jax.random.normal(key, obs.shape)
        reward = -jnp.square(after).sum(-1)
        return (after, wind), Step(after, reward[None], jax.nn.sigmoid(after[..., 0] - 2))


def policy(key, obs, t):
    """Back to the middle, and one step later a little less."""
    return -0.5 * obs[..., :1] + 0.01 * t, ()


def value(how, wind, plans, optimism):
    guide = policy if how == "guided" else None
    return objective_of(Gusts(), wind, jnp.array(OBS), PARTICLES, optimism=optimism, guide=guide)(KEY, plans)


compiled = quick_jit(value, 0, 3)


def totals(act_of, wind=0.3):
    """The return of every particle, by a rollout of its own."""
    begin_key, roll_key = jax.random.split(KEY)

    @quick_jit
    def run(wind):
        obs = jnp.broadcast_to(OBS, (CANDIDATES, 2))
        begin = start(Gusts(), wind, obs, begin_key, PARTICLES)
        return returns(rollout(Gusts(), wind, begin, act_of, HORIZON, roll_key))

    return np.asarray(run(jnp.float32(wind)))


@pytest.fixture(scope="module")
def planned():
    return totals(open_loop(jnp.array(PLANS), PARTICLES))


@pytest.mark.long
def test_a_plan_is_worth_the_mean_return_of_its_particles(planned):
    found = compiled("alone", jnp.float32(0.3), PLANS, 0.0)
    assert planned.shape == (PARTICLES, CANDIDATES) and (np.ptp(planned, 0) > 0.1).all()
    np.testing.assert_allclose(found, planned.mean(0), rtol=1e-5)


@pytest.mark.parametrize("optimism", [1.5, -0.5])
@pytest.mark.long
def test_optimism_adds_standard_deviations_over_particles(planned, optimism):
    found = compiled("alone", jnp.float32(0.3), PLANS, optimism)
    np.testing.assert_allclose(found, planned.mean(0) + optimism * planned.std(0), rtol=1e-4)


@pytest.mark.long
def test_a_guide_takes_all_actions_but_the_first():
    def act(key, obs, t):
        first = jnp.broadcast_to(jnp.array(PLANS)[:, 0], (PARTICLES, CANDIDATES, 1))
        return jnp.where(t == 0, first, policy(key, obs, t)[0]), ()

    found = compiled("guided", jnp.float32(0.3), PLANS, 0.0)
    np.testing.assert_allclose(found, totals(act).mean(0), rtol=1e-5)
    later = np.concatenate([PLANS[:, :1], PLANS[:, 1:] + 0.5], 1)
    np.testing.assert_array_equal(compiled("guided", jnp.float32(0.3), later, 0.0), found)
    assert (compiled("guided", jnp.float32(0.3), PLANS + 0.5, 0.0) != found).all()


@pytest.mark.long
def test_plans_may_be_judged_from_where_a_rollout_has_come():
    """A start `[particles, candidates, ...]`, whose particles differ already."""

    def both(wind):
        obs = jnp.broadcast_to(OBS, (CANDIDATES, 2))
        begin = start(Gusts(), wind, obs, KEY, PARTICLES)
        come = rollout(Gusts(), wind, begin, open_loop(jnp.array(PLANS), PARTICLES), 2, KEY).end
        rest = open_loop(jnp.array(PLANS), PARTICLES)
        return imagined_returns(Gusts(), wind, come, jnp.array(PLANS), KEY), returns(
            rollout(Gusts(), wind, come, rest, HORIZON, KEY)
        )

    found, expected = quick_jit(both)(jnp.float32(0.3))
    np.testing.assert_allclose(found, expected.mean(0), rtol=1e-5)
