"""A package outside of Foretell brings a planner, a world model, an agent and a task.

`tests/plugin` is on the path as an installed package would be, its entry point included.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from foretell import registry
from foretell.cli import main

PLUGIN = Path(__file__).parent / "plugin"
EXAMPLE = PLUGIN / "foretell_example"
SMALL = ("train.trials=1", "train.random_steps=0", "train.capacity=100", "planner.horizon=2", "planner.population=2")
NETWORK = ("model.hidden=[8]", "fit.min_steps=1", "fit.epochs=1", "reward_model.hidden=[8]", "reward_fit.min_steps=1")


@pytest.fixture
def foretell(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder, where the plug-in is on the path and not imported yet; what it printed."""

    def run(*argv, path=PLUGIN, code=0):
        with monkeypatch.context() as patch:
            patch.setattr(registry, "_registered", {section: dict(known) for section, known in brought.items()})
            patch.setattr(registry, "_plugins_are_loaded", False)
            for module in [name for name in sys.modules if name.startswith("foretell_example")]:
                patch.delitem(sys.modules, module)  # registered by another test, in a registry that is forgotten
            patch.setattr(sys, "path", [str(path), *sys.path])
            patch.chdir(tmp_path)
            assert main([str(word) for word in argv]) == code
        for name in [name for name in sys.modules if name.partition(".")[0] in ("foretell_example", "mine")]:
            del sys.modules[name]
        out, error = capsys.readouterr()
        return error if code else out

    brought = {section: dict(registry.kinds(section)) for section in registry._registered}
    return run


def trials(run):
    return [line for line in (run / "episodes.csv").read_text().splitlines() if ",train," in line]


def settings(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def train_and_resume(foretell, run, planner, env, **where):
    settings = ("--set", f"planner.kind={planner}", "planner.iterations=2", "task.horizon=5", *SMALL, *NETWORK)
    foretell("train", "pets/default", "--env", env, "--out", run, *settings, **where)
    before = trials(run)
    foretell("resume", run, "--set", "train.trials=2", **where)
    after = trials(run)
    return len(before) == 1 and len(after) == 2 and after[:1] == before


@pytest.mark.long
def test_its_planner_and_its_task_are_trained_with_and_resumed(foretell, tmp_path):
    assert train_and_resume(foretell, tmp_path / "run", "gradient", "point-mass")
    assert settings(tmp_path / "run")["planner"]["step_size"] == 0.1


@pytest.mark.long
def test_its_agent_is_trained_from_the_path_of_its_preset(foretell, tmp_path):
    foretell("train", EXAMPLE / "point_mass.yaml", "--set", "train.trials=16")
    run = tmp_path / "runs" / "point_mass" / "0"
    assert settings(run)["agent"] == "random-search" and len(trials(run)) == 16
    assert "over 1 episodes" in foretell("eval", run, "--episodes", "1")


@pytest.mark.long
def test_its_world_model_serves_agents_that_plan_and_agents_with_values(foretell, tmp_path):
    model = ("--env", "point-mass", "--set", "model.kind=ridge", "model.cosines=10", "train.capacity=100")
    foretell("train", "pets/default", "--out", "pets", *model, *SMALL, "planner.elites=1", "planner.kept_elites=0")
    updates = ("train.steps=60", "train.random_steps=40", "updates.pretraining=1", "updates.per_step=0.1")
    foretell("train", "steve/default", "--out", "steve", *model, *updates, "learner.hidden=[8]", "learner.batch_size=8")
    assert [settings(tmp_path / run)["model"]["cosines"] for run in ("pets", "steve")] == [10, 10]


@pytest.mark.long
def test_a_class_in_the_working_directory_needs_no_entry_point(foretell, tmp_path):
    shutil.copy(EXAMPLE / "gradient.py", tmp_path / "mine.py")
    assert train_and_resume(foretell, tmp_path / "run", "mine:GradientShooting", "Pendulum-v1", path=tmp_path)


@pytest.mark.long
def test_what_it_brings_is_listed_by_the_installed_command():
    """In a process of its own."""
    paths = os.pathsep.join(filter(None, [str(PLUGIN), os.environ.get("PYTHONPATH")]))
    command = [Path(sys.executable).parent / "foretell", "show", "planner"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths})
    assert "gradient" in done.stdout and "Step size of Adam" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    ("argv", "nearest"),
    [
        (["pets/default", "--set", "planner.kind=gradiant"], "no planner.kind 'gradiant'; did you mean 'gradient'?"),
        (["pets/default", "--env", "point-mas"], "no task 'point-mas'; did you mean 'point-mass'?"),
    ],
)
def test_an_unknown_kind_is_refused_with_the_nearest(foretell, argv, nearest):
    assert foretell("train", *argv, code=2) == f"foretell: {nearest}\n"


@pytest.mark.long
def test_one_that_cannot_be_imported_is_reported_in_one_sentence(foretell, tmp_path):
    shutil.copytree(PLUGIN, tmp_path / "site")
    (tmp_path / "site" / "foretell_example" / "__init__.py").write_text("import nothing_of_that_name\n")
    error = foretell("show", "planner", path=tmp_path / "site", code=2)
    reason = "ModuleNotFoundError: No module named 'nothing_of_that_name'"
    assert error == f"foretell: the plug-in 'example' cannot be imported ({reason})\n"
    assert "agent: pets" in foretell("show", "pets/cartpole", path=tmp_path / "site")  # what does not need it works
