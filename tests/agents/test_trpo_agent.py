"""TRPO as an agent: its batches, its actions, its settings, and that it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell import registry
from foretell.agents import TRPO, TRPOSettings
from foretell.errors import UserError
from foretell.replay import Trajectories
from foretell.runs.presets import parse_override, resolve
from foretell.tasks import Task, TaskSpec
from foretell.values.gaussian import GaussianPolicy
from foretell.values.trpo import Batch, TRPOUpdate
from tiny import quick_jit

TIMES, ENVIRONMENTS, HORIZON = 40, 4, 10


class Slide(Task):
    """A point that the action moves; nearer to the middle is better."""

    spec = TaskSpec("Slide-v0", ("x",), (-1.0,), (3.0,), horizon=HORIZON)

    def features(self, obs):
        return jnp.concatenate([obs, jnp.abs(obs)], -1)


AGENT = TRPO(Slide(), GaussianPolicy(hidden=(16,)), TRPOUpdate(discount=0.9))
explore, greedy = (jax.jit(partial(AGENT.act, explore=explore)) for explore in (True, False))


@pytest.fixture(scope="module")
def fresh():
    return quick_jit(AGENT.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def learn():
    return jax.jit(AGENT.learn)


@pytest.mark.long
def test_a_batch_is_all_the_steps_in_their_order(fresh, learn):
    """Seen through the task's features and in units in which the bounds are -1 and 1."""
    data, _ = collected(fresh, jax.random.key(3))
    n = jnp.arange(TIMES * ENVIRONMENTS).reshape(TIMES, ENVIRONMENTS)
    data = data._replace(terminated=n % 7 == 0, over=data.over | (n % 7 == 0))
    batch = Batch(
        features=jnp.concatenate([data.obs, jnp.abs(data.obs)], -1),
        action=(data.action - 1.0) / 2.0,
        reward=data.reward,
        next_features=jnp.concatenate([data.next_obs, jnp.abs(data.next_obs)], -1),
        terminated=data.terminated,
        over=data.over,
        time=data.time,
    )
    expected, others = jax.jit(partial(AGENT.optimizer.update, AGENT.gaussian))(fresh, batch)
    found, metrics = learn(fresh, data, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)
    assert metrics == {**others, "policy_version": 1}


@pytest.mark.long
def test_it_explores_beyond_the_bounds_and_is_greedy_within_them(fresh):
    params, obs = AGENT.policy(fresh), jnp.full((2000, 1), 0.3)
    drawn, *_ = explore(params, (), obs, jax.random.key(1))
    mean = AGENT.gaussian.mean(params.policy, AGENT.task.features(obs))[0, 0]
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [1 + 2 * mean, 2], atol=0.15)
    assert drawn.min() < -1 and drawn.max() > 3
    far = params._replace(policy=params.policy._replace(network=jax.tree.map(lambda a: 9 * a, params.policy.network)))
    found, *_ = greedy(far, (), jnp.linspace(-5, 5, 50)[:, None], jax.random.key(1))
    assert found.min() >= -1 and found.max() <= 3 and (abs(found - 1) == 2).any()


def test_it_acts_before_it_has_learned(fresh):
    params = AGENT.policy(fresh)
    assert AGENT.pretraining == 0 and AGENT.begin(params, jnp.zeros((3, 1)), jax.random.key(0)) == ()
    assert explore(params, (), jnp.zeros((3, 1)), jax.random.key(0))[2]["policy_version"].tolist() == [0, 0, 0]


@pytest.mark.long
def test_acting_needs_the_policy_alone_without_the_baseline(fresh):
    params = AGENT.policy(fresh)
    assert jax.tree.leaves(params)[-1] == 0
    assert [leaf.shape for leaf in jax.tree.leaves(params.policy)] == [
        leaf.shape for leaf in jax.tree.leaves(fresh.policy)
    ]
    assert len(jax.tree.leaves(params)) == len(jax.tree.leaves(fresh.policy)) + 1


def collected(state, key):
    """Steps of the policy in episodes of ten, from anywhere; and their mean reward."""
    rng, steps, params = np.random.default_rng(int(jax.random.bits(key)) % 2**31), [], AGENT.policy(state)
    for t in range(TIMES):
        obs = rng.uniform(-1, 1, (ENVIRONMENTS, 1)).astype(np.float32) if t % HORIZON == 0 else steps[-1].next_obs
        action = np.asarray(explore(params, (), obs, jax.random.fold_in(key, t))[0])
        next_obs = obs + 0.3 * (np.clip(action, -1, 3) - 1.0)
        time, over = np.full(ENVIRONMENTS, t % HORIZON, np.int32), np.full(ENVIRONMENTS, (t + 1) % HORIZON == 0)
        reward, never = -np.abs(next_obs[:, 0]), np.zeros(ENVIRONMENTS, bool)
        steps.append(Trajectories(obs, action, reward, next_obs, never, over, time, ~never))
    data = jax.tree.map(lambda *parts: jnp.stack(parts), *steps)
    return data, float(data.reward.mean())


@pytest.mark.long
def test_it_learns_to_go_to_the_middle(fresh, learn):
    """Random actions leave the point 0.9 away on average."""
    state, rewards = fresh, []
    for i in range(15):
        data, reward = collected(state, jax.random.key(i))
        state, metrics = learn(state, data, jax.random.key(i))
        rewards.append(reward)
    params = AGENT.policy(state)
    assert params.version == metrics["policy_version"] == 15
    assert np.mean(rewards[-3:]) > 0.6 * rewards[0]
    actions, *_ = greedy(params, (), jnp.array([[-1.0], [1.0]]), jax.random.key(0))
    assert actions[0, 0] > 1.5 and actions[1, 0] < 0.5


@pytest.mark.long
def test_settings_build_the_agent():
    settings = resolve("trpo/default")
    assert isinstance(settings, TRPOSettings) and registry.find("agent", "trpo") is TRPOSettings
    assert settings.train.room(1000, TRPO.data) * settings.train.environments == settings.train.steps_per_learning
    agent = settings.build(Slide())
    assert isinstance(agent, TRPO) and agent.data == "trajectories"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "train={steps_per_learning: null, environments: 1, random_episodes: 1}",
            "train.steps_per_learning must be given: it is the batch of 'trpo'",
        ),
        ("train.random_steps=100", "train.random_steps must be 0: 'trpo' learns from its own actions alone"),
        (
            "train.environments=3",
            "train: steps_per_learning (2000) must be a multiple of environments (3); the nearest is 2001",
        ),
        ("trpo.backtrack_ratio=1", "trpo.backtrack_ratio=1: input should be less than 1"),
        ("trpo.max_lk=1", "no setting 'trpo.max_lk'; did you mean 'trpo.max_kl'?"),
        ("policy.initial_std=0", "policy.initial_std=0: input should be greater than or equal to 0.000001"),
    ],
)
@pytest.mark.long
def test_settings_that_cannot_be(override, sentence):
    with pytest.raises(UserError) as mistake:
        resolve("trpo/default", [parse_override(override)])
    assert str(mistake.value).startswith(sentence)
