"""A trained agent in use: it acts from its policy alone, for one observation or a batch, and plays whole episodes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witness import Witness

from environments import SPEC, STEPS
from foretell.agents import Schedule
from foretell.envs import empty_episodes
from foretell.errors import UserError
from foretell.keys import Stream
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from foretell.tasks import TaskSettings, make_task
from foretell.training.actor import begin_and_act
from foretell.training.controller import Controller
from foretell.training.evaluator import Evaluator
from foretell.training.events import RunInfo
from foretell.training.state import init_run
from tiny import LINE, TINY, nothing_compiled

SMALL_STEVE = {"learner": {"hidden": [8]}, "model": {"hidden": [8], "aux_hidden": [8]}}
AGENTS = {
    "pets/default": TINY,
    "steve/default": SMALL_STEVE,
    "trpo/default": {"policy": {"hidden": [8]}},
}


def run_of(preset, overrides):
    settings = resolve(preset, [{"task": {"env": LINE}, "train": {"eval_episodes": 1}}, overrides])
    task = make_task(settings.task)
    agent = settings.build(task)
    nowhere = RunDirectory(Path("nowhere"))
    run = RunInfo(directory=nowhere, preset=preset, seed=3, task=task, agent=agent, schedule=settings.train)
    return run, *init_run(agent, task.spec, settings.train, seed=3)


@pytest.fixture
def controller():
    agent = Witness(data="replay", schedule=Schedule(), horizon=STEPS)
    return Controller(agent, agent.init(jax.random.key(0)), SPEC)


def carry_of(controller):
    return np.asarray(controller._carry).tolist()


@pytest.mark.long
def test_one_observation_or_a_batch(controller):
    assert controller.act(np.zeros(2)).shape == (1,)
    controller.reset()
    assert controller.act(np.zeros((3, 2))).shape == (3, 1)


@pytest.mark.long
def test_an_episode_begins_after_a_reset_and_in_the_rows_of_its_mask(controller):
    for _ in range(2):
        controller.act(np.zeros((3, 2)))
    assert carry_of(controller) == [2, 2, 2]
    controller.reset([False, True, False])
    controller.reset([False, False, True])
    controller.act(np.zeros((3, 2)))
    assert carry_of(controller) == [3, 1, 1]
    controller.reset()
    controller.act(np.zeros((2, 2)))
    assert carry_of(controller) == [1, 1]


def test_a_batch_may_not_change_size_within_an_episode(controller):
    controller.act(np.zeros((2, 2)))
    with pytest.raises(UserError, match="a batch of 3 observations follows one of 2; call reset"):
        controller.act(np.zeros((3, 2)))


def test_the_noise_in_acting_is_never_the_same_twice_and_follows_from_the_seed(controller):
    first, second = controller.act(np.zeros(2)), controller.act(np.zeros(2))
    again = controller.with_seed(0)
    assert [again.act(np.zeros(2)), again.act(np.zeros(2))] == [first, second] and first != second
    assert controller.with_seed(1).act(np.zeros(2)) != first


def test_after_a_warm_up_nothing_is_compiled(controller):
    """Whether the carry is on the host or on the device, whatever the episode and the type of observations."""
    for batch, explore in ((1, False), (3, False), (3, True)):
        controller.warm_up(batch, explore=explore)
    with nothing_compiled():
        for obs in ([0.0, 1.0], np.zeros((1, 2), np.float32), np.zeros(2, int)):
            controller.act(obs)
        controller.reset()
        for _ in range(3):
            controller.act(np.zeros((3, 2)), explore=True)
            controller.act(np.zeros((3, 2)).tolist())
            controller.reset([False, True, False])
        controller.with_seed(5).act(np.zeros(2))


def test_without_a_warm_up_only_the_first_call_of_a_batch_size_compiles(controller):
    for batch in (1, 3):
        controller.reset()
        controller.act(np.zeros((batch, 2)))
    with nothing_compiled():
        controller.act(np.zeros((3, 2)))
        controller.reset()
        controller.act(np.zeros(2))


def test_a_warm_up_changes_nothing_of_the_episode(controller):
    other = controller.with_seed(0)
    for i in range(3):
        other.warm_up(1 + i)
        assert other.act(np.ones((2, 2))).tolist() == controller.act(np.ones((2, 2))).tolist()
    assert carry_of(other) == carry_of(controller) == [3, 3]


def test_exploring_is_another_way_to_act(controller):
    class Explores(type(controller.agent)):
        def act(self, params, carry, obs, key, *, explore):
            return jnp.full((len(obs), 1), float(explore)), carry, {}

    agent = Explores(data="replay", schedule=Schedule(), horizon=STEPS)
    acting = Controller(agent, controller.state, SPEC)
    assert [acting.act(np.zeros(2), explore=explore).item() for explore in (True, False, True)] == [1, 0, 1]


@pytest.mark.long
def test_episodes_are_decided_by_the_seed_and_their_number(controller):
    with make_task(TaskSettings(env=LINE)).make() as env:
        played = [controller.play(env, episode=i) for i in (0, 1, 0)]
    assert played[0] == played[2] != played[1]
    assert all(result.length == STEPS for result in played)


@pytest.mark.long
@pytest.mark.parametrize("preset", AGENTS)
def test_evaluation_needs_the_policy_alone(preset):
    """An evaluator that is only given that, as on another machine, acts as the agent does with its whole state."""
    run, state, _ = run_of(preset, AGENTS[preset])
    policy = jax.tree.map(np.asarray, run.agent.policy(state.agent))
    evaluator, seen, chosen = Evaluator(run), [], []
    evaluator.start()
    evaluator.compile(policy, state.carry)
    episodes, _ = evaluator.play(
        policy,
        state.carry,
        [7],
        lambda: None,
        lambda episodes, carry, extras: seen.append(jax.tree.map(np.copy, episodes)),
    )
    evaluator.close()

    def act(agent_state, carry, obs, fresh, *numbers):
        return begin_and_act(
            run.agent, Stream.ACT, run.agent.policy(agent_state), carry, obs, fresh, *numbers, explore=False
        )

    whole, carry = jax.jit(act), jax.tree.map(lambda a: a[:1], state.carry)
    before = empty_episodes(SPEC, 1)
    before.obs[0, 0], before.number[:] = episodes.obs[0, 0], 7
    for t, after in enumerate(seen):
        numbers = np.int32(3), np.int32(7), np.int32(t)
        action, carry, _ = whole(state.agent, carry, before.latest, before.length == 0, *numbers)
        chosen.append(np.asarray(action)[0])
        before = after
    np.testing.assert_allclose(episodes.actions[0, : len(chosen)], chosen, rtol=1e-5, atol=1e-6)
    assert int(episodes.length[0]) == len(chosen) == STEPS


@pytest.mark.long
def test_what_evaluation_needs_of_steve_is_small():
    _, state, policy = run_of("steve/default", {})
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (policy, state.agent)]
    assert sizes[0] < 0.1 * sizes[1]
    network = jax.tree.leaves(state.agent.learner.policy)
    assert sizes[0] == sum(leaf.nbytes for leaf in network) + 4
