"""Learning does not depend on the units of observations, and barely on columns that say nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.agents import ValueExpansion
from foretell.agents.updates import Updates
from foretell.models import SteveModel, SteveNetworks, Unknown
from foretell.nn import Normalizer, init_mlp, with_inputs
from foretell.regression.fit import Fit
from foretell.replay import Transitions, add, init_replay
from foretell.tasks import Task, TaskSpec
from foretell.values import Expansion
from foretell.values.learners import DDPG, SAC, SACV, TD3, standardized
from tiny import by_hand, quick_jit


class Plane(Task):
    """A point that the action moves, and a column that says nothing."""

    spec = TaskSpec("Plane-v0", ("x", "clock"), (-2.0,), (2.0,), horizon=20)


TASK, SIZES = Plane(), {"hidden": (8,), "batch_size": 16, "standardize": True}


def replay_of(unit, offset=0.0, count=64):
    rng = np.random.default_rng(0)
    x, action = rng.normal(size=count), rng.uniform(-2, 2, (count, 1))
    after = x + 0.1 * action[:, 0]
    columns = [np.stack([unit * a, np.full(count, offset)], -1) for a in (x, after)]
    rows = columns[0], action, -(after**2), columns[1]
    data = add(init_replay(128, 2, 1), Transitions(*map(jnp.float32, rows), jnp.zeros(count, bool)))
    return data._replace(new=data.added)


def agent_with(learner):
    networks = SteveNetworks(members=2, reward_members=2, hidden=(8,), aux_hidden=(8,), standardize=True)
    model = SteveModel(TASK, networks, Fit(batch_size=16), 2, Unknown(reward=True, termination=True))
    return ValueExpansion(TASK, learner, model, Expansion(horizon=2), Updates(pretraining=1, per_step=0.2))


def test_networks_standardise_inputs_and_leave_further_ones_alone():
    network = init_mlp(jax.random.key(0), (3, 4, 1), members=2, activation="tanh")
    seen = with_inputs(network, Normalizer(jnp.array([1.0, -2.0]), jnp.array([2.0, 4.0])))
    x = jax.random.normal(jax.random.key(1), (2, 5, 3))
    scaled = jnp.stack([(x[..., 0] - 1.0) / 2.0, (x[..., 1] + 2.0) / 4.0, x[..., 2]], -1)
    np.testing.assert_allclose(seen(x), network(scaled), rtol=1e-6)
    grads = jax.grad(lambda network: network(x).sum())(seen)
    assert not grads.input_mean.any() and not grads.input_std.any() and grads.weights[0].any()


@pytest.mark.long
@pytest.mark.parametrize("learner", [DDPG, TD3, SAC, SACV], ids=lambda cls: cls.__name__)
def test_all_networks_of_a_learner_have_the_statistics_of_the_replay(learner):
    settings, replay = learner(**SIZES), replay_of(4.0, 1e6)
    state = standardized(settings.init(jax.random.key(0), 2, 1), replay, TASK.features)
    obs = np.asarray(replay.data.obs[:64], np.float64)
    networks = [state.policy, state.critics, state.target_critics, state.target_policy]
    networks += [*state.state_value[:2]] if state.state_value else []
    for network in filter(None, networks):
        actions = network.weights[0].shape[-2] - 2
        np.testing.assert_allclose(network.input_mean[0, 0], [*obs.mean(0), *[0.0] * actions], rtol=1e-6)
        np.testing.assert_allclose(network.input_std[0, 0], [obs[:, 0].std(), 1.0, *[1.0] * actions], rtol=1e-5)
    again = standardized(state, replay_of(9.0)._replace(new=jnp.int32(0)), TASK.features)
    np.testing.assert_array_equal(again.policy.input_mean, state.policy.input_mean)  # there is nothing new


COUNTS = [(0, 1, True), (1, 2, True), (1000, 1020, False), (1000, 1060, True), (50_000, 50_020, False), (5, 5, False)]


@pytest.mark.parametrize(("before", "after", "grown"), COUNTS)
def test_a_replay_has_grown_at_powers_of_1_05(before, after, grown):
    replay = init_replay(4, 1, 1)._replace(added=jnp.int32(after), new=jnp.int32(after - before))
    assert bool(replay.grown) == grown


@pytest.mark.long
@pytest.mark.parametrize("learner", [DDPG(**SIZES), *by_hand(SAC(**SIZES))], ids=lambda learner: learner.kind)
def test_the_units_of_observations_do_not_matter(learner):
    """Powers of two, with which floats are exact, and an offset that does not change."""
    agent = agent_with(learner)
    init, learn, act = map(quick_jit, (agent.init, agent.learn, partial(agent.act, explore=False)))
    found, probe = [], jnp.array([[0.3, 0.0], [-1.0, 0.0]])
    for unit, offset in ((1.0, 0.0), (2.0**20, 0.0), (2.0**-10, 1e6)):
        state, replay = init(jax.random.key(0)), replay_of(unit, offset)
        for call in range(3):
            state, metrics = learn(state, replay, jax.random.key(call))
            replay = replay._replace(new=jnp.int32(20))
        actions = act(agent.policy(state), (), probe * unit + jnp.array([0.0, offset]), jax.random.key(0))[0]
        found.append((actions, metrics["critic_loss"], metrics["model_loss"]))
    for actions, *losses in found[1:]:
        np.testing.assert_allclose(actions, found[0][0], rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(losses, found[0][1:], rtol=2e-3)
    assert np.isfinite(found[0][1]) and found[0][1] > 0
