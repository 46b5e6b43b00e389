"""From a task's settings to the task: what is known, what is learned, and where functions come from."""

import sys

import gymnasium
import jax.numpy as jnp
import pytest

import environments
from foretell.errors import UserError
from foretell.tasks import TASKS, TaskSettings, make_task
from foretell.tasks.gym import GymTask
from foretell.tasks.registry import load_function

LINE = "tiny/Line-v0"


def task(**settings):
    return make_task(TaskSettings(**settings))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_registered_task_is_found_by_its_short_name(name):
    assert type(task(env=name)) is TASKS[name]


def test_a_gymnasium_id_makes_a_task_of_it():
    made = task(env="environments:tiny/Line-v0", horizon=3)
    assert isinstance(made, GymTask) and made.spec.horizon == 3


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


def test_the_horizon_of_a_registered_task_is_fixed():
    with pytest.raises(UserError, match=r"task.horizon is fixed at 200 for 'cartpole'; remove task.horizon"):
        task(env="cartpole", horizon=100)
