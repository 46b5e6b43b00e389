"""Value expansion as an agent: its schedule of updates, what it acts with, and that every arrangement learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.agents import AGENTS, ValueExpansionSettings
from foretell.agents.value_expansion import Updates, ValueExpansion
from foretell.models import NeuralSimulator, SimulatorSettings
from foretell.replay import add, init_replay, single_steps
from foretell.runs.presets import resolve
from foretell.tasks import Task
from foretell.tasks.base import TaskSpec
from foretell.values import Expansion
from foretell.values.learners import DDPG
from tiny import quick_jit

ENSEMBLE = 2


class Slide(Task):
    """A point that the action moves; nearer to the middle is better."""

    spec = TaskSpec("Slide-v0", ("x",), (-2.0,), (2.0,), horizon=20)


TASK = Slide()
LEARNER = DDPG(hidden=(16,), critics=ENSEMBLE, batch_size=32)
NETWORKS = SimulatorSettings(members=ENSEMBLE, reward_members=ENSEMBLE, hidden=(16,), aux_hidden=(16,), batch_size=32)
SIMULATOR = NeuralSimulator(TASK, NETWORKS)


def agent_with(learner=LEARNER, expansion=Expansion(horizon=2), simulator=SIMULATOR, **updates):  # noqa: B008
    return ValueExpansion(TASK, learner, simulator, expansion, Updates(**{"pretraining": 3, **updates}))


def experience(count, capacity=200):
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(count, 1)), rng.uniform(-2, 2, (count, 1))
    next_obs = obs + 0.1 * action
    rows = (obs, action, -(next_obs[:, 0] ** 2), next_obs)
    data = single_steps(*(jnp.float32(row) for row in rows), jnp.zeros(count, bool))
    return add(init_replay(capacity, 1, 1), data, jnp.array(count))


REPLAY = experience(100)


def learned(agent, *news):
    """States and metrics of an agent that has seen so many new steps at each call."""
    learn, state, told = jax.jit(agent.learn), quick_jit(agent.init)(jax.random.key(0)), []
    for call, new in enumerate(news):
        state, metrics = learn(state, REPLAY, jnp.array(new), jax.random.key(call + 1))
        told.append((state, {name: float(value) for name, value in metrics.items()}))
    return told


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_first_the_model_alone_is_trained():
    agent = agent_with()
    before = quick_jit(agent.init)(jax.random.key(0))
    (state, metrics), *_ = learned(agent, 100)
    assert agent.pretraining == 1
    assert metrics["gradient_steps"] == 3 and metrics["epoch"] == 1
    assert same(state.learner, before.learner) and not same(state.model.trained, before.model.trained)
    assert same(state.model.used, state.model.trained) and same(state.published, before.learner.policy)


def test_pretraining_is_cut_into_calls():
    agent = agent_with(pretraining=1200)
    assert agent.pretraining == 3
    steps = [metrics["gradient_steps"] for _, metrics in learned(agent, 100, 0, 0, 2)]
    assert steps == [500, 500, 200, 8]


@pytest.mark.parametrize(
    ("per_step", "news", "steps"),
    [(4.0, (10, 8, 8), [32, 32]), (0.25, (10, 3, 3, 2), [0, 1, 1]), (0.5, (10, 1, 1, 1, 1), [0, 1, 0, 1])],
)
def test_every_step_is_worth_so_many_updates(per_step, news, steps):
    """Those of the first call, which came before learning began, are worth none."""
    told = learned(agent_with(per_step=per_step), *news)
    assert [metrics["gradient_steps"] for _, metrics in told[1:]] == steps
    assert int(told[-1][0].learner.updates) == sum(steps)


def test_policy_and_model_come_into_use_in_their_own_time():
    """Before update u where u + 1 is a multiple of the period: 4, 9, ... for 5."""
    agent = agent_with(per_step=1.0, publish_every=5, refresh_every=7)
    told = learned(agent, 10, 4, 1, 1, 1)
    (first, _), (four, _), (five, _), (six, _), (seven, _) = told
    assert [int(state.epoch) for state, _ in told] == [1, 1, 2, 2, 2]
    assert same(four.published, first.published) and not same(five.published, first.published)
    assert same(five.published, four.learner.policy) and same(seven.published, five.published)
    assert same(six.model.used, first.model.used) and same(seven.model.used, six.model.trained)


def test_it_acts_with_the_published_policy_in_the_environments_units():
    agent = agent_with(learner=DDPG(hidden=(16,), critics=2, batch_size=32, explore_chance=0.0))
    state = learned(agent, 10, 3)[-1][0]
    obs = jnp.linspace(-3, 3, 7)[:, None]
    action, _ = agent.act(state, (), obs, jax.random.key(0), explore=True)
    greedy, _ = agent.act(state, (), obs, jax.random.key(1), explore=False)
    np.testing.assert_allclose(action, greedy, rtol=1e-5)
    np.testing.assert_allclose(
        greedy, 2.0 * LEARNER.act(state.published, obs, jax.random.key(0), explore=False), rtol=1e-5
    )


def test_without_a_horizon_there_is_no_model():
    agent = agent_with(expansion=Expansion(horizon=0), simulator=None)
    state, metrics = learned(agent, 10, 8)[-1]
    assert state.model is None and "model_use" not in metrics and "transition_loss" not in metrics
    assert metrics["gradient_steps"] == 32 and metrics["critic_loss"] > 0


def test_the_td_k_trick_trains_at_imagined_pairs_too():
    """The pair of source i is the frame i - 1: its critics see other data than without the trick."""
    agent = agent_with(expansion=Expansion(horizon=2, reduction="last", tdk=True))
    state, metrics = learned(agent, 10, 8)[-1]
    batch = jax.tree.map(lambda a: a[:8], REPLAY.data)
    imagined = agent.expand(jax.random.key(0), state.learner, state.model.used, batch)
    obs, action = agent._pairs(batch, imagined, 3)
    assert obs.shape == action.shape == (3, ENSEMBLE, 8, 1)
    np.testing.assert_array_equal(obs[0, 1], batch.obs)
    np.testing.assert_allclose(action[0, 1], batch.action / 2, atol=1e-6)
    np.testing.assert_array_equal(obs[1], imagined.obs[0])
    np.testing.assert_array_equal(obs[1, 0], batch.next_obs)
    np.testing.assert_array_equal(action[2], imagined.action[1])
    assert np.isfinite(metrics["critic_loss"])


def test_weights_of_horizons_are_told_and_can_be_asked_for():
    agent = agent_with()
    state, metrics = learned(agent, 10, 8)[-1]
    assert sum(metrics[f"weight_{i}"] for i in range(3)) == pytest.approx(1, abs=1e-4)
    assert metrics["model_use"] == pytest.approx(1 - metrics["weight_0"], abs=1e-4)
    weights = agent.horizon_weights(state, jax.tree.map(lambda a: a[:10], REPLAY.data), jax.random.key(0))
    np.testing.assert_allclose(weights.sum(0), np.ones(10), rtol=1e-4)


def test_updates_that_are_not_finite_are_skipped_and_counted():
    agent = agent_with()
    state = learned(agent, 10)[-1][0]
    broken = REPLAY._replace(data=REPLAY.data._replace(reward=jnp.full(200, jnp.nan)))
    after, metrics = jax.jit(agent.learn)(state, broken, jnp.array(2), jax.random.key(5))
    assert metrics["skipped_steps"] == 16 and metrics["gradient_steps"] == 8  # of both learner and model
    assert same(after.learner.policy, state.learner.policy) and same(after.model.trained, state.model.trained)


def test_settings_build_the_agent():
    settings = resolve("steve/default", [{"task": {"env": "Pendulum-v1"}}])
    assert isinstance(settings, ValueExpansionSettings) and AGENTS["value-expansion"] is ValueExpansionSettings
    assert isinstance(settings.build(TASK), ValueExpansion)
    assert resolve("ddpg/default").build(TASK).simulator is None


ARRANGEMENTS = ["ddpg", "td3", "sac", "mve", "steve"]


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_every_arrangement_learns_to_go_to_the_middle(name):
    """From random data alone: the policy pushes towards 0 from either side."""
    small = {
        "learner": {"hidden": [32], "batch_size": 64, "critic_learning_rate": 3e-3, "discount": 0.9},
        "simulator": {"hidden": [32], "aux_hidden": [32], "batch_size": 64, "learning_rate": 3e-3},
        "updates": {"pretraining": 300, "publish_every": 10, "refresh_every": 10},
    }
    agent = resolve(f"{name}/default", [small]).build(TASK)
    learn, state = jax.jit(agent.learn), quick_jit(agent.init)(jax.random.key(0))
    for call, new in enumerate((100, 700)):
        state, _ = learn(state, REPLAY, jnp.array(new), jax.random.key(call))
    act = partial(agent.act, state, (), explore=False)
    actions = act(jnp.array([[-1.0], [1.0]]), jax.random.key(0))[0]
    assert actions[0, 0] > 0.5 and actions[1, 0] < -0.5
