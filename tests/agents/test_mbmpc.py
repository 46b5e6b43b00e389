"""MB-MPC: presets, planning along a path, and a guide for random shooting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.agents.mbmpc import Guided, PathFollower
from foretell.agents.pets import PETS
from foretell.errors import UserError
from foretell.models import open_loop, rollout, start
from foretell.models.path import PathModel, with_progress
from foretell.planning.imagined import imagined_returns
from foretell.replay import Transitions, add, init_replay
from foretell.runs.presets import resolve
from foretell.tasks import TaskSettings, make_task
from tiny import LINE, by_hand, interrupted_at, quick_jit

SMALL = {
    "model": {"hidden": [8], "weight_decay": [0.0, 0.0]},
    "fit": {"epochs": 2, "batch_size": 16},
    "planner": {"population": 6, "horizon": 3},
    "train": {"trials": 4, "environments": 2, "random_episodes": 2, "capacity": 200},
}
GUIDE = {"guide": {"hidden": [8], "fit": {"epochs": 40, "batch_size": 16, "learning_rate": 1e-2, "bootstrap": False}}}


def agent_for(*overrides, env="mbmf-swimmer", **options):
    settings = resolve("mbmpc/cheetah-hw4", [SMALL, {"task": {"env": env, "options": options}}, *overrides])
    task = make_task(settings.task)
    return settings.build(task), task


def params_of(agent):
    """What an untrained agent acts with."""
    return quick_jit(lambda key: agent.policy(agent.init(key)))(jax.random.key(0))


def first_act(agent, params, obs):
    """What it does at the beginning of episodes."""
    key = jax.random.key(1)
    return quick_jit(lambda obs: agent.act(params, agent.begin(params, obs, key), obs, key, explore=True))(obs)


def reward(obs, action, next_obs):
    return -(next_obs[..., 0] ** 2)


@pytest.mark.parametrize(
    ("preset", "population", "horizon", "hidden", "steps"),
    [
        ("cheetah-hw4", 1000, 15, (500, 500), 1000),
        ("cheetah-blog", 10, 5, (500, 500), 1000),
        ("cheetah-fall2018", 4096, 15, (500,), 501),
    ],
)
def test_presets_have_the_homeworks_constants(preset, population, horizon, hidden, steps):
    settings = resolve(f"mbmpc/{preset}")
    model, fit, train = settings.model, settings.fit, settings.train
    assert (settings.planner.population, settings.planner.horizon, model.hidden) == (population, horizon, hidden)
    assert settings.planner.iterations == 1 and settings.imagination.propagation == "E"
    assert (model.name, model.activation, model.initializer) == ("D", "relu", "glorot")
    assert model.scale_targets and model.center_targets and not any(model.weight_decay)
    assert (fit.epochs, fit.batch_size, fit.learning_rate, fit.bootstrap) == (60, 512, 1e-3, False)
    assert fit.statistics == "first" and fit.new_share is None
    assert train.environments == train.random_episodes == 10
    assert train.trials == (110 if preset == "cheetah-fall2018" else 150)
    task = make_task(settings.task)
    assert task.spec.horizon == steps
    assert task.progress == ("torso" if preset == "cheetah-fall2018" else "com-lagged")
    assert train.capacity >= (train.random_episodes + train.trials - train.environments) * steps, "nothing is forgotten"
    assert type(settings.build(task)) is PETS


def test_without_aggregation_only_the_random_data_are_learned_from():
    assert resolve("mbmpc/cheetah-hw4+no-aggregation").fit.new_share == 0.0


@pytest.mark.long
def test_the_best_of_what_a_known_system_allows_is_executed():
    """A point that the action pushes: far on the right, the best first action pushes hard to the left."""
    agent, _ = agent_for({"planner": {"population": 400, "horizon": 2}}, env="cheetah-torso")
    actions, _, _ = first_act(agent, params_of(agent), jnp.zeros((2, 20)))
    assert actions.shape == (2, 6) and (jnp.abs(actions) <= 1).all()
    assert not np.array_equal(actions[0], actions[1]), "every environment has its own candidates"


# A path.


@pytest.mark.long
def test_a_task_with_a_path_is_followed():
    agent, task = agent_for(path="left")
    assert type(agent) is PathFollower
    params = params_of(agent)
    obs = jnp.zeros((3, task.spec.obs_size)).at[:, task.position[0]].set(jnp.array([0.0, 5.0, -2.0]))
    carry = agent.begin(params, obs, jax.random.key(0))
    np.testing.assert_array_equal(carry.progress.origin[:, 0], [0.0, 5.0, -2.0])
    act = quick_jit(lambda carry, obs: agent.act(params, carry, obs, jax.random.key(1), explore=True))
    actions, carry, extras = act(carry, obs)
    assert actions.shape == (3, 2)
    np.testing.assert_array_equal(carry.progress.origin[:, 0], [0.0, 5.0, -2.0])
    later = act(carry, obs + 1.0)[1]
    np.testing.assert_array_equal(later.progress.origin, carry.progress.origin, "where the episode began")
    assert extras["plan"].shape == (3, 3, 2)


@pytest.mark.long
def test_the_episode_moves_on_when_the_chosen_plan_does():
    """At the end of the first segment every plan goes on to the second."""
    agent, task = agent_for(path="straight")
    obs, params = jnp.zeros((1, task.spec.obs_size)), params_of(agent)
    zeros = jax.tree.map(jnp.zeros_like, params.regressor.params)  # it predicts no change
    still = params._replace(regressor=params.regressor._replace(params=zeros))
    act = quick_jit(lambda carry, obs: agent.act(still, carry, obs, jax.random.key(1), explore=True)[1])
    carry = act(agent.begin(still, obs, jax.random.key(0)), obs)
    assert carry.progress.segment.tolist() == [0]
    carry = act(carry, obs.at[0, task.position[0]].set(1.0))
    assert carry.progress.segment.tolist() == [1]


@pytest.mark.long
def test_candidates_are_judged_by_the_path_and_not_by_the_reward():
    """Of plans on a model that is exact in its mean the chosen one is the best by what following the path earns."""
    agent, task = agent_for({"planner": {"population": 30}}, path="left")
    params, obs, key = params_of(agent), jnp.zeros((1, task.spec.obs_size)), jax.random.key(1)
    carry = agent.begin(params, obs, key)
    _, _, extras = first_act(agent, params, obs)
    progress = jax.tree.map(lambda a: a[0], task.plan_progress(carry.progress, obs))

    def earned(plan):
        """Step by step, with the model's own trajectory."""
        model = PathModel(agent.model, task)
        begin = with_progress(start(model, params, obs, key, 1), progress)
        return rollout(model, params, begin, open_loop(plan[None], 1), len(plan), key).reward.sum()

    assert float(quick_jit(earned)(extras["plan"][0])) == pytest.approx(float(extras["value"][0]), rel=1e-4)


def test_a_path_needs_a_plan_at_every_step_and_no_guide():
    with pytest.raises(UserError, match="replan_every must be 1 to follow a path, not 2"):
        agent_for({"planner": {"replan_every": 2}}, path="left")
    with pytest.raises(UserError, match="guide must be null to follow a path"):
        agent_for(GUIDE, path="left")
    settings = resolve("pets/default", [{"task": {"env": "mbmf-swimmer", "options": {"path": "left"}}}])
    with pytest.raises(UserError, match="only 'mbmpc' follows paths"):
        settings.build(make_task(settings.task))


# A guide.


def replays_of(actions, obs_size, first):
    """Replays of the first rows: `first` random ones, then those in which the action is what `actions` says."""
    rng = np.random.default_rng(0)
    count = first + len(actions)
    obs = np.float32(rng.normal(size=(count, obs_size)))
    drawn = np.float32(rng.uniform(-1, 1, (count, actions.shape[1])))
    drawn[first:] = actions
    rows = Transitions(obs, drawn, np.zeros(count, np.float32), obs, np.zeros(count, bool))
    empty = init_replay(count, obs_size, actions.shape[1])
    return lambda n: add(empty, Transitions(*map(jnp.asarray, rows)), jnp.arange(count) < n)


@pytest.mark.long
def test_the_guide_learns_from_trials_alone_and_then_acts():
    agent, task = agent_for(GUIDE)
    assert type(agent) is Guided
    replay_of = replays_of(np.full((60, 2), 0.5, np.float32), task.spec.obs_size, first=40)
    state = quick_jit(agent.init)(jax.random.key(0))
    learn = jax.jit(agent.learn)
    state, metrics = learn(state, replay_of(40), jax.random.key(1))
    assert not state.taught and metrics["guide_gradient_steps"] == 0
    assert not agent.policy(state).taught
    state, metrics = learn(state, replay_of(100)._replace(new=jnp.int32(60)), jax.random.key(2))
    assert state.taught and metrics["guide_gradient_steps"] == 40 * 4
    guess = agent.policy(state).network(jnp.zeros((1, 1, task.spec.obs_size)))
    np.testing.assert_allclose(guess, 0.5, atol=0.1)


@pytest.mark.long
def test_with_a_guide_only_first_actions_differ_between_candidates():
    agent, task = agent_for(GUIDE)
    params, obs, key = params_of(agent).model, jnp.ones((2, task.spec.obs_size)), jax.random.key(4)
    actions = jax.random.uniform(jax.random.key(3), (2, 3, 2), minval=-1.0)
    same_first = actions.at[1, 0].set(actions[0, 0])

    def zero(key, obs, t):
        return jnp.zeros((*obs.shape[:-1], 2)), ()

    @quick_jit
    def values(plans):
        begin = start(agent.model, params, obs, key, 1)
        return [imagined_returns(agent.model, params, begin, plans, key, guide=guide) for guide in (zero, None)]

    guided, plain = values(same_first)
    assert guided[0] == guided[1] and plain[0] != plain[1]
    np.testing.assert_allclose(guided, values(same_first.at[:, 1:].set(0.0))[1], rtol=1e-5)
    guided, _ = values(actions)
    assert guided[0] != guided[1]


@pytest.mark.long
def test_a_taught_guide_takes_part_in_plans():
    agent, task = agent_for(GUIDE)
    params, obs = params_of(agent), jnp.ones((1, task.spec.obs_size))
    plain, taught = (first_act(agent, params._replace(taught=jnp.array(flag)), obs) for flag in (False, True))
    assert plain[2]["value"] != taught[2]["value"]
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, taught)


@pytest.mark.long
def test_a_guide_goes_with_a_gaussian_process():
    """Traced only: its fits are slow to compile."""
    settings = resolve("mbmpc/default+gp", [{"task": {"env": "Pendulum-v1"}}, {"guide": {"hidden": [8]}}])
    agent, key = settings.build(make_task(settings.task)), jax.random.key(0)
    params, obs = jax.eval_shape(agent.policy, jax.eval_shape(agent.init, key)), np.zeros((1, 3), np.float32)

    def act(params, obs):
        return agent.act(params, agent.begin(params, obs, key), obs, key, explore=True)[0]

    assert jax.eval_shape(act, params, obs).shape == (1, 1)


@pytest.mark.long
def test_a_guide_needs_a_plan_at_every_step():
    with pytest.raises(UserError, match=r"planner.replan_every must be 1 with a guide, not 2"):
        resolve("mbmpc/cheetah-hw4", [GUIDE, {"planner": {"replan_every": 2}}])


@pytest.mark.long
@pytest.mark.parametrize("guided", [True, *by_hand(False)])
def test_a_run_with_and_without_a_guide(guided, tmp_path):
    overrides = [SMALL, {"guide": GUIDE["guide"] if guided else None}]
    known = {"env": LINE, "reward": reward, "terminated": "none"}
    run = foretell.train("mbmpc/cheetah-hw4", **known, out=tmp_path / "run", overrides=overrides, quiet=True)
    assert [row["kind"] for row in run.episodes] == ["random"] * 2 + ["train"] * 4
    again = foretell.load(run.directory, reward=reward, quiet=True).evaluate(1)
    assert again == run.evaluate(1)


@pytest.mark.long
def test_task_settings_that_do_not_exist():
    with pytest.raises(UserError, match="path"):
        make_task(TaskSettings(env="mbmf-swimmer", options={"path": "up"}))


@pytest.mark.slow
def test_random_episodes_begin_as_the_task_wants_them_to(tmp_path):
    """The hopper's do not end where it falls, which random actions soon make it do; also if they are resumed."""

    def run(out):
        changes = [SMALL, {"task": {"horizon": 40}}]
        return foretell.train("mbmpc/cheetah-hw4", env="mbmf-hopper", out=out, overrides=changes, quiet=True)

    whole = run(tmp_path / "whole")
    assert [row["length"] for row in whole.episodes[:2]] == [40, 40]
    with interrupted_at("step", 25):
        run(tmp_path / "run")
    resumed = foretell.resume(tmp_path / "run", quiet=True)
    assert [row["return"] for row in resumed.episodes] == [row["return"] for row in whole.episodes]
