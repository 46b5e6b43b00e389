"""A task of which nothing is as by default, ensembles as after training, and their imagination in plain loops."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from foretell.models import open_loop, returns, rollout, start
from foretell.models.noise import hashed_normal
from foretell.nn import MLP, Normalizer
from foretell.regression.ensemble import Ensemble, EnsembleParams, EnsembleState
from foretell.replay import Replay, Transitions
from foretell.tasks import Task, TaskSpec
from tiny import on_host

PARTICLES, CANDIDATES, HORIZON, MEMBERS = 4, 3, 5, 2
OBS = np.float32([0.4, -0.8])
ENSEMBLE = Ensemble(members=MEMBERS, hidden=(6,), weight_decay=0.0)


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
    "known end": toy(reward=known_reward, terminated=known_end),
    "learned reward": toy(),
    "learned reward, known end": toy(terminated=known_end),
    "learned end": toy(reward=known_reward, learns_termination=True),
    "learned reward and end": toy(learns_termination=True),
}


def trained_ensemble(ensemble, seed, inputs, outputs, flags):
    """As after training: no bias is zero, inputs are standardised and targets scaled."""
    rng, out = np.random.default_rng(seed), (1 + ensemble.probabilistic) * outputs + flags
    shapes, array = list(itertools.pairwise((inputs, *ensemble.hidden, out))), lambda a: jnp.asarray(np.float32(a))
    weights = tuple(array(rng.normal(0, 0.4, (ensemble.members, *shape))) for shape in shapes)
    biases = tuple(array(rng.normal(0, 0.4, (ensemble.members, 1, n))) for _, n in shapes)
    high, low = array(np.arange(outputs) / 4), array(np.arange(outputs) - 4)
    scale = (rng.normal(0, 0.3, inputs), rng.uniform(0.5, 2.0, inputs), np.zeros(outputs), 0.7 + np.arange(outputs))
    scale = [array(a) for a in scale]
    params = EnsembleParams(MLP(weights, biases, ensemble.activation), high, low, ensemble.probabilistic)
    return jax.device_get(EnsembleState(params, Normalizer(*scale[:2]), Normalizer(*scale[2:])))


def with_logit(state, logit):
    """As if all members gave the last yes/no output this logit, whatever they see."""
    last = lambda s: (s.params.network.weights[-1], s.params.network.biases[-1])  # noqa: E731
    weight, bias = (a.copy() for a in last(state))
    weight[..., -1], bias[..., -1] = 0.0, logit
    return eqx.tree_at(last, state, (weight, bias))


def softplus(x):
    return np.log1p(np.exp(x))


def predict_by_hand(state, member, row):
    """Mean and standard deviation of the raw targets, and logits, of one member for one row of raw inputs."""
    params, n = state.params, len(state.targets.std)
    (w0, w1), (b0, b1) = params.network.weights, params.network.biases
    h = (row - state.inputs.mean) / state.inputs.std
    h = h @ w0[member] + b0[member, 0]
    h = h / (1 + np.exp(-h)) if params.network.activation == "silu" else np.tanh(h)
    h = h @ w1[member] + b1[member, 0]
    if not params.probabilistic:
        return h[:n] * state.targets.std, np.zeros(n), h[n:]
    logvar = params.min_logvar + softplus(
        params.max_logvar - softplus(params.max_logvar - h[n : 2 * n]) - params.min_logvar
    )
    return h[:n] * state.targets.std, np.sqrt(np.exp(logvar)) * state.targets.std, h[2 * n :]


def returns_by_hand(task, state, noise, actions, judge=None):
    """With TSinf, one particle of one candidate at a time; `noise` is `[horizon, particles, candidates, out]`.

    What a step earns, and the probability that the episode goes on after it, come from further outputs of the networks,
    or from `judge(inputs, features of the next observation)`, unless the task knows them.
    """
    totals = np.zeros((PARTICLES, CANDIDATES))
    state, noise, actions = jax.tree.map(np.float64, (state, noise, actions))
    for p, c in np.ndindex(PARTICLES, CANDIDATES):
        obs, alive = np.float64(OBS), 1.0
        for t in range(HORIZON):
            action, (a, b) = actions[c, t], obs
            row = np.array([np.sin(a), b, a * b, *action])
            mean, std, logits = predict_by_hand(state, p // (PARTICLES // MEMBERS), row)
            out = mean + std * noise[t, p, c]
            x, y = out[0], b + out[1]
            reward, onward = (out[2] if len(out) > 2 else None), (1 / (1 + np.exp(logits[0])) if len(logits) else 1.0)
            if judge is not None:
                reward, onward = judge(row, np.array([np.sin(x), y, x * y]))
            if task.reward is not None:
                reward = 10.0 * a + action[0] + 0.1 * y
            if task.terminated is not None:
                onward = 0.0 if x > 0.1 or b > 3.0 or action[0] > 1.9 else 1.0
            totals[p, c] += alive * reward
            obs, alive = np.array([x, y]), alive * onward
    return totals


def _draw(key, shape):
    draw_key, _ = jax.random.split(jax.random.split(key)[1])
    return hashed_normal(draw_key, shape)


_normals = on_host(_draw, 1)


def noise_by_hand(key, outputs, shared=False):
    """What a rollout with this key draws for each output of each particle of each candidate at every step."""
    noise = _normals(key, (HORIZON, PARTICLES, 1 if shared else CANDIDATES, outputs))
    return np.broadcast_to(noise, (HORIZON, PARTICLES, CANDIDATES, outputs))


def _returns(model, params, key, actions, particles):
    obs = jnp.broadcast_to(OBS, (len(actions), *OBS.shape))
    begin = start(model, params, obs, key, particles)
    trajectory = rollout(model, params, begin, open_loop(actions, particles), actions.shape[1], key)
    return returns(trajectory), trajectory.obs


_compiled = on_host(_returns, 0, 4)


def imagined(model, params, key, actions, particles=PARTICLES):
    """The return of every particle of each candidate, and their observations."""
    return _compiled(model, params, key, actions, particles)


def actions_of(seed=0):
    return np.float32(np.random.default_rng(seed).uniform(-1, 2, (CANDIDATES, HORIZON, 1)))


def transitions(rows, seed=0):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, rows, 2))
    numbers = (obs, rng.uniform(-1, 2, (rows, 1)), rng.normal(size=rows), next_obs)
    return Transitions(*map(np.float32, numbers), rng.random(rows) < 0.5)


def replay_of(data, capacity):
    """The transitions, and slots never written that hold what must not matter."""
    rows = len(data.reward)
    pad = lambda a: np.concatenate([a, np.full((capacity - rows, *a.shape[1:]), np.nan).astype(a.dtype)])  # noqa: E731
    return Replay(jax.tree.map(pad, data), np.int32(rows), np.int32(rows))
