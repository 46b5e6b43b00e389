"""A task seen through regressions: the problems it poses, one step, imagined returns in plain loops, and training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import (
    CANDIDATES,
    ENSEMBLE,
    HORIZON,
    KINDS,
    MEMBERS,
    OBS,
    PARTICLES,
    actions_of,
    imagined,
    known_reward,
    noise_by_hand,
    predict_by_hand,
    replay_of,
    returns_by_hand,
    toy,
    trained_ensemble,
    transitions,
    with_logit,
)

from foretell import registry
from foretell.models import (
    EnsembleModel,
    GPModel,
    Imagination,
    LearnedModel,
    Unknown,
    open_loop,
    rollout,
    start,
)
from foretell.models.learned import LearnedState, particles_of
from foretell.models.propagation import MATCHING_STREAM, Noise, Propagated
from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Fit, Fitted
from foretell.regression.gp import GPFit
from tiny import on_host

NAMES = ["E", "DS", "MM", "TS1", "TS1-independent", "TSinf"]
FIT = Fit(batch_size=8, learning_rate=1e-2)


def unknown_of(task):
    return Unknown(task.reward is None, task.learns_termination)


def model_of(task, ensemble=ENSEMBLE, fit=FIT, **imagination):
    """Whatever the task does not know is learned with the dynamics."""
    settings = Imagination(**{"particles": PARTICLES, **imagination})
    return LearnedModel(task, ensemble, fit, settings, unknown_of(task))


def trained(model):
    unknown = model.unknown
    return trained_ensemble(model.regressor, 1, 4, 2 + unknown.reward, int(unknown.termination))


ready = on_host(lambda model, regressor: model.params(LearnedState(regressor, ())), 0)


def params_of(model):
    return ready(model_of(model.task), trained(model))  # imagination makes no difference


def check_returns(model):
    key, actions, state = jax.random.key(4), actions_of(), trained(model)
    noise = noise_by_hand(key, len(state.targets.std), model.imagination.shared_noise)
    found, _ = imagined(model, params_of(model), key, actions)
    np.testing.assert_allclose(found, returns_by_hand(model.task, state, noise, actions), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_returns_equal_a_plain_loop(kind):
    check_returns(model_of(KINDS[kind]))


@pytest.mark.long
def test_returns_on_shared_noise_equal_a_plain_loop():
    check_returns(model_of(KINDS["learned reward and end"], shared_noise=True))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.long
def test_identical_candidates_get_identical_returns_only_on_shared_noise(shared):
    model = model_of(KINDS["learned reward and end"], shared_noise=shared)
    actions = np.broadcast_to(actions_of()[0], (CANDIDATES, HORIZON, 1))
    found, _ = imagined(model, params_of(model), jax.random.key(0), actions)
    assert (np.ptp(found, 1) == 0).all() == shared


@pytest.mark.long
def test_keys_draw_other_noise():
    model = model_of(KINDS["learned reward"])
    keys = (jax.random.key(k) for k in (0, 0, 1))
    first, again, second = (imagined(model, params_of(model), key, actions_of())[0] for key in keys)
    assert (first == again).all()
    assert (first != second).all()


def test_nothing_is_earned_after_a_learned_end():
    """As if all members gave an end the same logit, whatever they see."""
    model, actions = model_of(KINDS["learned end"]), actions_of()
    state = trained(model)
    changed = np.concatenate([actions[:, :1], actions[:, 1:] + 1], 1)
    for logit, same in ((1e4, True), (-1e4, False)):
        params = ready(model, with_logit(state, logit))
        values = [imagined(model, params, jax.random.key(0), a)[0] for a in (actions, changed)]
        assert np.equal(*values).all() == same


@pytest.mark.parametrize(
    ("kind", "outputs", "flags"),
    [("known reward", 2, 0), ("known end", 2, 0), ("learned reward", 3, 0), ("learned reward, known end", 3, 0)]
    + [("learned end", 2, 1), ("learned reward and end", 3, 1)],
)
def test_the_networks_have_outputs_for_all_that_the_task_does_not_know(kind, outputs, flags):
    state = jax.eval_shape(model_of(KINDS[kind]).init, jax.random.key(0)).regressor
    shapes = [(MEMBERS, 3 + 1, 6), (MEMBERS, 6, 2 * outputs + flags)]
    assert [w.shape for w in state.params.network.weights] == shapes
    assert state.targets.std.size == outputs


rows_of = on_host(lambda model, data: model.rows(data), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_what_transitions_teach(kind):
    """Of any leading axes."""
    data = jax.tree.map(lambda a: a.reshape(2, 3, *a.shape[1:]), transitions(6))
    model = model_of(KINDS[kind])
    rows = rows_of(model, data)
    a, b, c, d = (o[..., i] for o in (data.obs, data.next_obs) for i in (0, 1))
    np.testing.assert_allclose(rows.x, np.stack([np.sin(a), b, a * b, data.action[..., 0]], -1), rtol=1e-5)
    expected = [c, d - b, *([data.reward] if model.unknown.reward else [])]
    np.testing.assert_allclose(rows.y, np.stack(expected, -1), rtol=1e-5, atol=1e-6)
    flags = data.terminated[..., None] if model.unknown.termination else np.zeros((2, 3, 0), bool)
    np.testing.assert_array_equal(rows.flags, flags)


# One step, with each propagation

CARRY = np.float32(np.random.default_rng(3).normal(size=(PARTICLES, CANDIDATES, 2)))
ACTION = np.float32(np.random.default_rng(4).uniform(-1, 2, (PARTICLES, CANDIDATES, 1)))
KEY = jax.random.key(3)
normals = on_host(lambda shared, shape, stream: Noise(KEY, shared).normals(shape, stream), 0, 1, 2)


def step_and_outputs(model, name, certain, params):
    """A step, and what the propagation of that name makes of all particles, with no variance if `certain`."""
    predictor = model.regressor.predictor(params)
    means = lambda x: predictor(x)._replace(variance=jnp.zeros((*x.shape[:2], 2)))  # noqa: E731
    inputs, noise = (
        jnp.concatenate([model.task.features(CARRY), ACTION], -1),
        Noise(KEY, model.imagination.shared_noise),
    )
    propagation = registry.find("propagation", name)
    outputs = propagation(means if certain else predictor, MEMBERS, inputs, noise).outputs
    return *model.step(params, jnp.array(CARRY), jnp.array(ACTION), KEY), outputs


compiled_step = on_host(step_and_outputs, 0, 1, 2)


def check_step(imagination, name, *, certain=False, redrawn=None):
    model = model_of(KINDS["known reward"], **imagination)
    carry, found, out = compiled_step(model, name, certain, params_of(model))
    next_obs = np.stack([out[..., 0], CARRY[..., 1] + out[..., 1]], -1)
    if redrawn is not None:
        next_obs = next_obs.mean(0) + np.sqrt(next_obs.var(0)) * redrawn
    np.testing.assert_allclose(found.obs, next_obs, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(carry, found.obs)
    earned = known_reward(CARRY, ACTION, next_obs)
    np.testing.assert_allclose(found.reward, earned[None], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.terminated, np.zeros((PARTICLES, CANDIDATES)))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_advances_by_what_the_propagation_makes_of_every_particle(name):
    check_step({"propagation": name, **({"particles": 1} if name == "E" else {})}, name)


def test_a_propagation_may_be_found_by_its_path():
    check_step({"propagation": "test_learned:half_of_each", "shared_noise": True}, "test_learned:half_of_each")


def half_of_each(predictor, members, inputs, noise):
    """A further propagation: half of the first member's mean, and noise."""
    mean = predictor(jnp.stack([inputs.reshape(-1, inputs.shape[-1])] * members)).mean[0].reshape(*inputs.shape[:2], -1)
    return Propagated(0.5 * mean + noise.normals(mean.shape), jnp.zeros((*mean.shape[:2], 0)))


def whole_and_parts(model, params):
    """Observations of a rollout, and of single steps with what the model draws for it, time by time."""
    begin = start(model, params, jnp.array(CARRY[0]), KEY, PARTICLES)
    plan = jnp.array(ACTION[:2]).swapaxes(0, 1)
    whole = rollout(model, params, begin, open_loop(plan, PARTICLES), 2, KEY).obs
    noise, carry, obs = model.noise(jax.random.split(KEY)[1], 2, PARTICLES, CANDIDATES), begin.carry, [begin.obs]
    for t in range(2):
        now = jax.tree.map(lambda a: a[t], noise)  # noqa: B023
        carry, step = model.step(params, carry, jnp.broadcast_to(plan[:, t], (PARTICLES, CANDIDATES, 1)), now)
        obs.append(step.obs)
    return whole, jnp.stack(obs), noise


@pytest.mark.parametrize(("name", "shared"), [("E", False), ("MM", True), ("TS1", False)])
@pytest.mark.long
def test_a_rollout_draws_noise_for_all_its_steps_at_once(name, shared):
    """For every output, particle and row, or one row for all; further noise follows from a key for each step."""
    model = model_of(KINDS["learned reward"], propagation=name, shared_noise=shared)
    whole, parts, noise = on_host(whole_and_parts, 0)(model, params_of(model))
    np.testing.assert_allclose(whole, parts, rtol=1e-5, atol=1e-6)
    if name == "E":
        assert noise.normals is None
    else:
        assert noise.normals.shape == (2, PARTICLES, 1 if shared else CANDIDATES, 3)
        assert len(np.unique(noise.normals)) == noise.normals.size


def one_for_all(predictor, members, inputs, noise):
    """A further propagation: all outputs of a particle have the same noise."""
    normals = noise.normals((*inputs.shape[:2], 1))
    return Propagated(jnp.broadcast_to(normals, (*inputs.shape[:2], 2)), jnp.zeros((*inputs.shape[:2], 0)))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.long
def test_a_propagation_may_ask_for_noise_of_another_shape(shared):
    """Not what a rollout has drawn for all outputs."""
    model = model_of(KINDS["known reward"], propagation="test_learned:one_for_all", shared_noise=shared)
    obs = imagined(model, params_of(model), KEY, actions_of())[1]
    change = obs[1:] - obs[:-1] * np.float32([0, 1])
    np.testing.assert_allclose(change[..., 0], change[..., 1], rtol=1e-4, atol=1e-4)
    assert len(np.unique(change[..., 0])) == HORIZON * PARTICLES * (1 if shared else CANDIDATES)


def test_the_expectation_needs_no_noise():
    model = model_of(KINDS["known reward"], propagation="E", particles=1)
    first, second = (imagined(model, params_of(model), jax.random.key(k), actions_of(), 1)[1] for k in (0, 1))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shared", [False, True])
def test_moment_matching_of_states_redraws_states_sampled_from_the_whole_ensemble(shared):
    redrawn = normals(shared, (PARTICLES, CANDIDATES, 2), MATCHING_STREAM)
    check_step({"propagation": "MM", "moment_matching": "state", "shared_noise": shared}, "DS", redrawn=redrawn)


@pytest.mark.parametrize("name", ["TS1", "TS1-independent", "TSinf"])
def test_with_ignored_variance_particles_differ_by_their_members_alone(name):
    check_step({"propagation": name, "ignore_variance": True}, name, certain=True)


@pytest.mark.parametrize(
    "imagination", [{"propagation": "DS"}, {"propagation": "MM", "moment_matching": "state"}], ids=str
)
def test_with_ignored_variance_distribution_sampling_and_moment_matching_are_the_expectation(imagination):
    check_step({**imagination, "ignore_variance": True}, "E")


@pytest.mark.long
def test_trajectories_are_those_of_the_returns():
    model = model_of(KINDS["known reward"], propagation="TS1")
    actions = actions_of()
    found, obs = imagined(model, params_of(model), jax.random.key(0), actions)
    assert obs.shape == (HORIZON + 1, PARTICLES, CANDIDATES, 2)
    np.testing.assert_array_equal(obs[0], np.broadcast_to(OBS, (PARTICLES, CANDIDATES, 2)))
    earned = 10 * obs[:-1, ..., 0] + actions.transpose(1, 2, 0) + 0.1 * obs[1:, ..., 1]
    np.testing.assert_allclose(found, earned.sum(0), rtol=1e-4)


# Training

LEARNED = model_of(KINDS["learned reward and end"])
DATA = transitions(40)
keys_of = lambda key, count: list(jax.random.split(key, count))  # noqa: E731
init = on_host(lambda model, key: model.init(key), 0)
prepare = on_host(lambda model, *args: model.prepare(*args), 0)
update = on_host(lambda model, *args: model.update(*args), 0)
error = on_host(lambda model, state, *args: model.error(model.params(state), *args), 0)


@pytest.fixture
def given(monkeypatch):
    """Call a model's `fit`; what its training was then given."""

    def fit(self, key, ensemble, state, carried, rows, size, exact):
        drawn = jax.random.uniform(key)
        return Fitted(state, carried, {"x": rows.x, "y": rows.y, "flags": rows.flags, "size": size, "drawn": drawn})

    monkeypatch.setattr(Fit, "fit", fit)

    def call(model, replay):
        state = init(model_of(model.task), KEY)
        after, metrics = on_host(model.fit)(state, replay, KEY)
        jax.tree.map(np.testing.assert_array_equal, after, state)
        return metrics

    return call


@pytest.mark.long
def test_a_fit_is_that_of_the_rows(given):
    """And of as many of them as are valid; state and metrics come back."""
    found, replay = given(LEARNED, replay_of(DATA, 50)), replay_of(DATA, 50)
    for name, rows in rows_of(LEARNED, replay.data)._asdict().items():
        np.testing.assert_allclose(found[name], rows, rtol=1e-6)
    assert found["size"] == 40 and found["drawn"] == jax.random.uniform(KEY)


@pytest.mark.long
def test_noise_on_the_data_is_of_features_and_targets_alone():
    """In shares of the standard deviation of the valid rows; actions have none."""
    task, data = KINDS["known reward"], transitions(2000)
    found = []
    for noise in (0.0, 0.75):
        how = FIT.model_copy(update={"noise": noise, "epochs": 1, "max_steps": 1})
        model = model_of(task, ENSEMBLE.model_copy(update={"scale_targets": True}), fit=how)
        found.append(on_host(model.fit)(init(model, KEY), replay_of(data, 2010), KEY)[0].regressor)
    clean, noisy = found
    np.testing.assert_allclose(noisy.inputs.std / clean.inputs.std, [1.25, 1.25, 1.25, 1.0], rtol=0.05)
    np.testing.assert_allclose(noisy.targets.std / clean.targets.std, 1.25, rtol=0.05)


@pytest.mark.long
def test_updates_follow_the_statistics_of_the_valid_data_and_learn_from_it_alone():
    replay = replay_of(DATA, 50)
    state = prepare(LEARNED, init(LEARNED, KEY), replay)
    x = np.float64(rows_of(LEARNED, DATA).x)
    np.testing.assert_allclose(state.regressor.inputs.mean, x.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.regressor.inputs.std, x.std(0), rtol=1e-5)
    losses = []
    for key in keys_of(KEY, 150):
        state, metrics = update(LEARNED, state, replay, key)
        assert metrics.keys() == {"model_loss", "model_skipped"} and metrics["model_skipped"] == 0
        losses.append(float(metrics["model_loss"]))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.3
    assert state.training.opt_state[0].count == 150


@pytest.mark.long
def test_an_update_is_one_step_on_rows_that_each_member_draws_for_itself():
    """Of members that start alike, the gradients differ."""
    state, replay = init(LEARNED, KEY), replay_of(DATA, 50)
    twins = jax.tree.map(lambda a: np.stack([a[0]] * len(a)), state.regressor.params.network)
    state = state._replace(regressor=eqx.tree_at(lambda r: r.params.network, state.regressor, twins))
    moments = update(LEARNED, state, replay, KEY)[0].training.opt_state[0].mu.network.weights[0]
    assert (np.abs(moments[0] - moments[1]) > 1e-6).mean() > 0.9


def test_the_error_is_that_of_each_members_mean_averaged_by_weight():
    """Over members, weighted rows, and outputs; a reward that is learned is one of them."""
    state = LearnedState(trained(LEARNED), ())
    weight = np.float32([1, 0, 2, 0, 1, 0])
    data = jax.tree.map(lambda a: a[:6], DATA)
    x, y, _ = rows_of(LEARNED, data)
    double = jax.tree.map(np.float64, state.regressor)
    square = [[(predict_by_hand(double, m, np.float64(x[i]))[0] - y[i]) ** 2 for i in range(6)] for m in range(MEMBERS)]
    expected = np.average(np.mean(square, (0, 2)), weights=weight)
    assert float(error(LEARNED, state, data, weight)) == pytest.approx(expected, rel=1e-4)
    assert error(LEARNED, state, data, 0 * weight) == 0


def test_it_needs_data():
    assert LEARNED.needs_data and LEARNED.particles == PARTICLES


# Settings


def settings_of(name, members=5):
    return EnsembleModel(members=members if "E" in name else 1, probabilistic=name.startswith("P"))


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
            ("D", name, 20, f"propagation={name} needs a model with uncertainty, which D does not have; choose E")
            for name in ("DS", "MM")
        ),
        *(
            (model, "E", 20, "propagation=E has one particle, not 20; set imagination.particles=1")
            for model in ("D", "P", "DE", "PE")
        ),
        ("PE", "TSinf", 18, "particles (18) must be a multiple of model.members (5) with TSinf; the nearest is 20"),
        ("DE", "TS1", 12, "particles (12) must be a multiple of model.members (5) with TS1; the nearest is 10"),
        ("PE", "TS1", 1, "particles (1) must be a multiple of model.members (5) with TS1; the nearest is 5"),
        *((model, "MM", 1, "propagation=MM needs several particles to match, not 1") for model in ("P", "DE", "PE")),
    ],
)
def test_a_propagation_that_does_not_go_with_the_model_is_refused(model, propagation, particles, sentence):
    with pytest.raises(ValueError) as mistake:
        settings_of(model).check(Fit(), Imagination(propagation=propagation, particles=particles))
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
    settings_of(model).check(Fit(), imagination)
    assert particles_of(imagination, settings_of(model).members) == particles


@pytest.mark.parametrize("members", [2, 5, 7, 21])
@pytest.mark.parametrize("name", NAMES)
def test_particles_that_are_not_given_are_the_least_valid_number_from_the_papers_on(name, members):
    imagination, model = Imagination(propagation=name, particles=None), settings_of("PE", members)
    model.check(Fit(), imagination)
    expected = 1 if name == "E" else min(n for n in range(20, 99) if n % members == 0)
    assert particles_of(imagination, members) == expected


@pytest.mark.parametrize(("name", "goes"), [("E", True), ("DS", True), ("MM", True), ("TS1", False), ("TSinf", False)])
def test_a_gaussian_process_is_one_uncertain_model(name, goes):
    imagination = Imagination(propagation=name, particles=None)
    if goes:
        GPModel().check(GPFit(), imagination)
        return
    with pytest.raises(ValueError, match=r"needs a model of several networks, not GP; choose one of: E, DS, MM"):
        GPModel().check(GPFit(), imagination)


def test_a_model_is_trained_in_its_own_way_alone():
    with pytest.raises(ValueError, match=r"model.kind=ensemble is trained with fit.kind=adam, not lbfgs"):
        EnsembleModel().check(GPFit(), Imagination())
    with pytest.raises(ValueError, match=r"model.kind=gp is trained with fit.kind=lbfgs, not adam"):
        GPModel().check(Fit(), Imagination(propagation="DS"))


def test_an_unknown_propagation_is_refused():
    with pytest.raises(ValueError, match=r"no propagation\.kind 'TS2'"):
        Imagination(propagation="TS2")


@pytest.mark.long
def test_settings_build_the_model():
    task, settings = toy(), EnsembleModel(members=3)
    built = settings.build(task, fit=Fit(), imagination=Imagination(particles=None), unknown=Unknown(True, False))
    assert built == LearnedModel(task, settings, Fit(), Imagination(particles=None), Unknown(True, False))
    assert built.particles == 21 and isinstance(settings, Ensemble)
