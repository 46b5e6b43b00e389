"""TRPO as an agent: its batches, its actions, its settings, and that it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.agents import AGENTS, TRPO, TRPOSettings
from foretell.agents.base import Publishes
from foretell.errors import UserError
from foretell.replay import Transitions, add, init_replay
from foretell.runs.presets import parse_override, resolve
from foretell.tasks import Task
from foretell.tasks.base import TaskSpec
from foretell.values.gaussian import GaussianPolicy
from foretell.values.trpo import TRPOUpdate
from tiny import quick_jit

TIMES, ENVIRONMENTS, HORIZON = 40, 4, 10


class Slide(Task):
    """A point that the action moves; nearer to the middle is better."""

    spec = TaskSpec("Slide-v0", ("x",), (-1.0,), (3.0,), horizon=HORIZON)

    def features(self, obs):
        return jnp.concatenate([obs, jnp.abs(obs)], -1)


AGENT = TRPO(Slide(), GaussianPolicy(hidden=(16,)), TRPOUpdate(discount=0.9), TIMES, ENVIRONMENTS)
explore, greedy = (jax.jit(partial(AGENT.act, explore=explore)) for explore in (True, False))


def rows_of(numbers):
    """Transitions whose every number tells which they are."""
    n = jnp.float32(numbers)
    whole, odd = jnp.int32(n), n % 2 == 1
    return Transitions(n[:, None], 0.1 * n[:, None], n, n[:, None] + 1, odd, time=whole, environment=whole, over=odd)


@pytest.mark.parametrize("before", [0, 37, 170])
def test_the_batch_is_the_newest_steps_oldest_first(before):
    count = TIMES * ENVIRONMENTS
    replay = init_replay(200, 1, 1)
    replay = add(replay, rows_of(-1 - np.arange(before)), jnp.array(before)) if before else replay
    batch = AGENT._batch(add(replay, rows_of(np.arange(count)), jnp.array(count)))
    expected = np.arange(count).reshape(TIMES, ENVIRONMENTS)
    np.testing.assert_array_equal(batch.reward, expected)
    np.testing.assert_array_equal(batch.time, expected)
    np.testing.assert_array_equal(batch.features, np.stack([expected, expected], -1))
    np.testing.assert_array_equal(batch.next_features[..., 0], expected + 1)
    np.testing.assert_allclose(batch.action[..., 0], (0.1 * expected - 1) / 2, atol=1e-5)
    np.testing.assert_array_equal(batch.over, expected % 2 == 1)
    np.testing.assert_array_equal(batch.terminated, expected % 2 == 1)


def test_it_explores_beyond_the_bounds_and_is_greedy_within_them():
    state, obs = quick_jit(AGENT.init)(jax.random.key(0)), jnp.full((2000, 1), 0.3)
    drawn, _ = explore(state, (), obs, jax.random.key(1))
    mean = AGENT.policy.mean(state.policy, AGENT.task.features(obs))[0, 0]
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [1 + 2 * mean, 2], atol=0.15)
    assert drawn.min() < -1 and drawn.max() > 3
    far = state._replace(policy=state.policy._replace(network=jax.tree.map(lambda a: 9 * a, state.policy.network)))
    found, _ = greedy(far, (), jnp.linspace(-5, 5, 50)[:, None], jax.random.key(1))
    assert found.min() >= -1 and found.max() <= 3 and (abs(found - 1) == 2).any()


def test_it_acts_before_it_has_learned():
    state = quick_jit(AGENT.init)(jax.random.key(0))
    assert isinstance(AGENT, Publishes) and AGENT.pretraining == 0 and AGENT.epoch(state) == 0
    assert AGENT.start(3) == ()


def collected(state, key, replay):
    """The replay with a batch of steps in episodes of ten, from anywhere; and their mean reward."""
    rng, steps = np.random.default_rng(int(jax.random.bits(key)) % 2**31), []
    for t in range(TIMES):
        obs = rng.uniform(-1, 1, (ENVIRONMENTS, 1)).astype(np.float32) if t % HORIZON == 0 else steps[-1].next_obs
        action = np.asarray(explore(state, (), obs, jax.random.fold_in(key, t))[0])
        next_obs = obs + 0.3 * (np.clip(action, -1, 3) - 1.0)
        time, over = np.full(ENVIRONMENTS, t % HORIZON, np.int32), np.full(ENVIRONMENTS, (t + 1) % HORIZON == 0)
        reward, never = -np.abs(next_obs[:, 0]), np.zeros(ENVIRONMENTS, bool)
        which = np.arange(ENVIRONMENTS, dtype=np.int32)
        steps.append(Transitions(obs, action, reward, next_obs, never, time, which, over))
    rows = jax.tree.map(lambda *parts: jnp.concatenate(parts), *steps)
    return add(replay, rows, jnp.array(TIMES * ENVIRONMENTS)), float(rows.reward.mean())


def test_it_learns_to_go_to_the_middle():
    """Random actions leave the point 0.9 away on average."""
    learn, state, replay = jax.jit(AGENT.learn), quick_jit(AGENT.init)(jax.random.key(0)), init_replay(200, 1, 1)
    rewards = []
    for i in range(15):
        replay, reward = collected(state, jax.random.key(i), replay)
        state, metrics = learn(state, replay, jnp.array(TIMES * ENVIRONMENTS), jax.random.key(i))
        rewards.append(reward)
    assert AGENT.epoch(state) == metrics["epoch"] == 15
    assert np.mean(rewards[-3:]) > 0.6 * rewards[0]
    actions = greedy(state, (), jnp.array([[-1.0], [1.0]]), jax.random.key(0))[0]
    assert actions[0, 0] > 1.5 and actions[1, 0] < 0.5


def test_settings_build_the_agent():
    settings = resolve("trpo/default")
    assert isinstance(settings, TRPOSettings) and AGENTS["trpo"] is TRPOSettings
    agent = settings.build(Slide())
    assert isinstance(agent, TRPO) and (agent.times, agent.environments) == (500, 4)


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
        ("policy.initial_std=0", "policy.initial_std=0: input should be greater than 0"),
    ],
)
def test_settings_that_cannot_be(override, sentence):
    with pytest.raises(UserError) as mistake:
        resolve("trpo/default", [parse_override(override)])
    assert str(mistake.value).startswith(sentence)
