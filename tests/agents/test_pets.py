"""PETS: a plan on a learned ensemble, and learning from a replay."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.agents import AGENTS, PETSSettings
from foretell.agents.pets import PETS
from foretell.models import Ensemble, Fit, Imagination, WorldModel, mean_square_error
from foretell.planning import CEM, mpc
from foretell.replay import add, init_replay, single_steps
from foretell.tasks import Task, TaskSpec
from tiny import quick_jit


class Slide(Task):
    """A point on a line that moves by its action and wants to be at 0; the second component never changes."""

    spec = TaskSpec("Slide-v0", ("place", "constant"), (-1.0,), (0.5,), horizon=10)

    def reward(self, obs, action, next_obs):
        return -jnp.square(next_obs[..., 0])


TASK = Slide()
MODEL = Ensemble(members=2, hidden=(8,), weight_decay=(1e-4, 1e-4))
PLANNER = CEM(horizon=3, population=30, iterations=3, elites=5, epsilon=0.0)
OUTCOME = Ensemble(members=3, hidden=(8,), weight_decay=(0.0, 0.0), probabilistic=False)
OUTCOME_FIT = Fit(learning_rate=1e-2, min_steps=400, anneal=True)
AGENT = PETS(
    WorldModel(TASK, MODEL, Imagination(particles=4), OUTCOME),
    Fit(learning_rate=1e-2, min_steps=300),
    OUTCOME_FIT,
    PLANNER,
)
CAPACITY = 24
BOUNDS = np.float32([-1.0]), np.float32([0.5])


compiled_init = quick_jit(AGENT.init)
compiled_act = quick_jit(partial(AGENT.act, explore=True))
compiled_learn = quick_jit(AGENT.learn)
compiled_error = quick_jit(lambda state, *data: mean_square_error(MODEL.predictor(state), MODEL.members, *data))


@pytest.fixture(scope="module")
def fresh():
    return compiled_init(jax.random.key(0))


def experience(count, seed):
    rng = np.random.default_rng(seed)
    obs = np.stack([rng.uniform(-1, 1, count), np.full(count, 1e4 + 0.3)], -1)
    action = rng.uniform(-1, 0.5, (count, 1))
    next_obs = obs + 0.3 * action * [1, 0]
    return single_steps(*map(jnp.float32, (obs, action, np.zeros(count), next_obs)), jnp.zeros(count, bool))


def replay_of(*batches):
    replay = init_replay(CAPACITY, 2, 1)
    for rows in batches:
        replay = add(replay, rows, jnp.array(len(rows.reward)))
    return replay


@pytest.fixture(scope="module")
def learned(fresh):
    return compiled_learn(fresh, replay_of(experience(24, 0)), jnp.array(24), jax.random.key(1))


def observations(*places):
    return jnp.float32([[place, 1e4 + 0.3] for place in places])


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


def test_init_makes_an_ensemble_and_its_optimiser(fresh):
    assert fresh.world.dynamics.params.network.weights[0].shape == (2, 2 + 1, 8)
    assert fresh.dynamics_fit.opt_state[0].count == 0
    assert_close(fresh.dynamics_fit.opt_state[0].mu, jax.tree.map(np.zeros_like, fresh.world.dynamics.params))
    assert fresh.world.outcome is None and fresh.outcome_fit is None


def test_start_is_the_planners_start_for_every_episode():
    control = AGENT.start(3)
    alone = PLANNER.start(AGENT.bounds)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.stack([b] * 3)), control.memory, alone)
    np.testing.assert_array_equal(control.memory.mean, np.full((3, 3, 1), -0.25, np.float32))


def test_actions_are_first_actions_of_plans_on_imagined_returns(learned):
    """Row by row what the planner finds, with the memory it leaves; so a batch equals one by one."""
    state, obs, control = learned[0], observations(0.9, -0.4, 0.1), AGENT.start(3)
    actions, after = compiled_act(state, control, obs, jax.random.key(5))

    @quick_jit
    def alone(key, memory, obs):
        return PLANNER.plan(key, lambda k, a: AGENT.world.returns(k, state.world, obs, a), memory, AGENT.bounds)

    for i, key in enumerate(jax.random.split(jax.random.key(5), 3)):
        plan = alone(key, *jax.tree.map(lambda a: a[i], (control.memory, obs)))  # noqa: B023
        expected = mpc.Control(plan.memory, plan.actions, 1)
        assert_close((actions[i], jax.tree.map(lambda a: a[i], after)), (plan.actions[0], expected))  # noqa: B023


@pytest.mark.parametrize("batch", [1, 4])
def test_any_number_of_observations_can_be_acted_on(fresh, batch):
    obs = jnp.zeros((batch, 2))
    actions, control = jax.eval_shape(compiled_act, fresh, AGENT.start(batch), obs, jax.random.key(0))
    assert actions.shape == (batch, 1)
    assert control.memory.mean.shape == control.actions.shape == (batch, 3, 1)


def test_actions_stay_in_bounds_from_anywhere(fresh):
    memory, obs = AGENT.start(3), observations(1e3, -1e3, 0.0)
    for t in range(5):
        actions, memory = compiled_act(fresh, memory, obs, jax.random.key(t))
        assert (actions >= BOUNDS[0]).all() and (actions <= BOUNDS[1]).all()


def test_actions_are_finite_when_the_model_is_not(fresh):
    broken = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), fresh.world)
    actions, _ = compiled_act(fresh._replace(world=broken), AGENT.start(3), observations(1, 2, 3), jax.random.key(0))
    assert np.isfinite(actions).all()


def test_the_key_decides_the_action(learned):
    first, again, other = (
        compiled_act(learned[0], AGENT.start(3), observations(1, 0, 0), jax.random.key(k))[0] for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_it_learns_which_way_to_go(learned):
    actions, _ = compiled_act(learned[0], AGENT.start(3), observations(0.9, -0.9, 0.9), jax.random.key(0))
    assert actions[0] < -0.3 and actions[2] < -0.3
    assert actions[1] > 0.1


def test_learn_trains_on_all_data(learned):
    state, metrics = learned
    assert state.dynamics_fit.opt_state[0].count == metrics["gradient_steps"] == 300
    assert metrics["skipped_steps"] == 0
    assert metrics["train_mse"] < 1e-3
    np.testing.assert_allclose(state.world.dynamics.inputs.mean[0], experience(24, 0).obs[:, 0].mean(), rtol=1e-5)
    assert state.world.dynamics.inputs.std[1] == 1


def test_learn_continues_from_what_it_has(learned):
    state, _ = compiled_learn(learned[0], replay_of(experience(24, 0)), jnp.array(0), jax.random.key(2))
    assert state.dynamics_fit.opt_state[0].count == 600


@pytest.mark.parametrize("new", [1, 3, 10])
def test_new_mse_is_the_error_on_the_newest_rows_of_the_model_before_training(learned, new):
    """With rows that wrap around the end of the replay."""
    rows = experience(10, seed=7)
    rows = rows._replace(next_obs=rows.next_obs + jnp.linspace(1, 2, 10)[:, None])
    _, metrics = compiled_learn(learned[0], replay_of(experience(20, 0), rows), jnp.array(new), jax.random.key(2))
    newest = jnp.arange(10) >= 10 - new
    expected = compiled_error(learned[0].world.dynamics, AGENT.world.rows(rows), jnp.float32(newest))
    assert 0.5 < expected < 5
    assert float(metrics["new_mse"]) == pytest.approx(float(expected), rel=1e-4)


class Cliff(Slide):
    """As `Slide`, but what a place is worth and where the line ends are for the agent to find out."""

    reward = None
    learns_termination = True


JUDGE = PETS(WorldModel(Cliff(), MODEL, Imagination(particles=4), OUTCOME), AGENT.fit, OUTCOME_FIT, PLANNER)
init_judge, learn_judge = quick_jit(JUDGE.init), quick_jit(JUDGE.learn)


def falls(count, seed):
    """Experience in which the reward is the place itself, and being above 0.2 is the end."""
    rows = experience(count, seed)
    place = rows.next_obs[:, 0]
    return rows._replace(reward=place, terminated=place > 0.2)


@pytest.fixture(scope="module")
def judged():
    return learn_judge(init_judge(jax.random.key(0)), replay_of(falls(24, 0)), jnp.array(24), jax.random.key(1))


def test_what_the_task_does_not_know_is_learned_by_a_second_ensemble(judged):
    state, metrics = judged
    assert state.outcome_fit.opt_state[0].count == metrics["outcome_gradient_steps"] == 400
    assert state.dynamics_fit.opt_state[0].count == metrics["gradient_steps"] == 300
    assert metrics["outcome_skipped_steps"] == 0
    assert metrics["outcome_train_mse"] < 1e-2
    found = OUTCOME.predictor(state.world.outcome)(jnp.stack([JUDGE.world.outcome_rows(falls(24, 3)).x] * 3))
    np.testing.assert_allclose(found.mean.mean(0)[:, 0], falls(24, 3).reward, atol=0.2)
    assert ((found.logits.mean(0)[:, 0] > 0) == falls(24, 3).terminated).mean() > 0.8


def test_metrics_of_the_second_ensemble_are_those_of_the_first_with_a_prefix(judged, learned):
    names = set(learned[1])
    assert not any(name.startswith("outcome_") for name in names)
    assert set(judged[1]) == names | {f"outcome_{name}" for name in names - {"new_mse"}}


def test_the_dynamics_are_learned_alike_whatever_else_is_learned():
    """In a few steps: two programs round differently, and many steps make much of it."""
    found = []
    for agent, rows in ((AGENT, experience(24, 0)), (JUDGE, falls(24, 0))):
        short = dataclasses.replace(agent, fit=Fit(max_steps=3), outcome_fit=Fit(max_steps=3))
        start = quick_jit(short.init)(jax.random.key(0))
        after = quick_jit(short.learn)(start, replay_of(rows), jnp.array(24), jax.random.key(1))[0]
        found.append(after.world.dynamics)
    assert not np.allclose(start.world.dynamics.params.network.weights[0], found[1].params.network.weights[0])
    assert_close(*found)


def test_learning_what_a_step_earns_continues_from_what_there_is(judged):
    state, metrics = learn_judge(judged[0], replay_of(falls(24, 0)), jnp.array(0), jax.random.key(2))
    assert state.outcome_fit.opt_state[0].count == 800
    assert metrics["outcome_train_mse"] < judged[1]["outcome_train_mse"]


def test_it_goes_where_it_has_learned_to_earn(judged):
    """Rewards grow with the place, and the end is far."""
    act = quick_jit(partial(JUDGE.act, explore=True))
    actions, _ = act(judged[0], JUDGE.start(2), observations(-0.9, -0.5), jax.random.key(0))
    assert (actions > 0.1).all()


def test_what_is_imagined_of_the_latest_plan(learned):
    """One trajectory per particle, the observation first, and a row for each row of the batch."""
    state, obs = learned[0], observations(0.9, -0.4)
    _, memory = compiled_act(state, AGENT.start(2), obs, jax.random.key(0))
    imagine, keys = quick_jit(AGENT.imagine), jax.random.split(jax.random.key(5), 2)
    found = imagine(state, memory, obs, jax.random.key(5))
    assert found.shape == (2, PLANNER.horizon + 1, 4, 2)
    trajectories = quick_jit(AGENT.world.trajectories)
    for row, key, start, actions in zip(found, keys, obs, memory.actions, strict=True):
        np.testing.assert_array_equal(row[0], np.broadcast_to(start, (4, 2)))
        np.testing.assert_allclose(row, trajectories(key, state.world, start, actions), rtol=1e-5, atol=1e-5)


def settings_of(**changes):
    sections = {"description": "", "task": {}, "train": {}, "model": {}, "fit": {}, "imagination": {}, "planner": {}}
    return PETSSettings(**{**sections, **changes})


def test_settings_build_the_agent():
    settings = settings_of(
        model=MODEL,
        fit=AGENT.fit,
        imagination={"particles": 4},
        outcome=OUTCOME,
        outcome_fit=OUTCOME_FIT,
        planner=PLANNER,
    )
    assert settings.build(TASK) == AGENT
    assert AGENTS["pets"] is PETSSettings


def test_particles_must_share_the_members_evenly():
    with pytest.raises(ValueError, match=r"particles \(7\) must be a multiple of model.members \(5\)"):
        settings_of(imagination={"particles": 7})


def test_dynamics_and_outcome_never_share_a_random_key(monkeypatch):
    """`fold_in(key, 1)` is `split(key)[1]`: a key that is both split and folded is used twice."""
    keys = []
    original = Fit.fit
    monkeypatch.setattr(Fit, "fit", lambda self, key, *rest: keys.append(key) or original(self, key, *rest))
    task = Slide()
    task.reward = None
    agent = PETS(WorldModel(task, MODEL, Imagination(particles=4), OUTCOME), AGENT.fit, OUTCOME_FIT, PLANNER)
    replay = init_replay(CAPACITY, 2, 1)._replace(added=jnp.array(10))
    learned_with = quick_jit(lambda state: (agent.learn(state, replay, jnp.array(10), jax.random.key(1)), [*keys])[1])
    found = learned_with(quick_jit(agent.init)(jax.random.key(0)))
    used = [[tuple(jax.random.key_data(k).tolist()) for k in (key, *jax.random.split(key, 8))] for key in found]
    assert len(used) == 2
    assert not set(used[0]) & set(used[1])
