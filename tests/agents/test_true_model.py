"""The oracle: plans on the simulator itself, in whichever environment it is shown."""

import csv
from functools import partial

import jax
import numpy as np
import pytest

import foretell
from foretell.agents import AGENTS, Oracle, OracleSettings, watching
from foretell.errors import UserError
from foretell.runs.presets import resolve
from foretell.tasks import TaskSettings, make_task
from foretell.training.controller import Policy
from tiny import interrupted_at, quick_jit

QUICK = {
    "planner": {"horizon": 4, "population": 6, "iterations": 1, "elites": 3, "kept_elites": 2},
    "train": {"trials": 2, "capacity": 2000},
}


def oracle(env="cartpole", **planner):
    settings = resolve("pets/cartpole+oracle", [{"task": {"env": env}}, QUICK, {"planner": planner}])
    return settings.build(make_task(settings.task))


def test_any_preset_can_be_planned_with_the_simulator():
    """What belongs to the model is left out, and no data are collected beforehand."""
    settings = resolve("pets/halfcheetah+oracle")
    assert isinstance(settings, OracleSettings) and AGENTS["oracle"] is OracleSettings
    assert settings.planner == resolve("pets/halfcheetah").planner
    assert settings.train.random_episodes == settings.train.random_steps == 0
    assert isinstance(settings.build(make_task(TaskSettings(env="cartpole"))), Oracle)


def test_threads_are_a_setting():
    assert resolve("pets/cartpole+oracle", [{"simulation": {"threads": 3}}]).simulation.threads == 3


def test_actions_are_first_actions_of_plans_on_the_simulators_returns():
    agent, key = oracle(), jax.random.key(3)
    env = make_task(TaskSettings()).make()
    obs = np.float32(env.reset(seed=0)[0])[None]
    start = agent.simulators.snapshot(env)

    def objective(_, actions):
        values = jax.ShapeDtypeStruct(actions.shape[:1], np.float32)
        return jax.pure_callback(lambda a: agent.simulators.returns(start, np.asarray(a)), values, actions)

    memory = agent.planner.start(agent.bounds)
    plan = jax.jit(lambda k: agent.planner.plan(k, objective, memory, agent.bounds))(jax.random.split(key, 1)[0])
    with watching(agent, env):
        actions, after = jax.jit(partial(agent.act, explore=True))(quick_jit(agent.init)(key), agent.start(1), obs, key)
    agent.check()
    np.testing.assert_allclose(actions[0], plan.actions[0], rtol=1e-5)
    np.testing.assert_allclose(after.memory.mean[0], plan.memory.mean, rtol=1e-4, atol=1e-5)


def test_it_swings_the_pole_up_at_once(tmp_path):
    """In its first trial it holds the pole up at the end; its mean reward there is then near 1."""
    overrides = {"planner": {"population": 20}, "train": {"trials": 1}}
    run = foretell.train("pets/cartpole+oracle", out=tmp_path / "run", overrides=overrides, quiet=True)
    data = np.load(run.directory / "data" / "episode_0000.npz")
    assert [row["kind"] for row in run.episodes] == ["train"]
    assert run.returns[0] > 150
    assert data["rewards"][-50:].mean() > 0.9


@pytest.mark.parametrize("kind", ["random", "mppi"])
def test_other_planners_can_ask_it(kind, tmp_path):
    """With plans of which several steps are executed. Hanging still is worth about 0.02 a step."""
    planner = {"horizon": 20, "population": 100, "iterations": 1, "replan_every": 5}
    overrides = {"planner": planner, "train": {"trials": 1}}
    run = foretell.train(f"pets/cartpole+{kind}+oracle", out=tmp_path / "run", overrides=overrides, quiet=True)
    assert run.returns[0] > 40


def results(run):
    with (run / "episodes.csv").open() as file:
        episodes = [tuple(v for k, v in row.items() if k != "wall_seconds") for row in csv.DictReader(file)]
    return episodes + [(path.name, path.read_bytes()) for path in sorted((run / "data").iterdir())]


@pytest.mark.parametrize(("env", "step"), [("cartpole", 77), ("Pendulum-v1", 230)])
def test_one_seed_is_one_result_even_after_an_interruption(env, step, tmp_path):
    train = partial(foretell.train, "pets/cartpole+oracle", seed=3, env=env, overrides=QUICK, quiet=True)
    whole, out = train(out=tmp_path / "whole"), tmp_path / "run"
    with interrupted_at("step", step):
        train(out=out)
    foretell.resume(out, quiet=True)
    assert results(out) == results(whole.directory)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out, overrides = tmp_path_factory.mktemp("oracle") / "run", [QUICK, {"train": {"trials": 1}}]
    return foretell.train("pets/cartpole+oracle", out=out, env="Pendulum-v1", overrides=overrides, quiet=True)


def test_a_run_is_loaded_and_evaluated_on_other_episodes(run):
    loaded = foretell.load(run.directory, quiet=True)
    first, again, other = (loaded.evaluate(1, seed=seed)[0] for seed in (5, 5, 6))
    assert first == again != other
    assert first.length == 200


def test_acting_where_it_sees_no_environment_is_told(run):
    """At first, and after an evaluation too, whose environment is gone."""
    for _ in range(2):
        with pytest.raises(UserError, match=r"^the oracle plans with the simulator, so it acts only where it sees one"):
            run.act(np.zeros(3))
        run.evaluate(1)


def test_several_environments_at_a_time_are_refused(run):
    with pytest.raises(UserError, match="the oracle acts in one environment at a time, not for 2 observations"):
        foretell.load(run.directory, quiet=True).act(np.zeros((2, 3)))


def test_what_fails_while_planning_is_told():
    task = make_task(TaskSettings(env="environments:tiny/Crashes-v0"))
    agent = oracle("environments:tiny/Crashes-v0")
    policy = Policy(agent, quick_jit(agent.init)(jax.random.key(0)), task.spec)
    with task.make() as env, pytest.raises(UserError, match=r"failed in step\(\): RuntimeError: the gripper is jammed"):
        policy.play(env, episode=0)
    agent.check()  # told once


def test_who_learns_needs_data():
    nothing = {"train": {"random_episodes": 0, "random_steps": 0}}
    with pytest.raises(UserError, match=r"^train.random_episodes must be at least 1: 'pets' has to learn before it"):
        resolve("pets/cartpole", [nothing])
    some = resolve("pets/cartpole", [nothing, {"train": {"random_steps": 20}}])
    assert (some.train.random_episodes, some.train.random_steps) == (0, 20)
