"""Value expansion as an agent: its schedule of updates, what it acts with, and that every arrangement learns."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell import registry
from foretell.agents import ValueExpansion, ValueExpansionSettings
from foretell.agents.value_expansion import Updates
from foretell.compilation import COMPILER_OPTIONS
from foretell.errors import UserError
from foretell.models import SteveModel, SteveNetworks, Unknown
from foretell.regression.fit import Fit
from foretell.replay import Transitions, add, init_replay
from foretell.runs.presets import resolve
from foretell.tasks import Task, TaskSpec, make_task
from foretell.values import Expansion, pairs
from foretell.values.learners import DDPG
from tiny import LINE, by_hand, quick_jit

ENSEMBLE = 2


class Slide(Task):
    """A point that the action moves; nearer to the middle is better."""

    spec = TaskSpec("Slide-v0", ("x",), (-2.0,), (2.0,), horizon=20)


TASK = Slide()
LEARNER = DDPG(hidden=(16,), critics=ENSEMBLE, batch_size=32)
NETWORKS = SteveNetworks(members=ENSEMBLE, reward_members=ENSEMBLE, hidden=(16,), aux_hidden=(16,))
MODEL = SteveModel(TASK, NETWORKS, Fit(batch_size=32), ENSEMBLE, Unknown(reward=True, termination=False))


def agent_with(learner=LEARNER, expansion=Expansion(horizon=2), model=MODEL, **updates):  # noqa: B008
    return ValueExpansion(TASK, learner, model, expansion, Updates(**{"pretraining": 3, **updates}))


def experience(count, capacity=200):
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(count, 1)), rng.uniform(-2, 2, (count, 1))
    next_obs = obs + 0.1 * action
    rows = Transitions(*map(np.float32, (obs, action, -(next_obs[:, 0] ** 2), next_obs)), np.zeros(count, bool))
    return quick_jit(lambda rows: add(init_replay(capacity, 1, 1), rows))(rows)


REPLAY = experience(100)


def with_new(count, replay=REPLAY):
    return replay._replace(new=jnp.array(count, jnp.int32))


def learned(agent, *news):
    """States and metrics of an agent that has seen so many new steps at each call."""
    learn, state, found = _learn(agent), _begun(agent.learner, agent.model), []
    for call, new in enumerate(news):
        state, metrics = learn(state, with_new(new), jax.random.key(call + 1))
        found.append((state, {name: float(value) for name, value in metrics.items()}))
    return found


@cache
def _learn(agent):
    """Agents are compared by what they are made of, so that each is compiled once."""
    return quick_jit(agent.learn)


@cache
def _begun(learner, model):
    """The state at first, which does not depend on the other settings."""
    return quick_jit(agent_with(learner, model=model).init)(jax.random.key(0))


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.long
def test_first_the_model_alone_is_trained():
    agent = agent_with()
    before = _begun(agent.learner, agent.model)
    (state, metrics), *_ = learned(agent, 100)
    assert agent.pretraining == 1
    assert metrics["gradient_steps"] == 3 and metrics["policy_version"] == 1
    assert same(state.learner, before.learner) and not same(state.model.online, before.model.online)
    assert same(state.model.target, agent.model.params(state.model.online))
    assert same(state.acting.network, before.learner.policy)


@pytest.mark.long
def test_pretraining_is_cut_into_calls():
    agent = agent_with(pretraining=1200)
    assert agent.pretraining == 3
    steps = [metrics["gradient_steps"] for _, metrics in learned(agent, 100, 0, 0, 2)]
    assert steps == [500, 500, 200, 8]


@pytest.mark.long
@pytest.mark.parametrize(
    ("per_step", "news", "steps"),
    [(4.0, (10, 8, 8), [32, 32]), (0.25, (10, 3, 3, 2, 1, 1, 1, 1), [0, 1, 1, 0, 0, 0, 1])],
)
def test_every_step_is_worth_so_many_updates(per_step, news, steps):
    """Those of the first call, which came before learning began, are worth none."""
    found = learned(agent_with(per_step=per_step), *news)
    assert [metrics["gradient_steps"] for _, metrics in found[1:]] == steps
    assert int(found[-1][0].learner.updates) == sum(steps)


@pytest.mark.long
def test_policy_and_model_come_into_use_in_their_own_time():
    """Before update u where u + 1 is a multiple of the period: 4, 9, ... for 5."""
    agent = agent_with(per_step=1.0, sync_policy_every=5, sync_model_every=7)
    found = learned(agent, 10, 4, 1, 1, 1)
    (first, _), (four, _), (five, _), (six, _), (seven, _) = found
    assert [int(state.acting.version) for state, _ in found] == [1, 1, 2, 2, 2]
    assert same(four.acting.network, first.acting.network) and not same(five.acting.network, first.acting.network)
    assert same(five.acting.network, four.learner.policy) and same(seven.acting, five.acting)
    assert same(six.model.target, first.model.target) and same(seven.model.target, agent.model.params(six.model.online))


@pytest.mark.long
def test_it_acts_with_the_acting_policy_in_the_environments_units():
    state = learned(agent_with(), 10, 3)[-1][0]
    agent = agent_with(learner=DDPG(hidden=(16,), critics=2, batch_size=32, explore_probability=0.0))
    params, obs = agent.policy(state), jnp.linspace(-3, 3, 7)[:, None]
    action, _, extras = agent.act(params, (), obs, jax.random.key(0), explore=True)
    greedy, *_ = agent.act(params, (), obs, jax.random.key(1), explore=False)
    np.testing.assert_allclose(action, greedy, rtol=1e-5)
    alone = LEARNER.act(state.acting.network, obs, jax.random.key(0), explore=False)
    np.testing.assert_allclose(greedy, 2.0 * alone, rtol=1e-5)
    assert extras["policy_version"].tolist() == [1] * 7


@pytest.mark.parametrize("preset", ["steve/default", "sac/default"])
def test_acting_needs_the_actors_network_alone(preset):
    """Without critics, optimisers and models, and with the number of its version."""
    agent = resolve(preset, [{"task": {"env": "Pendulum-v1"}}]).build(TASK)
    state = jax.eval_shape(agent.init, jax.random.key(0))
    params = jax.eval_shape(agent.policy, state)
    network = jax.tree.leaves(state.learner.policy)
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [*(leaf.shape for leaf in network), ()]
    numbers = [sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (params, state)]
    assert numbers[0] < 0.1 * numbers[1]


@pytest.mark.long
def test_without_a_horizon_there_is_no_model():
    agent = agent_with(expansion=Expansion(horizon=0), model=None)
    state, metrics = learned(agent, 10, 8)[-1]
    assert state.model is None and "model_use" not in metrics and "transition_loss" not in metrics
    assert metrics["gradient_steps"] == 32 and metrics["critic_loss"] > 0


@pytest.mark.long
def test_the_td_k_trick_trains_at_imagined_pairs_too():
    """The pair of source i is the frame i - 1: its critics see other data than without the trick."""
    agent = agent_with(expansion=Expansion(horizon=2, reduction="last", tdk=True))
    state, metrics = learned(agent, 10, 8)[-1]
    batch = jax.tree.map(lambda a: a[:8], REPLAY.data)
    imagined = quick_jit(agent.expand)(jax.random.key(0), state.learner, state.model.target, batch)
    obs, action = pairs(batch.obs, batch.action / 2, imagined, 3)
    assert obs.shape == action.shape == (3, ENSEMBLE, 8, 1)
    np.testing.assert_array_equal(obs[0, 1], batch.obs)
    np.testing.assert_allclose(action[0, 1], batch.action / 2, atol=1e-6)
    np.testing.assert_array_equal(obs[1], imagined.obs[0])
    np.testing.assert_array_equal(obs[1, 0], batch.next_obs)
    np.testing.assert_array_equal(action[2], imagined.action[1])
    assert np.isfinite(metrics["critic_loss"])


@pytest.mark.long
def test_weights_of_horizons_are_metrics_and_can_be_asked_for():
    agent = agent_with()
    state, metrics = learned(agent, 10, 8)[-1]
    assert sum(metrics[f"weight_{i}"] for i in range(3)) == pytest.approx(1, abs=1e-4)
    assert metrics["model_use"] == pytest.approx(1 - metrics["weight_0"], abs=1e-4)
    some = jax.tree.map(lambda a: a[:10], REPLAY.data)
    weights = quick_jit(agent.horizon_weights)(state, some, jax.random.key(0))
    np.testing.assert_allclose(weights.sum(0), np.ones(10), rtol=1e-4)


@pytest.mark.long
def test_updates_that_are_not_finite_are_skipped_and_counted():
    agent = agent_with()
    state = learned(agent, 10)[-1][0]
    broken = REPLAY._replace(data=REPLAY.data._replace(reward=jnp.full(200, jnp.nan)))
    after, metrics = _learn(agent)(state, with_new(2, broken), jax.random.key(5))
    assert metrics["skipped_steps"] == 16 and metrics["gradient_steps"] == 8  # of both learner and model
    assert same(after.learner.policy, state.learner.policy) and same(after.model.online, state.model.online)


def test_settings_build_the_agent():
    settings = resolve("steve/default", [{"task": {"env": "Pendulum-v1"}}])
    assert isinstance(settings, ValueExpansionSettings)
    assert registry.find("agent", "value-expansion") is ValueExpansionSettings
    assert isinstance(settings.build(TASK), ValueExpansion)
    assert resolve("ddpg/default").build(TASK).model is None


@pytest.mark.long
def test_a_model_that_cannot_be_trained_step_by_step_is_refused():
    gp = {"model": {"kind": "gp"}, "fit": {"kind": "lbfgs"}, "imagination": {"propagation": "DS"}}
    with pytest.raises(UserError, match=r"model\.kind=gp cannot be trained by single gradient steps"):
        resolve("steve/default", [gp])


@pytest.mark.long
def test_horizons_are_not_weighed_by_the_spread_of_single_samples():
    single = {"model": {"members": 1, "reward_members": 1}, "learner": {"critics": 1}}
    with pytest.raises(UserError, match=r"expansion\.reduction=inverse-variance weighs horizons by the spread"):
        resolve("steve/default", [single]).build(TASK)


SMALL = {
    "learner": {"hidden": [32], "batch_size": 64, "critic_learning_rate": 3e-3, "discount": 0.9},
    "model": {"hidden": [32], "aux_hidden": [32]},
    "fit": {"batch_size": 64, "learning_rate": 3e-3},
    "updates": {"pretraining": 300, "sync_policy_every": 10, "sync_model_every": 10},
}
ENSEMBLES = {
    "model": {"kind": "ensemble", "members": 4, "hidden": [32]},
    "reward_model": {"members": 2, "hidden": [32], "weight_decay": 0.0, "probabilistic": False},
    "reward_fit": {"batch_size": 64, "learning_rate": 3e-3},
}
ARRANGEMENTS = {
    "ddpg": {},
    "td3": {},
    "steve": {},
    "sac": {},
    "mve": {},
    "steve with the networks of PETS": ENSEMBLES,
}


@pytest.mark.usefixtures("optimized")
@pytest.mark.long
@pytest.mark.parametrize("name", ["td3", "steve", *by_hand("ddpg", "sac", "mve", "steve with the networks of PETS")])
def test_every_arrangement_learns_to_go_to_the_middle(name):
    """From random data alone: the policy pushes towards 0 from either side."""
    agent = resolve(f"{name.split()[0]}/default", [SMALL, ARRANGEMENTS[name]]).build(TASK)
    learn = jax.jit(agent.learn, compiler_options=COMPILER_OPTIONS)
    state = quick_jit(agent.init)(jax.random.key(0))
    for call, new in enumerate((100, 250)):
        state, _ = learn(state, with_new(new), jax.random.key(call))
    act = partial(agent.act, agent.policy(state), (), explore=False)
    actions = act(jnp.array([[-1.0], [1.0]]), jax.random.key(0))[0]
    assert actions[0, 0] > 0.5 and actions[1, 0] < -0.5


CHEAP = {
    "task": {"env": "cartpole"},
    "learner": {"hidden": [8], "critics": 2, "batch_size": 4},
    "expansion": {"horizon": 2},
    "updates": {"per_step": 1.0},
}


def test_the_true_model_needs_no_training():
    """Its targets are compared with the environment in the tests of combinations."""
    settings = resolve("steve/default", [CHEAP, {"model": {"kind": "true-model", "threads": 1}}])
    assert settings.updates.pretraining > 1_000 and settings.build(make_task(settings.task)).pretraining == 1


@pytest.mark.long
def test_targets_cannot_follow_the_true_model_where_observations_do_not_tell_the_state():
    settings = resolve("steve/default", [CHEAP, {"task": {"env": LINE}}, {"model": {"kind": "true-model"}}])
    with pytest.raises(UserError, match=rf"^model\.kind=true-model cannot imagine from past observations of '{LINE}'"):
        settings.build(make_task(settings.task))
