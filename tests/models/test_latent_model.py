"""A world model whose state is hidden: planners and value expansion use it as they use any other."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.models import Step, WorldModel, open_loop, returns, rollout, start
from foretell.planning import CEM, Bounds, mpc, objective_of
from foretell.replay import Transitions
from foretell.values import Expansion, imagine
from tiny import on_host

HIDDEN = 5
KEY = jax.random.key(0)


class Params(NamedTuple):
    """Matrices of a linear system whose state cannot be seen."""

    encode: jax.Array
    move: jax.Array
    push: jax.Array
    show: jax.Array


class Latent(NamedTuple):
    """Carries a hidden vector and its age. What is observed of it is the hyperbolic tangent of two sums."""

    def begin(self, params, obs, key, particles):
        """Encode, with noise that makes particles differ: the posterior of a hidden state given what is seen."""
        hidden = obs @ params.encode + 0.05 * jax.random.normal(key, (particles, len(obs), HIDDEN))
        return {"hidden": hidden, "age": jnp.zeros((particles, len(obs)), jnp.int32)}

    def step(self, params, carry, action, key):
        noise = 0.02 * jax.random.normal(key, carry["hidden"].shape)
        hidden = carry["hidden"] @ params.move + action @ params.push + noise
        obs = jnp.tanh(hidden @ params.show)
        reward = -jnp.square(hidden[..., 0] - 1)  # which no function of the observation could tell
        ends = jnp.where(carry["age"] >= 5, 1.0, 0.0)
        return {"hidden": hidden, "age": carry["age"] + 1}, Step(obs, reward[None], ends)


def params_of(seed=0):
    """The action moves the first hidden number; the others turn slowly."""
    rng = np.random.default_rng(seed)
    move = 0.9 * np.eye(HIDDEN) + 0.05 * rng.normal(size=(HIDDEN, HIDDEN))
    push = np.zeros((1, HIDDEN))
    push[0, 0] = 0.5
    encode, show = rng.normal(0, 0.3, (2, HIDDEN)), rng.normal(0, 0.5, (HIDDEN, 2))
    return Params(*map(np.float32, (encode, move, push, show)))


MODEL, PARAMS = Latent(), params_of()
OBS = np.float32([[0.2, -0.4], [0.7, 0.1], [-0.3, 0.5]])
PARTICLES = 4
BOUNDS = Bounds(jnp.array([-1.0]), jnp.array([1.0]))
CEM_OF_LATENTS = CEM(horizon=6, population=40, iterations=4, elites=6, epsilon=0.0)


@pytest.mark.long
def test_it_is_a_world_model():
    assert isinstance(MODEL, WorldModel)


@on_host
def plan(params, obs, key):
    objective_from = lambda obs: objective_of(MODEL, params, obs, PARTICLES)  # noqa: E731
    carry = mpc.begin(CEM_OF_LATENTS, BOUNDS, len(obs))
    _, carry = mpc.act(CEM_OF_LATENTS, key, objective_from, carry, obs, BOUNDS)
    begin = start(MODEL, params, obs, key, PARTICLES)
    worth = lambda plan: returns(rollout(MODEL, params, begin, open_loop(plan, PARTICLES), 6, key)).mean(0)  # noqa: E731
    return carry, worth(carry.plan), worth(jnp.zeros_like(carry.plan)), worth(-carry.plan)


@pytest.mark.long
def test_cem_plans_on_it():
    """It brings the hidden number towards 1, which pays; to do nothing or the opposite pays less."""
    carry, planned, nothing, opposite = plan(PARAMS, OBS, KEY)
    assert (planned > nothing + 0.5).all() and (nothing > opposite).all()
    np.testing.assert_allclose(carry.value, planned, atol=0.3)


@pytest.mark.long
def test_where_a_rollout_begins_matters_only_by_what_is_encoded():
    blind = PARAMS._replace(encode=0 * PARAMS.encode)
    for params, same in ((blind, True), (PARAMS, False)):
        _, _, nothing, _ = plan(params, OBS, KEY)
        assert (np.ptp(nothing) < 1.2) == same


def act(key, obs, t):
    action = jnp.tanh(obs.sum(-1, keepdims=True))
    return action, (action, 0.1 * action[..., 0])


def value(obs, action, bonus):
    return jnp.stack([obs.sum(-1), 2 * obs.sum(-1) + action[..., 0]])


REAL = Transitions(
    jnp.zeros((3, 2)), jnp.zeros((3, 1)), jnp.array([1.0, 2.0, 3.0]), jnp.array(OBS), jnp.array([False, False, True])
)


@on_host
def expand(params):
    frames = imagine(KEY, 3, REAL, model=MODEL, params=params, particles=PARTICLES, act=act, value=value)
    return frames, Expansion(horizon=3).targets(frames, 0.9)


@pytest.mark.long
def test_value_expansion_follows_it():
    frames, targets = expand(PARAMS)
    assert frames.obs.shape == (4, PARTICLES, 3, 2) and frames.reward.shape == (4, 1, PARTICLES, 3)
    np.testing.assert_array_equal(frames.obs[0], np.broadcast_to(OBS, (PARTICLES, 3, 2)))
    np.testing.assert_array_equal(frames.terminated[1:], np.zeros((3, PARTICLES, 3)))
    assert (np.abs(frames.obs[1:]) < 1).all() and (np.ptp(frames.obs[1:], 1) > 0).all()
    np.testing.assert_allclose(frames.value[:, 0], frames.obs.sum(-1), rtol=1e-5, atol=1e-6)
    assert np.isfinite(targets.target).all() and targets.horizon_weights.sum() == pytest.approx(1, abs=1e-5)
    assert targets.target[0, 2] == 3  # the episode really ended there


@pytest.mark.long
def test_rewards_of_a_hidden_state_are_not_functions_of_the_observation():
    """Where nothing can be seen any more, they go on as they were."""
    frames, _ = expand(PARAMS)
    dark, _ = expand(PARAMS._replace(show=0 * PARAMS.show))
    np.testing.assert_array_equal(dark.obs[1:], np.zeros((3, PARTICLES, 3, 2)))
    np.testing.assert_allclose(dark.reward[1], frames.reward[1], rtol=1e-5)
    assert (np.ptp(dark.reward[1:], 0) > 1e-4).all()
