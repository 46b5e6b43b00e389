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
from foretell.worldmodel.propagation import PROPAGATIONS, Shape

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
    return WorldModel(task, ensemble, Imagination(**{"particles": PARTICLES, **imagination}))


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
    return EnsembleState(EnsembleParams(MLP(weights, biases, "silu"), *bounds, True), inputs, targets)


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


def rolled_by_hand(world, state, actions, key, *, name, certain=False, again=None):
    """All particles step by step in NumPy, but for the outputs; `again` redraws the states of each candidate."""
    draws = 1 if world.imagination.shared_noise else CANDIDATES
    chance = PROPAGATIONS[name].draw(key, Shape(HORIZON, PARTICLES, draws, world.out_size), MEMBERS)
    predictor = world.model.predictor(state)
    known = lambda x: predictor(x)._replace(logvar=jnp.full((*x.shape[:2], world.out_size), -jnp.inf))  # noqa: E731
    obs, total = np.broadcast_to(OBS, (PARTICLES, CANDIDATES, 2)), np.zeros((PARTICLES, CANDIDATES))
    for t in range(HORIZON):
        a, b = np.moveaxis(obs, -1, 0)
        action = np.broadcast_to(actions[:, t, 0], a.shape)
        inputs = jnp.float32(np.stack([np.sin(a), b, a * b, action], -1))
        noise = jax.tree.map(lambda n: n[t], chance)  # noqa: B023
        out = np.asarray(PROPAGATIONS[name].sample(known if certain else predictor, MEMBERS, inputs, noise)[0])
        next_obs = np.stack([out[..., 0], b + out[..., 1]], -1)
        if again is not None:
            next_obs = next_obs.mean(0) + np.sqrt(next_obs.var(0)) * again[t]
        total += 10.0 * a + action + 0.1 * next_obs[..., 1]
        obs = next_obs
    return total.mean(0)


def check_rollout(imagination, **reference):
    world, key, actions = world_of(KINDS["known reward"], **imagination), jax.random.key(3), actions_of()
    state = trained(world)
    expected = rolled_by_hand(world, state, actions, **{"key": key, **reference})
    np.testing.assert_allclose(compiled_returns(world, key, state, actions), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shared_noise", [False, True])
@pytest.mark.parametrize("name", sorted(set(PROPAGATIONS) - {"E", "TSinf"}))
def test_every_propagation_is_rolled_out_step_by_step(name, shared_noise):
    check_rollout({"propagation": name, "shared_noise": shared_noise}, name=name)


def test_the_expectation_is_one_particle_without_luck():
    world = world_of(KINDS["known reward"], propagation="E", particles=1)
    first, second = (compiled_returns(world, jax.random.key(k), trained(world), actions_of()) for k in (0, 1))
    np.testing.assert_array_equal(first, second)
    expected = rolled_by_hand(world, trained(world), actions_of(), jax.random.key(0), name="E")
    np.testing.assert_allclose(first, expected, rtol=1e-4)


@pytest.mark.parametrize("shared_noise", [False, True])
def test_moment_matching_of_states_redraws_states_sampled_from_the_whole_ensemble(shared_noise):
    key, again = jax.random.split(jax.random.key(3))
    noise = np.asarray(jax.random.normal(again, (HORIZON, PARTICLES, 1 if shared_noise else CANDIDATES, 2)))
    imagination = {"propagation": "MM", "moment_matching": "state", "shared_noise": shared_noise}
    check_rollout(imagination, name="DS", key=key, again=noise)


@pytest.mark.parametrize("name", ["TS1", "TS1-independent", "TSinf"])
def test_with_ignored_variance_particles_differ_by_their_members_alone(name):
    check_rollout({"propagation": name, "ignore_variance": True}, name=name, certain=True)


@pytest.mark.parametrize(
    "imagination",
    [{"propagation": "DS"}, {"propagation": "MM"}, {"propagation": "MM", "moment_matching": "state"}],
    ids=str,
)
def test_with_ignored_variance_distribution_sampling_and_moment_matching_are_the_expectation(imagination):
    check_rollout({**imagination, "ignore_variance": True}, name="E")


def test_trajectories_are_those_of_the_returns():
    world = world_of(KINDS["known reward"], propagation="TS1")
    state, actions = trained(world), actions_of()[:1]
    obs = np.asarray(world.trajectories(jax.random.key(0), state, OBS, actions[0]))
    assert obs.shape == (HORIZON + 1, PARTICLES, 2)
    np.testing.assert_array_equal(obs[0], np.broadcast_to(OBS, (PARTICLES, 2)))
    earned = 10 * obs[:-1, :, 0] + np.asarray(actions[0]) + 0.1 * obs[1:, :, 1]
    found = world.returns(jax.random.key(0), state, OBS, actions)
    np.testing.assert_allclose(found, earned.sum(0).mean(keepdims=True), rtol=1e-4)


def model_of(name, members=5):
    return Ensemble(members=members if "E" in name else 1, probabilistic=name.startswith("P"))


@pytest.mark.parametrize(
    ("model", "propagation", "particles", "sentence"),
    [
        *(
            (
                model,
                name,
                20,
                f"propagation={name} needs a model of several networks, not {model}; choose one of: {also}",
            )
            for model, also in (("P", "E, DS, MM"), ("D", "E"))
            for name in ("TS1", "TS1-independent", "TSinf")
        ),
        *(
            ("D", name, 20, f"propagation={name} needs an uncertain model, which D is not; choose E")
            for name in ("DS", "MM")
        ),
        *(
            (model, "E", 20, "propagation=E has one particle, not 20; set imagination.particles=1")
            for model in ("D", "P", "DE", "PE")
        ),
        ("PE", "TSinf", 18, "particles (18) must be a multiple of model.members (5) with TSinf; the nearest is 20"),
        ("DE", "TS1", 12, "particles (12) must be a multiple of model.members (5) with TS1; the nearest is 10"),
        ("PE", "TS1", 1, "particles (1) must be a multiple of model.members (5) with TS1; the nearest is 5"),
    ],
)
def test_a_propagation_that_does_not_go_with_the_model_is_refused(model, propagation, particles, sentence):
    with pytest.raises(ValueError) as mistake:
        Imagination(propagation=propagation, particles=particles).check(model_of(model))
    assert str(mistake.value) == f"imagination.{sentence}"


@pytest.mark.parametrize(
    ("model", "propagation", "particles"),
    [
        *((model, "E", 1) for model in ("D", "P", "DE", "PE")),
        *((model, name, 7) for model in ("P", "DE", "PE") for name in ("DS", "MM")),
        *((model, name, 10) for model in ("DE", "PE") for name in ("TS1", "TSinf")),
        ("PE", "TS1-independent", 7),  # balance alone needs a multiple
    ],
)
def test_a_propagation_that_goes_with_the_model_is_accepted(model, propagation, particles):
    imagination = Imagination(propagation=propagation, particles=particles)
    imagination.check(model_of(model))
    assert imagination.count(model_of(model)) == particles


@pytest.mark.parametrize("members", [2, 5, 7, 21])
@pytest.mark.parametrize("name", PROPAGATIONS)
def test_particles_that_are_not_given_are_the_least_valid_number_from_the_papers_on(name, members):
    imagination, model = Imagination(propagation=name, particles=None), model_of("PE", members)
    imagination.check(model)
    expected = 1 if name == "E" else min(n for n in range(20, 99) if n % members == 0)
    assert imagination.count(model) == expected
