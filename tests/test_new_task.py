"""The task that the documentation walks through is added, checked and trained as it says."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import foretell
from foretell.cli import main
from foretell.tasks import Follows, Task

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "new-task.md"
SMALL = {
    "model": {"hidden": [16], "weight_decay": [0.0, 0.0]},
    "fit": {"min_steps": 20},
    "planner": {"horizon": 5, "population": 10, "iterations": 1, "elites": 4},
    "train": {"trials": 1},
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The page's files, in the working directory."""
    for name, code in re.findall(r"```python\n# (\w+).py\n(.*?)```", PAGE.read_text(), re.S):
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_page_s_task_agrees_with_its_simulator(written):
    task = import_module("my_pendulum").Pendulum()
    env = task.make()
    obs, _ = env.reset(seed=3)
    for action in np.random.default_rng(0).uniform(-2, 2, (30, 1)).astype(np.float32):
        next_obs, reward, *_ = env.step(action)
        assert np.isclose(task.reward(obs, action, next_obs), reward, atol=1e-4)
        assert np.allclose(task.advance(obs, task.target(obs, next_obs)), next_obs, atol=1e-5)
        obs = next_obs


@pytest.mark.long
def test_the_page_s_command_trains_it(written):
    run = foretell.train("pets/default", env="my_pendulum:Pendulum", out="run", overrides=[SMALL], quiet=True)
    assert len(run.returns) == 1
    assert foretell.load("run").act(np.array([1.0, 0.0, 0.0])).shape == (1,)


def test_the_page_s_observed_task_passes_all_checks(written, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parent / "tasks")
    task, checks = import_module("my_balance").Balance(), import_module("conformance")
    steps = checks.transitions(task)
    checks.check_spec(task)
    for check in (checks.check_reward, checks.check_terminated, checks.check_prediction, checks.check_restored):
        check(task, steps)
    assert steps.terminated.any()
    assert main(["random", "--env", "my_balance:Balance", "--episodes", "3"]) == 0
    assert "over 3 episodes" in capsys.readouterr().out


@pytest.mark.long
def test_an_unknown_class_is_refused_with_the_nearest(written):
    with pytest.raises(foretell.UserError, match=r"has nothing named 'Pendulun'; did you mean 'Pendulum'\?"):
        foretell.train("pets/default", env="my_pendulum:Pendulun", out="run", quiet=True)


@pytest.mark.long
def test_all_that_the_page_says_a_task_may_define_is_there(written):
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE.read_text(), re.M)
    names = {name for row in rows for name in re.findall(r"\w+", row)}
    own = {name for name in (*vars(Task), *Task.__annotations__) if not name.startswith("_")}
    assert names <= own | {name for name in vars(Follows) if not name.startswith("_")}
    given = {
        "make",
        "from_unit",
        "to_unit",
        "feature_size",
        "target_size",
        "action_noise",
        "action_repeat",
        "random_noise",
        "reset_options",
        "reward_weights",
        "notes",
        "limits",
        "spaces",
    }
    assert own - names == given | {"learns_termination"}
