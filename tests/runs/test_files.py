"""Presets that people own: a file on top of another preset, or the settings of a run."""

from pathlib import Path

import pytest
import yaml

from foretell.errors import UserError
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import (
    default_directory,
    is_file,
    preset_label,
    resolve,
    seed_of,
    split_name,
    title,
)

PENDULUM = [{"task": {"env": "Pendulum-v1"}}]
FILES = {
    "mine.yaml": "base: pets/default+de\nplanner: {population: 50}\nseed: 7\n",
    "sub/yours.yml": "description: ours\nbase: ../mine.yaml+ts1\ntask: {env: Pendulum-v1}\n",
    "sub/plain": "base: pets/cartpole\n",
    "a+b/odd.yaml": "base: pets/cartpole\n",
    "whole.yaml": yaml.safe_dump({**resolve("pets/cartpole").model_dump(mode="json"), "description": "whole"}),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def mistake(name, text=None):
    if text is not None:
        Path(name).write_text(text)
    with pytest.raises(UserError) as error:
        resolve(name)
    return str(error.value)


@pytest.mark.parametrize("name", ["mine.yaml", "./mine.yaml", "sub/../mine.yaml", "{folder}/mine.yaml"])
def test_a_file_is_a_preset_on_top_of_its_base(name, folder):
    settings, base = resolve(name.format(folder=folder)), resolve("pets/default+de")
    assert settings.planner == base.planner.model_copy(update={"population": 50})
    assert settings.model_copy(update={"planner": base.planner, "description": base.description}) == base
    assert settings.description == f"{base.description}, with the changes in '{name.format(folder=folder)}'"


def test_a_file_may_be_based_on_another_relative_to_it():
    settings = resolve("sub/yours.yml")
    assert (settings.planner.population, settings.imagination.propagation) == (50, "TS1")
    assert (settings.model.probabilistic, settings.task.env, settings.description) == (False, "Pendulum-v1", "ours")


def test_parts_may_follow_a_file_whose_path_may_hold_a_plus():
    assert resolve("sub/plain").planner == resolve("pets/cartpole").planner
    assert resolve("sub/plain+random").planner == resolve("pets/cartpole+random").planner
    assert resolve("a+b/odd.yaml+de+ts1").model == resolve("pets/cartpole+de").model
    assert split_name("a+b/odd.yaml+de+ts1") == ("a+b/odd.yaml", ["de", "ts1"])
    assert split_name("nowhere.yaml+de") == ("nowhere.yaml", ["de"])
    assert split_name("pets/cartpole+de") == ("pets/cartpole", ["de"])


def test_a_preset_of_foretell_is_not_a_file(folder):
    (folder / "pets").mkdir()
    (folder / "pets" / "cartpole").write_text("base: pets/default\n")
    assert not is_file("pets/cartpole") and resolve("pets/cartpole").task.env == "cartpole"


def test_a_file_may_be_complete_in_itself():
    assert resolve("whole.yaml") == resolve("pets/cartpole").model_copy(update={"description": "whole"})


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("min.yaml", None, "no preset 'min.yaml'; did you mean 'mine.yaml'?"),
        ("./min.yaml", None, "no preset './min.yaml'; did you mean 'mine.yaml'?"),
        ("sub/yuors.yml+de", None, "no preset 'sub/yuors.yml'; did you mean 'sub/yours.yml'?"),
        ("zzzzzzzzzz.yaml", None, "no preset 'zzzzzzzzzz.yaml'; there is no such file"),
        ("pets/cartpole.yaml", None, "no preset 'pets/cartpole.yaml'; did you mean 'pets/cartpole'?"),
        ("x.yaml", "- 1\n", "'x.yaml' must hold settings as KEY: VALUE, not list"),
        ("x.yaml", "", "'x.yaml' must hold settings as KEY: VALUE, not NoneType"),
        ("x.yaml", "a: [\n", "cannot read 'x.yaml' (ParserError: while parsing a flow node"),
        ("x.yaml", "base: x.yaml\n", "the base of 'x.yaml': the preset 'x.yaml' is its own base"),
        ("x.yaml", "base: 3\n", "'x.yaml': base must be the name of a preset or a file, not 3"),
        (
            "x.yaml",
            "base: pets/cartpol\n",
            "the base of 'x.yaml': no preset 'pets/cartpol'; did you mean 'pets/cartpole'?",
        ),
        (
            "x.yaml",
            "base: pets/cartpole+mmpi\n",
            "the base of 'x.yaml': no part 'mmpi' for a preset; did you mean 'mppi'?",
        ),
        ("x.yaml", "base: pets/cartpole\nplannr: {}\n", "no setting 'plannr'; did you mean 'planner'?"),
        (
            "x.yaml",
            "base: pets/cartpole\nplanner: {horizn: 3}\n",
            "no setting 'planner.horizn' with planner.kind=cem; did you mean 'planner.horizon'?",
        ),
        ("x.yaml", "description: x\nagent: pets\n", "the setting 'task' is missing"),
        (
            "x.yaml",
            "description: x\n",
            "no agent 'None'; choose one of: imitation, mbmpc, pets, policy-optimization, trpo, value-expansion",
        ),
        (
            "x.yaml+cov",
            "base: pets/cartpole\n",
            "the part 'cov' changes 'expansion', which the agent 'pets' does not have",
        ),
        (
            "mine.yaml+pe",
            None,
            "'mine.yaml' already chooses the model, by the part 'de' of its base 'pets/default+de'; change that",
        ),
        ("sub/yours.yml+ts1", None, "'sub/yours.yml' already has the part 'ts1'"),
    ],
)
def test_a_mistake_in_a_file(name, text, sentence):
    if text is not None:
        Path(name.partition("+")[0]).write_text(text)
    assert mistake(name).startswith(sentence)


# The settings of a run.


@pytest.fixture
def config(folder):
    """Where a run of `pets/default+de` with other settings keeps these."""
    run = folder / "runs" / "old" / "3"
    run.mkdir(parents=True)
    settings = resolve("pets/default+de", [*PENDULUM, {"planner": {"population": 70}}])
    RunDirectory(run).write_config(settings, "pets/default+de", 3)
    return "runs/old/3/config.yaml"


def test_a_run_can_be_run_again_from_its_settings(config):
    settings = resolve(config)
    assert settings == resolve("pets/default+de", [*PENDULUM, {"planner": {"population": 70}}])
    assert (seed_of(config), preset_label(config)) == (3, "pets/default+de")
    assert default_directory(config, settings, 3) == Path("runs/pets-default+de/3")
    assert resolve(f"{config}+random").planner.kind == "random"


def test_the_directory_of_a_run_is_not_its_settings(config):
    assert mistake("runs/old/3") == (
        "'runs/old/3' is a run directory, not a preset; did you mean 'runs/old/3/config.yaml'?"
    )


# What a run of a file is called.


@pytest.mark.parametrize(
    ("name", "label", "seed"),
    [
        ("mine.yaml", "mine", 7),
        ("./mine.yaml", "mine", 7),
        ("mine.yaml+ts1", "mine+ts1", 7),
        ("sub/yours.yml", "yours", 0),
        ("gone.yaml+de", "gone+de", 0),
        ("pets/cartpole+de", "pets/cartpole+de", 0),
        ("mine", "mine", 0),
    ],
)
def test_a_file_is_called_by_its_stem_and_names_a_seed(name, label, seed):
    assert (preset_label(name), seed_of(name)) == (label, seed)


def test_a_run_of_a_file_has_a_place_and_a_title():
    mine, yours = resolve("mine.yaml", PENDULUM), resolve("sub/yours.yml")
    assert default_directory("mine.yaml", mine, 7) == Path("runs/mine/Pendulum-v1/7")
    assert default_directory("sub/yours.yml", yours, 0) == Path("runs/yours/0")
    assert title("./mine.yaml", mine, 7) == title("mine", mine, 7) == "mine on Pendulum-v1, seed 7"


@pytest.mark.parametrize("seed", ["x", "1.5", "true", "[1]"])
@pytest.mark.long
def test_a_seed_that_is_none(seed):
    Path("x.yaml").write_text(f"base: pets/cartpole\nseed: {seed}\n")
    with pytest.raises(UserError, match=r"^'x\.yaml': seed must be a whole number, not "):
        seed_of("x.yaml")
