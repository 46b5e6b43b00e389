"""PETS: a plan on a learned ensemble, and learning from a replay."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell import registry
from foretell.agents import PETS, PETSSettings
from foretell.models import EnsembleModel, Imagination, LearnedModel, Unknown, WithRewardModel
from foretell.planning import CEM, objective_of
from foretell.planning.mpc import PlanCarry
from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Fit
from foretell.replay import Transitions, add, init_replay
from foretell.tasks import Task, TaskSpec
from tiny import quick_jit


class Slide(Task):
    """A point on a line that moves by its action and wants to be at 0; the second component never changes."""

    spec = TaskSpec("Slide-v0", ("place", "constant"), (-1.0,), (0.5,), horizon=10)

    def reward(self, obs, action, next_obs):
        return -jnp.square(next_obs[..., 0])


TASK = Slide()
NETWORKS = EnsembleModel(members=2, hidden=(8,), weight_decay=(1e-4, 1e-4))
FIT = Fit(learning_rate=1e-2, min_steps=300)
IMAGINATION = Imagination(particles=4)
PLANNER = CEM(horizon=3, population=30, iterations=3, elites=5, epsilon=0.0)
REWARD_NETWORKS = Ensemble(members=3, hidden=(8,), weight_decay=(0.0, 0.0), probabilistic=False)
REWARD_FIT = Fit(learning_rate=1e-2, min_steps=400, anneal=True)
NOTHING = Unknown(reward=False, termination=False)
AGENT = PETS(TASK, LearnedModel(TASK, NETWORKS, FIT, IMAGINATION, NOTHING), PLANNER, 0.0)
CAPACITY = 24
BOUNDS = np.float32([-1.0]), np.float32([0.5])


compiled_init = quick_jit(AGENT.init)
compiled_policy = quick_jit(AGENT.policy)
compiled_act = quick_jit(partial(AGENT.act, explore=True))
compiled_learn = quick_jit(AGENT.learn)
compiled_error = quick_jit(AGENT.model.error)


@pytest.fixture(scope="module")
def fresh():
    return compiled_init(jax.random.key(0))


def experience(count, seed):
    rng = np.random.default_rng(seed)
    obs = np.stack([rng.uniform(-1, 1, count), np.full(count, 1e4 + 0.3)], -1)
    action = rng.uniform(-1, 0.5, (count, 1))
    next_obs = obs + 0.3 * action * [1, 0]
    return Transitions(*map(jnp.float32, (obs, action, np.zeros(count), next_obs)), jnp.zeros(count, bool))


def replay_of(*batches, new=24):
    replay = init_replay(CAPACITY, 2, 1)
    for rows in batches:
        replay = add(replay, rows)
    return replay._replace(new=jnp.array(new))


@pytest.fixture(scope="module")
def learned(fresh):
    return compiled_learn(fresh, replay_of(experience(24, 0)), jax.random.key(1))


@pytest.fixture(scope="module")
def policy(learned):
    return compiled_policy(learned[0])


def observations(*places):
    return jnp.float32([[place, 1e4 + 0.3] for place in places])


def begun(batch):
    """The carry of episodes that begin; it is the planner's alone."""
    return AGENT.begin((), jnp.zeros((batch, 2)), jax.random.key(0))


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


def test_init_makes_an_ensemble_and_its_optimiser(fresh):
    assert fresh.regressor.params.network.weights[0].shape == (2, 2 + 1, 8)
    moments = fresh.training.opt_state[0]
    assert moments.count == 0
    assert_close(moments.mu, jax.tree.map(np.zeros_like, fresh.regressor.params))


def test_every_episode_begins_with_the_planners_own_warm_start():
    carry = begun(3)
    alone = PLANNER.begin(AGENT.bounds)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.stack([b] * 3)), carry.warm_start, alone)
    np.testing.assert_array_equal(carry.warm_start.mean, np.full((3, 3, 1), -0.25, np.float32))


@pytest.mark.long
def test_actions_are_first_actions_of_plans_on_imagined_returns(policy):
    """Row by row what the planner finds, with the warm start it leaves; so a batch equals one by one."""
    obs, carry = observations(0.9, -0.4, 0.1), begun(3)
    actions, after, extras = compiled_act(policy, carry, obs, jax.random.key(5))

    @quick_jit
    def alone(key, warm_start, obs):
        return PLANNER.plan(key, objective_of(AGENT.model, policy, obs, 4), warm_start, AGENT.bounds)

    for i, key in enumerate(jax.random.split(jax.random.key(5), 3)):
        plan = alone(key, *jax.tree.map(lambda a: a[i], (carry.warm_start, obs)))  # noqa: B023
        expected = PlanCarry(plan.warm_start, plan.actions, plan.value, 1)
        assert_close((actions[i], jax.tree.map(lambda a: a[i], after)), (plan.actions[0], expected))  # noqa: B023
        assert_close((extras["plan"][i], extras["value"][i]), (plan.actions, plan.value))


@pytest.mark.parametrize("batch", [1, 4])
def test_any_number_of_observations_can_be_acted_on(fresh, batch):
    obs = jnp.zeros((batch, 2))
    given = compiled_policy(fresh), begun(batch), obs, jax.random.key(0)
    actions, carry, extras = jax.eval_shape(compiled_act, *given)
    assert actions.shape == (batch, 1)
    assert carry.warm_start.mean.shape == carry.plan.shape == extras["plan"].shape == (batch, 3, 1)


@pytest.mark.long
def test_actions_stay_in_bounds_from_anywhere(fresh):
    params, carry, obs = compiled_policy(fresh), begun(3), observations(1e3, -1e3, 0.0)
    for t in range(5):
        actions, carry, _ = compiled_act(params, carry, obs, jax.random.key(t))
        assert (actions >= BOUNDS[0]).all() and (actions <= BOUNDS[1]).all()


@pytest.mark.long
def test_actions_are_finite_when_the_model_is_not(policy):
    broken = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), policy)
    actions, *_ = compiled_act(broken, begun(3), observations(1, 2, 3), jax.random.key(0))
    assert np.isfinite(actions).all()


@pytest.mark.long
def test_the_key_decides_the_action(policy):
    first, again, other = (
        compiled_act(policy, begun(3), observations(1, 0, 0), jax.random.key(k))[0] for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_it_learns_which_way_to_go(policy):
    actions, *_ = compiled_act(policy, begun(3), observations(0.9, -0.9, 0.9), jax.random.key(0))
    assert actions[0] < -0.3 and actions[2] < -0.3
    assert actions[1] > 0.1


def test_acting_needs_the_networks_alone_without_what_training_carries(learned, policy):
    numbers = [sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (policy, learned[0])]
    assert numbers[0] < 0.4 * numbers[1], "the optimiser has two numbers for each weight"


@pytest.mark.long
def test_optimism_prefers_what_the_members_disagree_about(policy):
    """With much of it other actions are chosen, whose imagined returns are then valued more highly."""
    bold = dataclasses.replace(AGENT, optimism=100.0)
    plain, daring = (
        quick_jit(partial(agent.act, explore=True))(policy, begun(3), observations(1, 0, 3), jax.random.key(0))
        for agent in (AGENT, bold)
    )
    assert (plain[0] != daring[0]).any() and (daring[2]["value"] > plain[2]["value"]).all()


def test_learn_trains_on_all_data(learned):
    state, metrics = learned
    assert state.training.opt_state[0].count == metrics["gradient_steps"] == 300
    assert metrics["skipped_steps"] == 0
    assert metrics["train_mse"] < 1e-3
    np.testing.assert_allclose(state.regressor.inputs.mean[0], experience(24, 0).obs[:, 0].mean(), rtol=1e-5)
    assert state.regressor.inputs.std[1] == 1


def test_learn_continues_from_what_it_has(learned):
    state, _ = compiled_learn(learned[0], replay_of(experience(24, 0), new=0), jax.random.key(2))
    assert state.training.opt_state[0].count == 600


@pytest.mark.long
@pytest.mark.parametrize("new", [1, 3, 10])
def test_new_mse_is_the_error_on_the_new_rows_of_the_model_before_training(learned, policy, new):
    """With rows that wrap around the end of the replay."""
    rows = experience(10, seed=7)
    rows = rows._replace(next_obs=rows.next_obs + jnp.linspace(1, 2, 10)[:, None])
    _, metrics = compiled_learn(learned[0], replay_of(experience(20, 0), rows, new=new), jax.random.key(2))
    newest = jnp.arange(10) >= 10 - new
    expected = compiled_error(policy, rows, jnp.float32(newest))
    assert 0.5 < expected < 5
    assert float(metrics["new_mse"]) == pytest.approx(float(expected), rel=1e-4)


class Cliff(Slide):
    """As `Slide`, but what a place is worth and where the line ends are for the agent to find out."""

    reward = None
    learns_termination = True


CLIFF = Cliff()
SUCH = Unknown(reward=True, termination=True)
JUDGE = PETS(
    CLIFF,
    WithRewardModel(CLIFF, LearnedModel(CLIFF, NETWORKS, FIT, IMAGINATION, NOTHING), REWARD_NETWORKS, REWARD_FIT, SUCH),
    PLANNER,
    0.0,
)
init_judge, learn_judge = quick_jit(JUDGE.init), quick_jit(JUDGE.learn)


def falls(count, seed):
    """Experience in which the reward is the place itself, and being above 0.2 is the end."""
    rows = experience(count, seed)
    place = rows.next_obs[:, 0]
    return rows._replace(reward=place, terminated=place > 0.2)


@pytest.fixture(scope="module")
def judged():
    return learn_judge(init_judge(jax.random.key(0)), replay_of(falls(24, 0)), jax.random.key(1))


@pytest.mark.long
def test_what_the_task_does_not_know_is_learned_by_a_second_ensemble(judged):
    state, metrics = judged
    assert state.training.opt_state[0].count == metrics["reward_model_gradient_steps"] == 400
    assert state.dynamics.training.opt_state[0].count == metrics["gradient_steps"] == 300
    assert metrics["reward_model_skipped_steps"] == 0
    assert metrics["reward_model_train_mse"] < 1e-2
    rows = JUDGE.model.rows(falls(24, 3))
    networks = JUDGE.policy(state).networks
    found = REWARD_NETWORKS.predictor(networks)(jnp.stack([rows.x] * 3))
    np.testing.assert_allclose(found.mean.mean(0)[:, 0], falls(24, 3).reward, atol=0.2)
    assert ((found.logits.mean(0)[:, 0] > 0) == falls(24, 3).terminated).mean() > 0.8


@pytest.mark.long
def test_metrics_of_the_second_ensemble_are_those_of_the_first_with_a_prefix(judged, learned):
    names = set(learned[1])
    assert not any(name.startswith("reward_model_") for name in names)
    assert set(judged[1]) == names | {f"reward_model_{name}" for name in names - {"new_mse"}}


@pytest.mark.long
def test_the_dynamics_are_learned_alike_whatever_else_is_learned():
    """In a few steps: two programs round differently, and many steps make much of it."""
    few, found = Fit(max_steps=3), []
    dynamics = LearnedModel(TASK, NETWORKS, few, IMAGINATION, NOTHING)
    for model, rows in (
        (dynamics, experience(24, 0)),
        (WithRewardModel(CLIFF, dynamics, REWARD_NETWORKS, few, SUCH), falls(24, 0)),
    ):
        agent = PETS(TASK, model, PLANNER, 0.0)
        start = quick_jit(agent.init)(jax.random.key(0))
        after = quick_jit(agent.learn)(start, replay_of(rows), jax.random.key(1))[0]
        found.append((start, after) if model is dynamics else (start.dynamics, after.dynamics))
    (_, alone), (start, beside) = found
    assert not np.allclose(*(state.regressor.params.network.weights[0] for state in (start, beside)))
    assert_close(alone.regressor, beside.regressor)


@pytest.mark.long
def test_learning_what_a_step_earns_continues_from_what_there_is(judged):
    state, metrics = learn_judge(judged[0], replay_of(falls(24, 0), new=0), jax.random.key(2))
    assert state.training.opt_state[0].count == 800
    assert metrics["reward_model_train_mse"] < judged[1]["reward_model_train_mse"]


@pytest.mark.long
def test_it_goes_where_it_has_learned_to_earn(judged):
    """Rewards grow with the place, and the end is far."""
    act = quick_jit(partial(JUDGE.act, explore=True))
    actions, *_ = act(JUDGE.policy(judged[0]), begun(2), observations(-0.9, -0.5), jax.random.key(0))
    assert (actions > 0.1).all()


def settings_of(**changes):
    sections = {"description": "", "task": {}, "train": {}, "model": {}, "fit": {}, "imagination": {}, "planner": {}}
    return PETSSettings(**{**sections, **changes})


def test_settings_build_the_agent():
    settings = settings_of(
        model=NETWORKS,
        fit=FIT,
        imagination=IMAGINATION,
        reward_model=REWARD_NETWORKS,
        reward_fit=REWARD_FIT,
        planner=PLANNER,
    )
    assert settings.build(TASK) == AGENT and settings.build(CLIFF) == JUDGE
    assert registry.find("agent", "pets") is PETSSettings


@pytest.mark.long
def test_particles_must_share_the_members_evenly():
    with pytest.raises(ValueError, match=r"particles \(7\) must be a multiple of model.members \(5\)"):
        settings_of(imagination={"particles": 7})


@pytest.mark.long
def test_dynamics_and_reward_model_never_share_a_random_key(monkeypatch):
    """`fold_in(key, 1)` is `split(key)[1]`: a key that is both split and folded is used twice."""
    keys = []
    original = Fit.fit
    monkeypatch.setattr(Fit, "fit", lambda self, key, *a, **k: keys.append(key) or original(self, key, *a, **k))
    replay = init_replay(CAPACITY, 2, 1)._replace(added=jnp.array(10), new=jnp.array(10))
    learned_with = quick_jit(lambda state: (JUDGE.learn(state, replay, jax.random.key(1)), [*keys])[1])
    found = learned_with(init_judge(jax.random.key(0)))
    used = [[tuple(jax.random.key_data(k).tolist()) for k in (key, *jax.random.split(key, 8))] for key in found]
    assert len(used) == 2
    assert not set(used[0]) & set(used[1])
