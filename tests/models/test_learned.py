"""A task seen through ensembles: the regressions it poses, and imagined returns against a plain loop."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.models import Ensemble, EnsembleState, Imagination, WorldModel, WorldState
from foretell.models.propagation import PROPAGATIONS, Shape, normals
from foretell.nn import MLP, Normalizer
from foretell.regression.ensemble import EnsembleParams
from foretell.replay import single_steps
from foretell.tasks import Task, TaskSpec

PARTICLES, CANDIDATES, HORIZON, MEMBERS, JUDGES = 4, 3, 5, 2, 3
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
    "known end": toy(reward=known_reward, terminated=known_end),
    "learned reward": toy(),
    "learned reward, known end": toy(terminated=known_end),
    "learned end": toy(reward=known_reward, learns_termination=True),
    "learned reward and end": toy(learns_termination=True),
}
LEARNED = [kind for kind in KINDS if "learned" in kind]


def world_of(task, judges_are_probabilistic=False, **imagination):
    ensemble = Ensemble(members=MEMBERS, hidden=(6,), weight_decay=(0.0, 0.0))
    outcome = Ensemble(
        members=JUDGES, hidden=(5,), weight_decay=(0.0, 0.0), probabilistic=judges_are_probabilistic, activation="tanh"
    )
    return WorldModel(task, ensemble, Imagination(**{"particles": PARTICLES, **imagination}), outcome)


def trained_ensemble(ensemble, seed, sizes, n):
    """As after training: no bias is zero, inputs are standardised and targets scaled."""
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(sizes))
    weights = tuple(jnp.float32(rng.normal(0, 0.4, (ensemble.members, *shape))) for shape in shapes)
    biases = tuple(jnp.float32(rng.normal(0, 0.4, (ensemble.members, 1, out))) for _, out in shapes)
    bounds = jnp.float32(np.arange(n) / 4), jnp.float32(np.arange(n) - 4)
    inputs = Normalizer(jnp.float32(rng.normal(0, 0.3, sizes[0])), jnp.float32(rng.uniform(0.5, 2.0, sizes[0])))
    targets = Normalizer(jnp.zeros(n), jnp.float32(0.7 + np.arange(n)))
    params = EnsembleParams(MLP(weights, biases, ensemble.activation), *bounds, ensemble.probabilistic)
    return EnsembleState(params, inputs, targets)


def trained(world):
    dynamics = trained_ensemble(world.model, 1, (4, 6, 4), 2)
    if not world.learns_outcome:
        return WorldState(dynamics, None)
    n, flags = int(world.task.reward is None), int(world.task.learns_termination)
    outputs = (1 + world.outcome.probabilistic) * n + flags
    return WorldState(dynamics, trained_ensemble(world.outcome, 2, (7, 5, outputs), n))


def returns(world, key, state, actions):
    return world.returns(key, state, OBS, actions)


# Compiled without optimising, which takes longer here than what it saves.
compiled_returns = jax.jit(returns, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})


def softplus(x):
    return np.log1p(np.exp(x))


def predict_by_hand(state, member, row):
    """Mean and deviation of the raw targets, and logits, of one member for one row of raw inputs."""
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


def judged_by_hand(outcome, row):
    """Of one step, the mean over members of the reward (None if there is none) and of the probability to go on."""
    rewards, survivals = [], []
    for member in range(JUDGES):
        mean, _, logits = predict_by_hand(outcome, member, row)
        rewards += list(mean)
        survivals.append(1 - 1 / (1 + np.exp(-logits[0])) if len(logits) else 1.0)
    return sum(rewards) / JUDGES if rewards else None, sum(survivals) / JUDGES


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
                mean, deviation, _ = predict_by_hand(state.dynamics, p // (PARTICLES // MEMBERS), row)
                out = mean + deviation * noise[t, p, c]
                x, y = out[0], b + out[1]
                reward, survival = None, 1.0
                if state.outcome is not None:
                    reward, survival = judged_by_hand(state.outcome, np.array([*row, np.sin(x), y, x * y]))
                if reward is None:
                    reward = 10.0 * a + action[0] + 0.1 * y
                if task.terminated is not None:
                    survival = 0.0 if x > 0.1 or b > 3.0 or action[0] > 1.9 else 1.0
                totals[c, p] += alive * reward
                obs, alive = np.array([x, y]), alive * survival
    return totals.mean(1) + world.imagination.optimism * totals.std(1)


def actions_of(seed=0):
    return jnp.float32(np.random.default_rng(seed).uniform(-1, 2, (CANDIDATES, HORIZON, 1)))


@pytest.mark.parametrize("shared_noise", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_returns_equal_a_plain_loop(kind, shared_noise):
    world = world_of(KINDS[kind], shared_noise=shared_noise)
    state, key, actions = trained(world), jax.random.key(4), actions_of()
    noise = normals(key, Shape(HORIZON, PARTICLES, 1 if shared_noise else CANDIDATES, 2))
    noise = jnp.broadcast_to(noise, (HORIZON, PARTICLES, CANDIDATES, 2))
    found = compiled_returns(world, key, state, actions)
    np.testing.assert_allclose(found, returns_by_hand(world, state, noise, actions), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("optimism", [1.5, -0.5])
def test_optimism_adds_the_deviation_over_particles(optimism):
    world, key = world_of(KINDS["known end"], optimism=optimism), jax.random.key(4)
    noise = normals(key, Shape(HORIZON, PARTICLES, CANDIDATES, 2))
    found = compiled_returns(world, key, trained(world), actions_of())
    np.testing.assert_allclose(found, returns_by_hand(world, trained(world), noise, actions_of()), rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize("probabilistic", [False, True])
@pytest.mark.parametrize("kind", LEARNED)
def test_returns_take_the_mean_over_those_who_judge_and_never_their_variance(kind, probabilistic):
    world = world_of(KINDS[kind], judges_are_probabilistic=probabilistic)
    state, key = trained(world), jax.random.key(4)
    noise = normals(key, Shape(HORIZON, PARTICLES, CANDIDATES, 2))
    found = compiled_returns(world, key, state, actions_of())
    np.testing.assert_allclose(found, returns_by_hand(world, state, noise, actions_of()), rtol=1e-4, atol=1e-5)


def with_logit(state, logit):
    """As if all judges gave an end that logit, whatever they see."""
    last = lambda outcome: (outcome.params.network.weights[-1], outcome.params.network.biases[-1])  # noqa: E731
    weight, bias = last(state.outcome)
    changed = eqx.tree_at(last, state.outcome, (weight.at[..., -1].set(0.0), bias.at[..., -1].set(logit)))
    return state._replace(outcome=changed)


@pytest.mark.parametrize("kind", ["learned end", "learned reward and end"])
def test_nothing_is_earned_after_an_imagined_end(kind):
    world, key, actions = world_of(KINDS[kind]), jax.random.key(0), actions_of()
    state = trained(world)
    changed = actions.at[:, 1:].add(1.0)
    for logit, same in ((1e4, True), (-1e4, False)):
        values = [compiled_returns(world, key, with_logit(state, logit), a) for a in (actions, changed)]
        assert np.equal(*values).all() == same


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [("known reward", None), ("known end", None), ("learned reward", (1, 1)), ("learned reward, known end", (1, 1))]
    + [("learned end", (0, 1)), ("learned reward and end", (1, 2))],
)
def test_there_is_a_second_ensemble_for_what_the_task_does_not_know(kind, outputs):
    """It sees both sides of a step; its outputs are the reward and a logit."""
    world = world_of(KINDS[kind])
    state = jax.eval_shape(world.init, jax.random.key(0))
    assert [w.shape for w in state.dynamics.params.network.weights] == [(MEMBERS, 3 + 1, 6), (MEMBERS, 6, 2 * 2)]
    assert state.dynamics.targets.std.size == 2
    assert world.learns_outcome == (state.outcome is not None) == (outputs is not None)
    if outputs is not None:
        real, columns = outputs
        assert [w.shape for w in state.outcome.params.network.weights] == [(JUDGES, 7, 5), (JUDGES, 5, columns)]
        assert state.outcome.targets.std.size == real


def test_the_dynamics_start_alike_whatever_else_is_learned():
    first, second = (
        world_of(KINDS[kind]).init(jax.random.key(0)).dynamics.params for kind in ("known reward", "learned reward")
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_hold_what_dynamics_and_outcome_are_learned_from(kind):
    rng = np.random.default_rng(0)
    obs, next_obs, action = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), rng.normal(size=(6, 1))
    reward, terminated = rng.normal(size=6), rng.random(6) < 0.5
    data = single_steps(*map(jnp.float32, (obs, action, reward, next_obs)), jnp.array(terminated))
    world = world_of(KINDS[kind])
    rows, judged = world.rows(data), world.outcome_rows(data)
    (a, b), (c, d) = obs.T, next_obs.T
    before = np.stack([np.sin(a), b, a * b, action[:, 0]], -1)
    np.testing.assert_allclose(rows.x, before, rtol=1e-5)
    np.testing.assert_allclose(rows.y, np.stack([c, d - b], -1), rtol=1e-5, atol=1e-6)
    assert rows.flags.shape == (6, 0)
    np.testing.assert_allclose(judged.x, np.concatenate([before, np.stack([np.sin(c), d, c * d], -1)], -1), rtol=1e-5)
    np.testing.assert_allclose(judged.y, reward[:, None] if "learned reward" in kind else np.zeros((6, 0)), rtol=1e-6)
    learns_end = kind in ("learned end", "learned reward and end")
    np.testing.assert_array_equal(judged.flags, terminated[:, None] if learns_end else np.zeros((6, 0)))


def rolled_by_hand(world, state, actions, key, *, name, certain=False, again=None):
    """All particles step by step in NumPy, but for the outputs; `again` redraws the states of each candidate."""
    draws = 1 if world.imagination.shared_noise else CANDIDATES
    chance = PROPAGATIONS[name].draw(key, Shape(HORIZON, PARTICLES, draws, 2), MEMBERS)
    predictor = world.model.predictor(state.dynamics)
    known = lambda x: predictor(x)._replace(variance=jnp.zeros((*x.shape[:2], 2)))  # noqa: E731
    obs, total = np.broadcast_to(OBS, (PARTICLES, CANDIDATES, 2)), np.zeros((PARTICLES, CANDIDATES))
    for t in range(HORIZON):
        a, b = np.moveaxis(obs, -1, 0)
        action = np.broadcast_to(actions[:, t, 0], a.shape)
        inputs = jnp.float32(np.stack([np.sin(a), b, a * b, action], -1))
        noise = jax.tree.map(lambda n: n[t], chance)  # noqa: B023
        out = np.asarray(PROPAGATIONS[name].sample(known if certain else predictor, MEMBERS, inputs, noise))
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
    noise = np.asarray(normals(again, Shape(HORIZON, PARTICLES, 1 if shared_noise else CANDIDATES, 2)))
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
