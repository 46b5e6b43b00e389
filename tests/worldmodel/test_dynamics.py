"""A task seen through an ensemble: the regression it poses, and imagined returns against a plain loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.nn import MLP, Normalizer
from foretell.replay import Transitions
from foretell.tasks import Task, TaskSpec
from foretell.worldmodel import Ensemble, EnsembleState, Imagination, WorldModel
from foretell.worldmodel.ensemble import EnsembleParams

PARTICLES, CANDIDATES, HORIZON, MEMBERS = 4, 3, 5, 2
OBS = jnp.array([0.4, -0.8])


class Toy(Task):
    """Features are not the observation; the first component is predicted as it is, the second as a change."""

    spec = TaskSpec("Toy-v0", ("a", "b"), (-1.0,), (2.0,), horizon=10)

    def features(self, obs):
        return jnp.stack([jnp.sin(obs[..., 0]), obs[..., 1], obs[..., 0] * obs[..., 1]], -1)

    def target(self, obs, next_obs):
        return next_obs - obs * jnp.array([0.0, 1.0])

    def advance(self, obs, output):
        return output + obs * jnp.array([0.0, 1.0])


def known_reward(obs, action, next_obs):
    return 10.0 * obs[..., 0] + action[..., 0] + 0.1 * next_obs[..., 1]


def known_end(obs, action, next_obs):
    return (next_obs[..., 0] > 0.1) | (obs[..., 1] > 3.0) | (action[..., 0] > 1.9)


def toy(*, reward=None, terminated=None, learns_termination=False):
    task = Toy()
    task.reward, task.terminated, task.learns_termination = reward, terminated, learns_termination
    return task


KINDS = {
    "known reward": toy(reward=known_reward),
    "learned reward": toy(),
    "learned end": toy(learns_termination=True),
    "known end": toy(reward=known_reward, terminated=known_end),
}


def world_of(task, **imagination):
    ensemble = Ensemble(members=MEMBERS, hidden=(6,), weight_decay=(0.0, 0.0), logvar_init=(-4.0, 0.0))
    return WorldModel(task, ensemble, Imagination(particles=PARTICLES, **imagination))


def trained(world):
    """As after training: no bias is zero, inputs are standardised and targets scaled."""
    rng, n = np.random.default_rng(1), world.out_size
    sizes = (4, 6, 2 * n + world.task.learns_termination)
    shapes = list(itertools.pairwise(sizes))
    weights = tuple(jnp.float32(rng.normal(0, 0.4, (MEMBERS, *shape))) for shape in shapes)
    biases = tuple(jnp.float32(rng.normal(0, 0.4, (MEMBERS, 1, out))) for _, out in shapes)
    bounds = jnp.float32(np.arange(n) / 4), jnp.float32(np.arange(n) - 4)
    inputs = Normalizer(jnp.array([0.1, -0.5, 0.3, 0.2]), jnp.array([0.5, 2.0, 0.7, 1.5]))
    targets = Normalizer(jnp.zeros(n), jnp.float32(0.7 + np.arange(n)))
    return EnsembleState(EnsembleParams(MLP(weights, biases, "silu"), *bounds), inputs, targets)


def returns(world, key, state, actions):
    return world.returns(key, state, OBS, actions)


# Compiled without optimising, which takes longer here than what it saves.
compiled_returns = jax.jit(returns, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})


def softplus(x):
    return np.log1p(np.exp(x))


def predict_by_hand(state, member, row):
    """Mean and deviation of the raw targets, and logits, of one member for one row of raw inputs."""
    (w0, w1), (b0, b1) = state.params.network.weights, state.params.network.biases
    h = (row - state.inputs.mean) / state.inputs.std
    h = h @ w0[member] + b0[member, 0]
    h = h / (1 + np.exp(-h)) @ w1[member] + b1[member, 0]
    low, high, scale, n = state.params.min_logvar, state.params.max_logvar, state.targets.std, len(state.targets.std)
    logvar = low + softplus(high - softplus(high - h[n : 2 * n]) - low)
    return h[:n] * scale, np.sqrt(np.exp(logvar)) * scale, h[2 * n :]


def returns_by_hand(world, state, noise, actions):
    """One trajectory at a time; `noise` is `[horizon, particles, candidates, out]`."""
    task, totals = world.task, np.zeros((CANDIDATES, PARTICLES))
    state, noise, actions = jax.tree.map(np.float64, (state, noise, actions))
    for c in range(CANDIDATES):
        for p in range(PARTICLES):
            obs, alive = np.asarray(OBS, np.float64), 1.0
            for t in range(HORIZON):
                action, (a, b) = actions[c, t], obs
                row = np.array([np.sin(a), b, a * b, *action])
                mean, deviation, logits = predict_by_hand(state, p // (PARTICLES // MEMBERS), row)
                out = mean + deviation * noise[t, p, c]
                next_obs = np.array([out[0], b + out[1]])
                reward = out[2] if task.reward is None else 10.0 * a + action[0] + 0.1 * next_obs[1]
                totals[c, p] += alive * reward
                if task.terminated is not None and (next_obs[0] > 0.1 or b > 3.0 or action[0] > 1.9):
                    alive = 0.0
                for logit in logits:
                    alive *= 1 - 1 / (1 + np.exp(-logit))
                obs = next_obs
    return totals.mean(1)


def actions_of(seed=0):
    return jnp.float32(np.random.default_rng(seed).uniform(-1, 2, (CANDIDATES, HORIZON, 1)))


@pytest.mark.parametrize("shared_noise", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_returns_equal_a_plain_loop(kind, shared_noise):
    world = world_of(KINDS[kind], shared_noise=shared_noise)
    state, key, actions = trained(world), jax.random.key(4), actions_of()
    noise = jax.random.normal(key, (HORIZON, PARTICLES, 1 if shared_noise else CANDIDATES, world.out_size))
    noise = jnp.broadcast_to(noise, (HORIZON, PARTICLES, CANDIDATES, world.out_size))
    found = compiled_returns(world, key, state, actions)
    np.testing.assert_allclose(found, returns_by_hand(world, state, noise, actions), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shared_noise", [False, True])
def test_identical_candidates_get_identical_returns_only_on_shared_noise(shared_noise):
    world = world_of(KINDS["learned reward"], shared_noise=shared_noise)
    actions = jnp.broadcast_to(actions_of()[0], (CANDIDATES, HORIZON, 1))
    found = np.asarray(compiled_returns(world, jax.random.key(0), trained(world), actions))
    assert (len(set(found.tolist())) == 1) == shared_noise


def test_keys_draw_other_luck():
    world = world_of(KINDS["learned reward"], shared_noise=True)
    first, again, second = (compiled_returns(world, jax.random.key(k), trained(world), actions_of()) for k in (0, 0, 1))
    assert (first == again).all()
    assert (first != second).all()


def test_nothing_is_earned_after_a_certain_end():
    always = lambda obs, action, next_obs: jnp.ones(obs.shape[:-1], bool)  # noqa: E731
    world = world_of(toy(reward=known_reward, terminated=always))
    actions = actions_of()
    later = actions.at[:, 1:].add(100.0)
    found = compiled_returns(world, jax.random.key(0), trained(world), later)
    np.testing.assert_allclose(found, 10 * OBS[0] + actions[:, 0, 0], atol=1)  # and a tenth of the next observation


def test_what_diverges_after_a_certain_end_does_not_count():
    always = lambda obs, action, next_obs: jnp.ones(obs.shape[:-1], bool)  # noqa: E731
    first_is_one_then_infinite = lambda obs, action, next_obs: jnp.where(action[..., 0] > 50, jnp.inf, 1.0)  # noqa: E731
    world = world_of(toy(reward=first_is_one_then_infinite, terminated=always))
    actions = actions_of().at[:, 1:].set(100.0)
    np.testing.assert_allclose(compiled_returns(world, jax.random.key(0), trained(world), actions), 1.0)


@pytest.mark.parametrize(
    ("kind", "out_size", "network_out"),
    [("known reward", 2, 4), ("learned reward", 3, 6), ("learned end", 3, 7), ("known end", 2, 4)],
)
def test_the_network_has_an_output_for_all_that_is_learned(kind, out_size, network_out):
    world = world_of(KINDS[kind])
    state = jax.eval_shape(world.init, jax.random.key(0))
    assert world.out_size == out_size == state.targets.std.size
    assert [w.shape for w in state.params.network.weights] == [(MEMBERS, 3 + 1, 6), (MEMBERS, 6, network_out)]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_hold_inputs_targets_and_flags(kind):
    rng = np.random.default_rng(0)
    obs, next_obs, action = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), rng.normal(size=(6, 1))
    reward, terminated = rng.normal(size=6), rng.random(6) < 0.5
    data = Transitions(*map(jnp.float32, (obs, action, reward, next_obs)), jnp.array(terminated))
    found = world_of(KINDS[kind]).rows(data)
    a, b = obs.T
    np.testing.assert_allclose(found.x, np.stack([np.sin(a), b, a * b, action[:, 0]], -1), rtol=1e-5)
    y = [next_obs[:, 0], next_obs[:, 1] - b] + ([] if "known" in kind else [reward])
    np.testing.assert_allclose(found.y, np.stack(y, -1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.flags, terminated[:, None] if kind == "learned end" else np.zeros((6, 0)))
