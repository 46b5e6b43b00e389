"""From a task's settings to the task: what is known, what is learned, and where functions come from."""

import sys

import gymnasium
import jax.numpy as jnp
import pytest

import environments
from foretell import registry
from foretell.errors import UserError
from foretell.tasks import TaskSettings, make_task
from foretell.tasks.choice import load_function
from foretell.tasks.gym import GymTask

LINE = "tiny/Line-v0"
TASKS = registry.kinds("task")


def task(**settings):
    return make_task(TaskSettings(**settings))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_registered_task_is_found_by_its_short_name(name):
    assert type(task(env=name)) is TASKS[name]


def test_a_gymnasium_id_makes_a_task_of_it():
    made = task(env="environments:tiny/Line-v0", horizon=3)
    assert isinstance(made, GymTask) and made.spec.horizon == 3


@pytest.mark.parametrize(
    ("env", "option", "attribute"),
    [
        ("reacher", "original_kinematics", "_original_kinematics"),
        ("pusher", "wrist_tip", "_wrist_tip"),
        ("pusher", "original_object", "_original_object"),
    ],
)
def test_options_are_switches_of_a_registered_tasks_simulator(env, option, attribute):
    for on in (False, True):
        with task(env=env, options={option: on}).make() as made:
            assert getattr(made.unwrapped, attribute) is on


def test_options_may_change_what_the_model_predicts():
    obs = jnp.zeros(17)
    for predicts in (False, True):
        moved = task(env="reacher", options={"predicts_goal": predicts}).advance(obs, obs + 1.0) != 0
        assert moved.sum() == (17 if predicts else 14) and moved[7:10].all() == predicts


@pytest.mark.parametrize(
    ("env", "options", "sentence"),
    [
        ("pusher", {"wrist_tp": True}, "the task 'pusher' has no option 'wrist_tp'; did you mean 'wrist_tip'?"),
        ("cartpole", {"fast": False}, "the task 'cartpole' has no option 'fast'; it has none"),
        ("pusher", {"wrist_tip": 3}, "task.options.wrist_tip of 'pusher' is a switch, true or false, not 3"),
        (
            "cheetah-torso",
            {"progress": "con"},
            "task.options.progress of 'cheetah-torso' must not be 'con'; did you mean 'com'?",
        ),
        (
            "mbmf-ant",
            {"path": "circle"},
            "task.options.path of 'mbmf-ant' must not be 'circle'; choose one of: left, right, straight, u-turn",
        ),
        (
            "mbmf-swimmer",
            {"cost": True},
            "task.options.cost of 'mbmf-swimmer' must not be True; choose one of: paper, released",
        ),
        (
            "mbmf-hopper",
            {"path": "straight"},
            "the task 'mbmf-hopper' has no option 'path'; choose one of: cost, reset",
        ),
        (
            "environments:Tunable",
            {"links": 2.5},
            "task.options.links of 'environments:Tunable' is a whole number, not 2.5",
        ),
        ("environments:Tunable", {"links": True}, "is a whole number, not True"),
        ("environments:Tunable", {"length": "1"}, "is a number, not '1'"),
        ("environments:Tunable", {"count": "x"}, "is a whole number, not 'x'"),
        (LINE, {"fast": False}, "unexpected keyword argument 'fast'"),
        ("Pendulum-v1", {"gravity": 2}, "unexpected keyword argument 'gravity'"),
        ("environments:NeedsArgument", {"robt": True}, "has no option 'robt'; did you mean 'robot'?"),
    ],
)
def test_an_option_that_a_task_does_not_have(env, options, sentence):
    with pytest.raises(UserError) as mistake:
        task(env=env, options=options)
    assert sentence in str(mistake.value)


def test_options_are_arguments_of_a_gymnasium_environment():
    with task(env="Pendulum-v1", options={"g": 2.0}).make() as env:
        assert env.unwrapped.g == 2.0


def test_a_class_makes_a_task_with_its_own_options():
    made = task(env="environments:NeedsArgument", options={"robot": True})
    assert type(made) is environments.NeedsArgument and made.robot is True


def test_options_of_all_types_reach_the_task():
    options = {"links": 3, "length": 2, "count": None, "names": ["a"]}
    made = task(env="environments:Tunable", options=options)
    assert {name: getattr(made, name) for name in options} == options
    assert task(env="environments:Tunable", options={"count": 4}).count == 4
    assert task(env="cheetah-torso", options={"progress": "com"}).progress == "com"
    assert task(env="mbmf-ant", options={"path": None}).path is None


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            "environments:NeedsArgument",
            "the task cannot be made (TypeError: NeedsArgument.__init__() missing 1 required",
        ),
        ("environments:reward", "cannot make the environment 'environments:reward': TypeError: reward() missing 3"),
        ("environments:Lin", "env 'environments:Lin': 'environments' has nothing named 'Lin'; did you mean 'Line'?"),
        ("environments:", "env 'environments:': 'environments' has nothing named ''"),
        ("environments:STEPS", "env 'environments:STEPS' is of type int; it must make environments"),
        ("no.such:Robot", "env 'no.such:Robot': cannot import 'no.such' (ModuleNotFoundError: No module named 'no')"),
    ],
)
def test_a_class_that_makes_no_task(env, sentence):
    with pytest.raises(UserError) as mistake:
        task(env=env)
    assert sentence in str(mistake.value)


@pytest.mark.parametrize(
    ("env", "choice", "known", "learned"),
    [
        ("cartpole", "auto", True, False),
        ("cartpole", "learned", False, True),
        ("cartpole", "environments:reward", True, False),
        (LINE, "auto", False, True),
        (LINE, "learned", False, True),
        (LINE, "environments:reward", True, False),
    ],
)
def test_where_the_reward_comes_from(env, choice, known, learned):
    made = task(env=env, reward=choice)
    assert (made.reward is not None, made.reward is None) == (known, learned)
    if choice == "environments:reward":
        assert made.reward is environments.reward


@pytest.mark.parametrize(
    ("env", "choice", "known", "learned"),
    [
        ("cartpole", "auto", False, False),
        ("cartpole", "learned", False, True),
        ("cartpole", "none", False, False),
        (LINE, "auto", False, True),
        (LINE, "learned", False, True),
        (LINE, "none", False, False),
        (LINE, "environments:never", True, False),
    ],
)
def test_where_the_termination_comes_from(env, choice, known, learned):
    made = task(env=env, terminated=choice)
    assert (made.terminated is not None, made.learns_termination) == (known, learned)


def test_a_function_that_is_given_goes_before_its_name():
    def mine(obs, action, next_obs):
        return jnp.zeros(obs.shape[:-1])

    made = make_task(TaskSettings(env=LINE, reward="somewhere:<locals>.mine"), {"reward": mine, "terminated": None})
    assert made.reward is mine


def test_a_choice_for_one_task_does_not_reach_the_next():
    assert task(env="cartpole", reward="learned").reward is None
    assert task(env="cartpole").reward is not None


def test_the_working_directory_is_searched_for_functions_and_environments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "my_robot.py").write_text(
        "import gymnasium, environments\n"
        "gymnasium.register('MyRobot-v0', entry_point=environments.Line, max_episode_steps=4)\n"
        "def reward(obs, action, next_obs):\n    return next_obs[..., 0]\n"
    )
    made = task(env="my_robot:MyRobot-v0", reward="my_robot:reward")
    assert made.spec.horizon == 4 and made.reward.__module__ == "my_robot"
    del gymnasium.registry["MyRobot-v0"], sys.modules["my_robot"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("raises", "fails on arrays of shape [..., obs], [..., action], [..., obs] (TypeError"),
        ("branches", "must use jax.numpy and no `if`, `float` or NumPy on its arguments"),
        ("uses_numpy", "must use jax.numpy and no `if`, `float` or NumPy on its arguments"),
        ("one_number", "must return one value per row, shape (2, 3) for inputs of shape (2, 3, n), not ()"),
        ("constant", "must return one value per row, shape (2, 3) for inputs of shape (2, 3, n), not ()"),
        ("nothing", "must return one value per row, shape (2, 3) for inputs of shape (2, 3, n), not NoneType"),
        ("too_few", "(TypeError: too_few() takes 1 positional argument but 3 were given)"),
    ],
)
@pytest.mark.parametrize("role", ["reward", "terminated"])
def test_a_function_that_cannot_be_used(role, name, hint):
    with pytest.raises(UserError) as mistake:
        task(env=LINE, **{role: f"environments:{name}"})
    said = str(mistake.value)
    assert said.startswith(f"{role} 'environments:{name}' ") and hint in said and "\n" not in said


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("reward", "reward must be 'auto', 'learned' or 'module:function', not 'reward'"),
        ("environments:", "not 'environments:'"),
        ("no.such:f", "cannot import 'no.such' (ModuleNotFoundError: No module named 'no')"),
        ("environments:rewad", "'environments' has no function 'rewad'; did you mean 'reward'?"),
        ("environments:Line.step", "'environments' has no function 'Line.step'"),
        ("environments:<lambda>", "cannot be imported by name; in Python, give reward= to load or resume too"),
        ("__main__:gone", "cannot be imported by name; in Python, give reward= to load or resume too"),
    ],
)
def test_a_function_that_is_not_there(path, hint):
    with pytest.raises(UserError) as mistake:
        load_function("reward", path)
    assert hint in str(mistake.value) and "__" not in str(mistake.value).replace("__main__", "")


def test_the_horizon_of_a_task_is_fixed_unless_it_says_otherwise():
    own = "environments:Tunable"
    with pytest.raises(UserError, match=rf"task.horizon is fixed at {task(env=own).spec.horizon} for '{own}'; remove"):
        task(env=own, horizon=100)


@pytest.mark.parametrize("env", ["cartpole", "reacher", "pusher", "halfcheetah"])
def test_the_horizon_of_the_tasks_of_pets_is_not(env):
    """As `task_hor` of the released code."""
    assert task(env=env, horizon=500).spec.horizon == 500
    assert task(env=env).spec.horizon == {"cartpole": 200, "halfcheetah": 1000}.get(env, 150)


@pytest.mark.parametrize("env", ["cheetah-torso", "mbmf-swimmer", "mbmf-cheetah", "mbmf-hopper", "mbmf-ant"])
@pytest.mark.long
def test_the_horizon_of_others_is_not(env):
    assert task(env=env, horizon=500).spec.horizon == 500
    assert task(env=env).spec.horizon == TASKS[env].spec.horizon in (333, 1000)
