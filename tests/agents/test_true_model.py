"""Planning and learning with the true model, the simulator itself, in whichever environment an agent acts."""

import csv
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.agents import PETS
from foretell.envs.live import serving
from foretell.errors import UserError
from foretell.models import TrueModel
from foretell.planning import objective_of
from foretell.runs.presets import resolve
from foretell.tasks import TaskSettings, make_task
from foretell.training.controller import Controller
from tiny import LINE, by_hand, interrupted_at, quick_jit, results

QUICK = {
    "model": {"threads": 2},
    "planner": {"horizon": 4, "population": 6, "iterations": 1, "elites": 3, "kept_elites": 2},
    "train": {"trials": 2, "capacity": 2000},
}


def agent_for(env="cartpole", **planner):
    settings = resolve("pets/cartpole+true-model", [{"task": {"env": env}}, QUICK, {"planner": planner}])
    return settings.build(make_task(settings.task))


def test_any_planner_can_plan_with_the_simulator():
    """No data are collected beforehand, and the rest is as it was."""
    settings = resolve("pets/halfcheetah+true-model")
    assert settings.planner == resolve("pets/halfcheetah").planner
    assert settings.train.random_episodes == settings.train.random_steps == 0 and not settings.needs_data
    agent = settings.build(make_task(TaskSettings(env="cartpole")))
    assert isinstance(agent, PETS) and isinstance(agent.model, TrueModel)


@pytest.mark.long
def test_threads_are_a_setting():
    assert resolve("pets/cartpole+true-model", [{"model": {"threads": 3}}]).model.threads == 3


@pytest.mark.long
@pytest.mark.parametrize("env", ["cartpole", LINE])
def test_actions_are_first_actions_of_plans_on_the_simulators_returns(env):
    """From the state that an observation gives, or else from that of the environment that is acted in."""
    agent, key = agent_for(env, execute="best"), jax.random.key(3)
    with agent.task.make() as env:
        obs = jnp.float32(env.reset(seed=0)[0])[None]
        params = agent.policy(agent.init(key))
        carry = agent.begin(params, obs, key)

        @jax.jit
        def alone(key, warm_start):
            return agent.planner.plan(key, objective_of(agent.model, params, obs[0], 1), warm_start, agent.bounds)

        with serving([env]):
            warm_start = jax.tree.map(lambda a: a[0], carry.warm_start)
            plan = jax.block_until_ready(alone(jax.random.split(key, 1)[0], warm_start))
        with serving([env]):
            act = jax.jit(partial(agent.act, explore=True))
            actions, after, extras = jax.block_until_ready(act(params, carry, obs, key))
        executed = [env.step(action)[1] for action in np.asarray(extras["plan"][0])]
    np.testing.assert_allclose(actions[0], plan.actions[0], rtol=1e-5)
    np.testing.assert_allclose(after.warm_start.mean[0], plan.warm_start.mean, rtol=1e-4, atol=1e-5)
    assert sum(executed) == pytest.approx(float(extras["value"][0]), rel=1e-4)


@pytest.mark.usefixtures("optimized")
@pytest.mark.long
@pytest.mark.parametrize("kind", ["", *by_hand("+random", "+mppi", "+icem")])
def test_any_planner_swings_the_pendulum_up_with_it(kind, tmp_path):
    """With plans of which several steps are executed. A step costs about 10 where the pendulum hangs, 0 upright."""
    planner = {"horizon": 12, "population": 20, "iterations": 2, "replan_every": 2}
    overrides = {"task": {"horizon": 45}, "planner": planner, "train": {"trials": 1}}
    options = {"env": "Pendulum-v1", "overrides": overrides, "quiet": True}
    run = foretell.train(f"pets/cartpole{kind}+true-model", out=tmp_path / "run", **options)
    assert [row["kind"] for row in run.episodes] == ["train"]
    rewards = np.load(run.directory / "data" / "episode_0000.npz")["rewards"]
    assert rewards[-5:].mean() > -0.3


@pytest.mark.slow
def test_it_swings_the_pole_up_at_once(tmp_path):
    """In its first trial it holds the pole up at the end; its mean reward there is then near 1."""
    overrides = {"planner": {"population": 20}, "train": {"trials": 1}}
    run = foretell.train("pets/cartpole+true-model", out=tmp_path / "run", overrides=overrides, quiet=True)
    data = np.load(run.directory / "data" / "episode_0000.npz")
    assert run.returns[0] > 150
    assert data["rewards"][-50:].mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "mppi", "icem"])
def test_other_planners_can_plan_with_it(kind, tmp_path):
    """Hanging still is worth about 0.02 a step."""
    planner = {"horizon": 20, "population": 50, "iterations": 2, "replan_every": 5}
    overrides = {"planner": planner, "train": {"trials": 1}}
    run = foretell.train(f"pets/cartpole+{kind}+true-model", out=tmp_path / "run", overrides=overrides, quiet=True)
    assert run.returns[0] > 40


CASES = {
    "cartpole": ({"env": "environments:ShortCartpole"}, {}, 17),
    "pendulum": ({"env": "Pendulum-v1", "horizon": 12}, {}, 17),
    "line": ({"env": LINE}, {}, 7),
    "two cartpoles": ({"env": "environments:ShortCartpole"}, {"environments": 2}, 7),
}
KEPT = [
    pytest.param(*case, id=name, marks=[] if name == "pendulum" else pytest.mark.slow) for name, case in CASES.items()
]


@pytest.mark.long
@pytest.mark.parametrize(("task", "schedule", "step"), KEPT)
def test_one_seed_is_one_result_even_after_an_interruption(task, schedule, step, tmp_path):
    overrides = [QUICK, {"task": task, "train": schedule}]
    train = partial(foretell.train, "pets/cartpole+true-model", seed=3, overrides=overrides, quiet=True)
    whole, out = train(out=tmp_path / "whole"), tmp_path / "run"
    with interrupted_at("step", step):
        train(out=out)
    foretell.resume(out, quiet=True)
    assert results(out) == results(whole.directory)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """On an environment whose observations do not determine the state."""
    out, overrides = tmp_path_factory.mktemp("true-model") / "run", [QUICK, {"train": {"trials": 1}}]
    return foretell.train("pets/cartpole+true-model", out=out, env=LINE, overrides=overrides, quiet=True)


@pytest.mark.long
def test_a_run_is_loaded_and_evaluated_on_other_episodes(run):
    loaded = foretell.load(run.directory, quiet=True)
    first, again, other = (loaded.evaluate(1, seed=seed)[0] for seed in (5, 5, 6))
    assert first == again != other
    assert first.length == 5


@pytest.mark.long
def test_acting_by_hand_is_refused_where_observations_do_not_tell_the_state(run):
    """At first, and after an evaluation too, whose environment is gone."""
    for _ in range(2):
        with pytest.raises(UserError) as mistake:
            run.act(np.zeros(2))
        assert str(mistake.value) == (
            f"the true model needs the environment's state, which observations of '{LINE}' do not determine: "
            "evaluate the run instead of acting by hand"
        )
        run.evaluate(1)


@pytest.mark.long
def test_acting_by_hand_is_possible_where_observations_tell_the_state():
    """In a loop of the user's own, for one observation or a batch; it finds what an evaluation finds."""
    agent = agent_for()
    spec, state = agent.task.spec, quick_jit(agent.init)(jax.random.key(0))
    obs = np.random.default_rng(0).normal(size=(3, 4))
    batch = Controller(agent, state, spec).act(obs)
    assert batch.shape == (3, 1) and (np.abs(batch) <= 3).all() and len(np.unique(batch)) == 3
    controller = Controller(agent, state, spec)
    with agent.task.make() as env:
        there = env.reset(seed=0)[0]
        by_hand = controller.act(there)
        controller.reset()
        with serving([env]):
            np.testing.assert_array_equal(Controller(agent, state, spec).act(there), by_hand)


@pytest.mark.long
def test_several_environments_at_a_time_are_refused_where_observations_do_not_tell_the_state(tmp_path):
    overrides = [QUICK, {"train": {"environments": 2}}]
    with pytest.raises(UserError, match="the true model acts in one environment at a time, not for 2 observations"):
        foretell.train("pets/cartpole+true-model", out=tmp_path / "run", env=LINE, overrides=overrides, quiet=True)


@pytest.mark.long
def test_what_fails_while_planning_is_one_sentence():
    agent = agent_for("environments:tiny/Crashes-v0")
    controller = Controller(agent, quick_jit(agent.init)(jax.random.key(0)), agent.task.spec)
    with (
        agent.task.make() as env,
        pytest.raises(UserError, match=r"failed in step\(\): RuntimeError: the gripper is jammed"),
    ):
        controller.play(env, episode=0)


@pytest.mark.long
def test_an_agent_that_learns_needs_data():
    nothing = {"train": {"random_episodes": 0, "random_steps": 0}}
    with pytest.raises(UserError, match=r"^train.random_episodes must be at least 1: 'pets' has to learn before it"):
        resolve("pets/cartpole", [nothing])
    some = resolve("pets/cartpole", [nothing, {"train": {"random_steps": 20}}])
    assert (some.train.random_episodes, some.train.random_steps) == (0, 20)


@pytest.mark.slow
def test_steve_learns_with_the_true_model(tmp_path):
    """Its critics need data all the same, but the model no training."""
    small = {
        "model": {"kind": "true-model", "threads": 2},
        "learner": {"hidden": [8], "batch_size": 4},
        "expansion": {"horizon": 2},
        "updates": {"per_step": 0.5},
        "train": {"steps": 60, "steps_per_learning": 10, "random_steps": 20, "eval_episodes": 0, "log_every": 10},
    }
    options = {"env": "environments:ShortCartpole", "overrides": small, "quiet": True}
    run = foretell.train("steve/default", out=tmp_path / "run", **options)
    with (run.directory / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["gradient_steps"]) for row in rows] == [0, 5, 5, 5]
    assert all(float(row["skipped_steps"]) == 0 for row in rows)
    assert all(np.isfinite(float(row["critic_loss"])) and float(row["critic_loss"]) > 0 for row in rows[1:])
