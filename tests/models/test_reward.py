"""Reward and termination learned apart from the dynamics, beside any model of these."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import (
    CANDIDATES,
    ENSEMBLE,
    HORIZON,
    KINDS,
    OBS,
    PARTICLES,
    actions_of,
    imagined,
    known_reward,
    noise_by_hand,
    predict_by_hand,
    replay_of,
    returns_by_hand,
    trained_ensemble,
    transitions,
    with_logit,
)

from foretell.models import Imagination, LearnedModel, Step, Unknown, WithRewardModel
from foretell.models.learned import LearnedState
from foretell.models.reward import RewardState
from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Fit
from foretell.replay import Transitions
from foretell.tasks import Task, TaskSpec
from tiny import on_host

JUDGES = 3
NETWORKS = Ensemble(members=JUDGES, hidden=(5,), weight_decay=0.0, probabilistic=False, activation="tanh")
FIT, REWARD_FIT = Fit(batch_size=8), Fit(batch_size=4, epochs=2)
UNCERTAIN = NETWORKS.model_copy(update={"probabilistic": True})
LEARNED = [kind for kind in KINDS if "learned" in kind]
KEY = jax.random.key(4)


def model_of(task, networks=NETWORKS):
    dynamics = LearnedModel(task, ENSEMBLE, FIT, Imagination(particles=PARTICLES), Unknown(False, False))
    return WithRewardModel(task, dynamics, networks, REWARD_FIT, Unknown(task.reward is None, task.learns_termination))


def trained(model):
    unknown = model.unknown
    judges = trained_ensemble(model.networks, 2, 7, int(unknown.reward), int(unknown.termination))
    return RewardState(LearnedState(trained_ensemble(ENSEMBLE, 1, 4, 2, 0), ()), judges, ())


params_of = on_host(lambda model, state: model.params(state), 0)
rows_of = on_host(lambda model, data: model.rows(data), 0)


def judge_by_hand(state):
    """Of one step, the mean over networks of the reward, and of the probability that the episode goes on."""
    double = jax.tree.map(np.float64, state.networks)

    def judge(inputs, features):
        found = [predict_by_hand(double, member, np.concatenate([inputs, features])) for member in range(JUDGES)]
        rewards = [mean[0] for mean, _, _ in found if len(mean)]
        onward = [1 / (1 + np.exp(logits[0])) if len(logits) else 1.0 for _, _, logits in found]
        return (np.mean(rewards) if rewards else None), np.mean(onward)

    return judge


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "networks"),
    [*((kind, NETWORKS) for kind in LEARNED), ("learned reward and end", UNCERTAIN)],
    ids=[*LEARNED, "probabilistic networks"],
)
def test_returns_take_the_mean_over_the_networks_and_never_their_variance(kind, networks):
    model = model_of(KINDS[kind], networks)
    state, actions = trained(model), actions_of()
    found, _ = imagined(model, params_of(model, state), KEY, actions)
    noise = noise_by_hand(KEY, 2)
    expected = returns_by_hand(model.task, state.dynamics.regressor, noise, actions, judge_by_hand(state))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_observations_are_those_of_the_dynamics_alone():
    model = model_of(KINDS["learned reward and end"])
    state, actions = trained(model), actions_of()
    _, obs = imagined(model, params_of(model, state), KEY, actions)
    _, alone = imagined(model.dynamics, params_of(model.dynamics, state.dynamics), KEY, actions)
    np.testing.assert_allclose(obs, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["learned end", "learned reward and end"])
@pytest.mark.long
def test_nothing_is_earned_after_an_imagined_end(kind):
    model, actions = model_of(KINDS[kind]), actions_of()
    state = trained(model)
    changed = np.concatenate([actions[:, :1], actions[:, 1:] + 1], 1)
    for logit, same in ((1e4, True), (-1e4, False)):
        params = params_of(model, state._replace(networks=with_logit(state.networks, logit)))
        values = [imagined(model, params, KEY, a)[0] for a in (actions, changed)]
        assert np.equal(*values).all() == same


init = on_host(lambda model, key: model.init(key), 0)


@pytest.mark.parametrize(
    ("kind", "real", "columns"),
    [("learned reward", 1, 1), ("learned reward, known end", 1, 1), ("learned end", 0, 1)]
    + [("learned reward and end", 1, 2)],
)
def test_the_networks_see_both_sides_of_a_step_and_give_the_reward_and_a_logit(kind, real, columns):
    state = jax.eval_shape(model_of(KINDS[kind]).init, KEY).networks
    assert [w.shape for w in state.params.network.weights] == [(JUDGES, 3 + 1 + 3, 5), (JUDGES, 5, columns)]
    assert state.targets.std.size == real


def test_the_dynamics_start_alike_whatever_else_is_learned():
    """And otherwise than the networks beside them."""
    model = model_of(KINDS["learned reward"])
    state = init(model, KEY)
    jax.tree.map(np.testing.assert_array_equal, state.dynamics, init(model.dynamics, KEY))
    weights = [s.params.network.weights[0].ravel()[:9] for s in (state.networks, state.dynamics.regressor)]
    assert not np.isclose(weights[0] / weights[0].std(), weights[1] / weights[1].std(), rtol=1e-2).any()


@pytest.mark.parametrize("kind", LEARNED)
def test_rows_hold_what_reward_and_termination_are_learned_from(kind):
    data, model = transitions(6), model_of(KINDS[kind])
    rows = rows_of(model, data)
    (a, b), (c, d) = data.obs.T, data.next_obs.T
    x = np.stack([np.sin(a), b, a * b, data.action[:, 0], np.sin(c), d, c * d], -1)
    np.testing.assert_allclose(rows.x, x, rtol=1e-5)
    np.testing.assert_array_equal(rows.y, data.reward[:, None] if model.unknown.reward else np.zeros((6, 0)))
    flags = data.terminated[:, None] if model.unknown.termination else np.zeros((6, 0))
    np.testing.assert_array_equal(rows.flags, flags)


class Counting(NamedTuple):
    """Dynamics that count what is asked of them, whose state is a number."""

    silent: bool = False
    """Whether updates have no metrics."""
    needs_data: bool = False
    particles: int = PARTICLES

    def init(self, key):
        return jnp.zeros(())

    def params(self, state):
        return state

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape))

    def step(self, params, carry, action, key):
        after = carry + params + 0.1 * action
        return after, Step(after, jnp.full((1, *carry.shape[:2]), jnp.nan), jnp.full(carry.shape[:2], jnp.nan))

    def fit(self, state, replay, key):
        return state + 1, {"train_loss": jnp.float32(7)}

    def prepare(self, state, replay):
        return state + 10

    def update(self, state, replay, key):
        return state + 100, {} if self.silent else {"model_loss": jnp.float32(8), "model_skipped": jnp.float32(0)}

    def error(self, params, data, weight):
        return params + 0.5


COUNTED = WithRewardModel(KINDS["learned reward and end"], Counting(), NETWORKS, REWARD_FIT, Unknown(True, True))
prepare = on_host(lambda *args: COUNTED.prepare(*args))
update = on_host(lambda *args: COUNTED.update(*args))
error = on_host(lambda *args: COUNTED.error(*args))


def test_the_dynamics_may_be_any_model():
    """Whose own reward and termination do not count."""
    state, actions = trained(COUNTED)._replace(dynamics=np.float32(0.25)), actions_of()
    found, obs = imagined(COUNTED, params_of(COUNTED, state), KEY, actions)
    expected = OBS + 0.25 * np.arange(1, HORIZON + 1)[:, None, None] + 0.1 * np.cumsum(actions.transpose(1, 0, 2), 0)
    np.testing.assert_allclose(obs[1:, 0], expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(found).all() and found.shape == (PARTICLES, CANDIDATES)
    assert COUNTED.needs_data and COUNTED.particles == PARTICLES


@pytest.mark.long
def test_updates_train_both():
    state, data = init(COUNTED, KEY), transitions(20)
    state = prepare(state, replay_of(data, 30))
    np.testing.assert_allclose(state.networks.inputs.std, np.float64(rows_of(COUNTED, data).x).std(0), rtol=1e-5)
    after, metrics = update(state, replay_of(data, 30), KEY)
    assert (state.dynamics, after.dynamics) == (10, 110)
    assert metrics.keys() == {"model_loss", "reward_model_loss", "model_skipped"}
    assert metrics["model_loss"] == 8 and metrics["reward_model_loss"] > 0 and metrics["model_skipped"] == 0
    assert after.training.opt_state[0].count == 1


def test_the_dynamics_may_have_no_metrics():
    silent = replace(COUNTED, dynamics=Counting(silent=True))
    _, metrics = jax.eval_shape(silent.update, init(COUNTED, KEY), replay_of(transitions(20), 30), KEY)
    assert metrics.keys() == {"reward_model_loss", "model_skipped"}


@pytest.mark.long
def test_an_update_that_only_the_reward_model_skips_counts():
    data = transitions(20)
    replay = replay_of(data._replace(reward=np.full(20, np.nan, np.float32)), 30)
    state = prepare(init(COUNTED, KEY), replay)
    after, metrics = update(state, replay, KEY)
    assert metrics["model_skipped"] == 1 and metrics["reward_model_loss"] == 0 and after.dynamics == 110
    jax.tree.map(np.testing.assert_array_equal, after.networks.params, state.networks.params)


@pytest.mark.long
def test_the_error_is_that_of_the_dynamics():
    params = params_of(COUNTED, trained(COUNTED)._replace(dynamics=np.float32(2)))
    assert error(params, transitions(3), np.ones(3, np.float32)) == 2.5


class Cart(Task):
    """A cart on a rail, pushed by the action; it should be at 1 and stand still."""

    spec = TaskSpec("Cart-v0", ("place", "speed"), (-1.0,), (1.0,), horizon=10)


def pushed(obs, action):
    speed = 0.8 * obs[..., 1] + 0.5 * action[..., 0]
    next_obs = np.stack([obs[..., 0] + 0.5 * speed, speed], -1)
    return next_obs, -np.square(next_obs[..., 0] - 1) - 0.2 * np.square(action[..., 0])


@pytest.fixture(scope="module")
def cart():
    """A model trained on random steps: itself, its data, state and metrics."""
    rng, ensemble = np.random.default_rng(0), Ensemble(members=2, hidden=(24,), weight_decay=0.0, probabilistic=False)
    obs, action = rng.uniform(-2, 2, (300, 2)), rng.uniform(-1, 1, (300, 1))
    next_obs, reward = pushed(obs, action)
    data = Transitions(*map(np.float32, (obs, action, reward, next_obs)), np.zeros(300, bool))
    how = Fit(learning_rate=1e-2, anneal=True, batch_size=32, min_steps=400)
    dynamics = LearnedModel(Cart(), ensemble, how, Imagination(particles=2), Unknown(False, False))
    model = WithRewardModel(Cart(), dynamics, ensemble, how.model_copy(update={"min_steps": 500}), Unknown(True, False))
    return model, data, *on_host(model.fit)(init(model, KEY), replay_of(data, 320), KEY)


@pytest.mark.long
def test_noise_on_its_data_is_of_features_and_targets_alone():
    task, data = KINDS["learned reward"], transitions(2000)
    stds = []
    for noise in (0.0, 0.75):
        how = REWARD_FIT.model_copy(update={"noise": noise, "epochs": 1, "max_steps": 1})
        model = replace(model_of(task), training=how)
        state, _ = on_host(model.fit)(on_host(model.init)(KEY), replay_of(data, 2010), KEY)
        stds.append(state.networks.inputs.std)
    np.testing.assert_allclose(stds[1] / stds[0], [1.25, 1.25, 1.25, 1.0, 1.25, 1.25, 1.25], rtol=0.05)


@pytest.mark.long
def test_a_fit_trains_both_and_keeps_their_metrics_apart(cart):
    model, data, state, metrics = cart
    assert (metrics["gradient_steps"], metrics["reward_model_gradient_steps"]) == (400, 500)
    assert metrics["skipped_steps"] == metrics["reward_model_skipped_steps"] == 0
    names = {name.removeprefix("reward_model_") for name in metrics if name.startswith("reward_model_")}
    assert names == {name for name in metrics if not name.startswith("reward_model_")}
    assert metrics["train_mse"] < 0.01 and metrics["reward_model_train_mse"] < 0.05
    for networks, rows in (
        (state.networks, rows_of(model, data)),
        (state.dynamics.regressor, rows_of(model.dynamics, data)),
    ):
        np.testing.assert_allclose(networks.inputs.mean, np.float64(rows.x).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_what_is_imagined_with_a_learned_reward_is_worth_what_it_really_is(cart):
    """The true and the imagined returns of random plans are all but the same."""
    model, _, state, _ = cart
    plans = np.float32(np.random.default_rng(1).uniform(-1, 1, (60, 6, 1)))
    found, _ = imagined(model, params_of(model, state), KEY, plans, 2)
    where, total = np.broadcast_to(OBS, (60, 2)), np.zeros(60)
    for step in plans.transpose(1, 0, 2):
        where, earned = pushed(where, step)
        total += earned
    assert np.corrcoef(found.mean(0), total)[0, 1] > 0.98
    assert np.median(np.abs(found.mean(0) - total)) < 0.15 * total.std()


@pytest.mark.long
def test_an_untrained_model_knows_nothing_of_what_plans_are_worth(cart):
    """So that the test before is one of learning."""
    model, _, _, _ = cart
    plans = np.float32(np.random.default_rng(1).uniform(-1, 1, (60, 6, 1)))
    found, _ = imagined(model, params_of(model, init(model, KEY)), KEY, plans, 2)
    assert np.ptp(found) < 3


@pytest.mark.long
def test_a_known_reward_is_never_learned():
    """Where only the termination is, and never comes."""
    model = model_of(KINDS["learned end"])
    certain = params_of(model, trained(model)._replace(networks=with_logit(trained(model).networks, -1e4)))
    found, obs = imagined(model, certain, KEY, actions_of())
    action = actions_of().transpose(1, 0, 2)[:, None]
    earned = known_reward(obs[:-1], action, obs[1:])
    np.testing.assert_allclose(found, earned.sum(0), rtol=1e-4)
