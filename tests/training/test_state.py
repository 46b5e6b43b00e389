"""The state of a run before anything has happened, and the random keys that everything is derived from."""

import jax
import numpy as np
import pytest

from environments import SPEC
from foretell.agents import Schedule
from foretell.envs import empty_episodes
from foretell.keys import Stream, environment_seed, key_for, numpy_generator
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.clock import Counters
from foretell.training.state import init_run
from tiny import LINE, TINY


def state_of(preset, *overrides):
    settings = resolve(preset, [{"task": {"env": LINE}}, *overrides])
    task = make_task(settings.task)
    return init_run(settings.build(task), task.spec, settings.train, seed=0)


@pytest.fixture(scope="module")
def pets():
    return state_of("pets/default", TINY)


def test_keys_differ_by_seed_stream_and_counter_and_repeat():
    def word(*args):
        return int(jax.random.bits(key_for(*args)))

    uses = [
        (0, Stream.ACT, 0, 0),
        (0, Stream.ACT, 0, 1),
        (0, Stream.ACT, 1, 0),
        (0, Stream.LEARN, 0),
        (1, Stream.ACT, 0, 0),
    ]
    assert len({word(*use) for use in uses}) == len(uses)
    assert word(*uses[0]) == word(*uses[0])


def test_host_generators_differ_by_stream_and_counter():
    draws = [numpy_generator(0, stream, i).random() for stream in (Stream.RANDOM, Stream.ENVIRONMENT) for i in (0, 1)]
    assert len(set(draws)) == 4


def test_every_episode_of_a_run_has_a_seed_of_its_own():
    seeds = {environment_seed(seed, episode) for seed in (0, 1) for episode in range(50)}
    assert len(seeds) == 100 and all(0 <= seed < 2**31 for seed in seeds)
    assert environment_seed(1, 7) == environment_seed(1, 7)


def test_the_state_of_a_run_is_arrays_and_whole_numbers_alone_and_starts_at_zero(pets):
    state, _ = pets
    arrays = jax.tree.leaves(state._replace(counters=()))
    assert all(isinstance(leaf, jax.Array | np.ndarray) for leaf in arrays)
    assert state.counters == Counters() and not any(state.counters)
    assert not (state.collected.times or state.collected.steps.valid.any() or state.episodes.running)
    assert state.replay.capacity == 50 and state.metrics == {}
    assert state.episodes.obs.shape == (1, 6, 2)


@pytest.mark.long
def test_no_leaf_of_the_state_has_a_weak_type(pets):
    """A weak type would compile every program a second time once learning has made it strong."""
    state, policy = pets
    leaves = jax.tree.leaves((state.agent, state.carry, state.replay, policy))
    assert not any(getattr(leaf, "weak_type", False) for leaf in leaves)


@pytest.mark.long
def test_an_agent_that_learns_from_trajectories_has_no_replay():
    state, policy = state_of("trpo/default", {"train": {"environments": 2, "steps_per_learning": 10}})
    assert state.replay is None and state.collected.steps.obs.shape == (5, 2, 2)
    assert all(value.shape == () and value == 0 for value in state.metrics.values()) and "kl" in state.metrics
    assert jax.tree.map(np.shape, policy.policy) == jax.tree.map(np.shape, state.agent.policy)


@pytest.mark.parametrize(
    ("schedule", "replay", "trajectories"),
    [
        ({"trials": 6, "environments": 2}, 5, 5),
        ({"trials": 6, "environments": 2, "episodes_per_learning": 3}, 5, 15),
        ({"trials": 6, "environments": 2, "random_episodes": 5}, 5, 15),
        ({"trials": 6, "random_episodes": 0, "random_steps": 7}, 5, 12),
        ({"environments": 2, "steps_per_learning": 8, "random_episodes": 0}, 4, 4),
        ({"environments": 2, "steps_per_learning": 8, "random_episodes": 0, "random_steps": 13}, 4, 7),
    ],
)
@pytest.mark.long
def test_there_is_room_for_all_steps_between_two_calls_of_learn_unless_a_replay_takes_them(
    schedule, replay, trajectories
):
    assert [Schedule(**schedule).room(5, data) for data in ("replay", "trajectories")] == [replay, trajectories]


@pytest.mark.long
def test_collected_steps_are_the_latest_of_each_environment():
    state, _ = state_of("trpo/default", {"train": {"environments": 2, "steps_per_learning": 4}})
    episodes, collected = empty_episodes(SPEC, 2), state.collected
    rng = np.random.default_rng(0)
    for array in (episodes.obs, episodes.actions, episodes.rewards):
        array[...] = rng.normal(size=array.shape)
    episodes.length[:], episodes.terminated[0], episodes.over[0] = (3, 1), 1, 1
    collected.take(episodes, [0, 1])
    collected.take(episodes, [1])
    steps = collected.steps
    assert collected.is_full and steps.valid.tolist() == [[True, True], [False, True]]
    np.testing.assert_allclose(steps.obs[0], [episodes.obs[0, 2], episodes.obs[1, 0]], rtol=1e-6)
    np.testing.assert_allclose(steps.next_obs[0], [episodes.obs[0, 3], episodes.obs[1, 1]], rtol=1e-6)
    np.testing.assert_allclose(steps.action[0], [episodes.actions[0, 2], episodes.actions[1, 0]], rtol=1e-6)
    np.testing.assert_allclose(steps.reward[0], [episodes.rewards[0, 2], episodes.rewards[1, 0]], rtol=1e-6)
    assert steps.terminated[0].tolist() == steps.over[0].tolist() == [True, False]
    assert steps.time[0].tolist() == [2, 0]
    collected.clear()
    assert not (collected.times or steps.valid.any())
