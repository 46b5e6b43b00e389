"""Opening a run runs no code that its user has not chosen: what others' settings name is refused, one's own is not."""

import json
import os
import pickle
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import foretell
from foretell import registry
from foretell.errors import UserError
from foretell.runs import trust
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve

EVIL = (
    "import pathlib\npathlib.Path(__file__).with_name('ran').write_text('')\ndef f(obs, action, next_obs): return 0\n"
)


@pytest.fixture
def downloaded(run_copy, monkeypatch):
    """A run from elsewhere in the working directory, with modules that leave the file `ran` when they are imported."""
    for place in (run_copy.parent, run_copy):
        (place / "evil.py").write_text(EVIL)
    monkeypatch.chdir(run_copy.parent)
    (run_copy / "code.json").unlink()
    return run_copy


def rename(run, *path, value):
    """Change one setting in a run's config.yaml."""
    tree = yaml.safe_load((run / "config.yaml").read_text())
    section = tree
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    (run / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def ran(folder):
    return [*folder.rglob("ran")] or [name for name in sys.modules if "evil" in name]


NAMED = [
    (("task", "reward"), "evil:f", "evil"),
    (("task", "terminated"), "evil:f", "evil"),
    (("task", "env"), "evil:Foo-v0", "evil"),
    (("task", "env"), "run.evil:Foo-v0", "run.evil"),
    (("task", "env"), "evil:Task", "evil"),
    (("task", "env"), "antigravity:x", "antigravity"),
    (("task", "options"), {"env_id": "evil:Foo-v0"}, "evil"),
    (("planner", "kind"), "evil:Planner", "evil"),
    (("imagination", "propagation"), "evil:f", "evil"),
    (("agent",), "evil:Agent", "evil"),
]


@pytest.mark.parametrize(("path", "value", "module"), NAMED, ids=str)
@pytest.mark.long
def test_code_that_a_downloaded_run_names_is_refused_before_it_is_imported(path, value, module, downloaded, refused):
    rename(downloaded, "task", "env", value="Pendulum-v1")
    rename(downloaded, *path, value=value)
    sentence = refused("eval", downloaded)
    assert f"would run the module '{module}'" in sentence and "--trust" in sentence
    assert not ran(downloaded.parent)


@pytest.mark.parametrize("command", ["film", "inspect", "diagnose", "resume"])
def test_every_command_that_opens_a_run_refuses_it(command, downloaded, refused):
    rename(downloaded, "task", "env", value="evil:Foo-v0")
    assert "would run the module 'evil' (task.env: evil:Foo-v0)" in refused(command, downloaded)
    assert not ran(downloaded.parent)


@pytest.mark.parametrize("kind", [["evil:f"], {"evil": "f"}, {"{'evil'": "f"}, 3])
def test_a_kind_that_is_no_name(kind, downloaded, refused):
    rename(downloaded, "task", "env", value="Pendulum-v1")
    rename(downloaded, "planner", "kind", value=kind)
    assert refused("eval", downloaded)
    assert not ran(downloaded.parent)


def test_settings_that_contain_themselves(downloaded, refused):
    (downloaded / "config.yaml").write_text("preset: p\nseed: 0\nagent: pets\nx: &x [*x]\nprovenance: {}\n")
    assert "cannot read" in refused("eval", downloaded)


@pytest.mark.parametrize("command", [("train",), ("show",), ("random",), ("train", "--dry-run")])
def test_the_config_of_a_downloaded_run_as_a_preset(command, downloaded, refused):
    rename(downloaded, "task", "env", value="Pendulum-v1")
    rename(downloaded, "planner", "kind", value="evil:Planner")
    config = downloaded / "config.yaml"
    assert "would run the module 'evil'" in refused(*command, config)
    text = config.read_text()
    config.write_text(text[: text.index("provenance:")])
    assert "would run the module 'evil'" in refused(*command, config)
    assert not ran(downloaded.parent)


def test_what_is_trusted_is_imported(downloaded, refused):
    rename(downloaded, "task", "reward", value="evil:f")
    rename(downloaded, "task", "env", value="Pendulum-v1")
    assert "evil" not in sys.modules
    refused("eval", downloaded, "--trust")  # the settings no longer fit the checkpoint
    assert (downloaded.parent / "ran").exists()
    del sys.modules["evil"]


def test_a_function_that_is_given_is_not_imported(downloaded):
    rename(downloaded, "task", "reward", value="evil:f")
    rename(downloaded, "task", "env", value="Pendulum-v1")
    with pytest.raises(UserError, match=r"train\.capacity must be"):
        foretell.load(downloaded, reward=lambda obs, action, next_obs: obs[..., 0])
    assert not ran(downloaded.parent)


# One's own runs.


def test_a_copy_of_an_own_run_opens(run_copy, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.move(run_copy, tmp_path / "moved")
    assert RunDirectory.open(tmp_path / "moved").read_config()[1] == "pets/default"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with a module, and a run in it that is signed."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine.py").write_text("import helper\ndef f(obs, action, next_obs): return obs[..., 0]\n")
    (folder / "helper.py").write_text("")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    settings = resolve("pets/default", [{"task": {"env": "Pendulum-v1", "reward": "mine:f"}}])
    __import__("mine")
    RunDirectory.create(folder / "run", overwrite=False).write_config(settings, "pets/default", 0)
    monkeypatch.undo()
    for name in ("mine", "helper"):
        del sys.modules[name]
    return folder


def test_an_own_run_opens_with_its_module_changed_in_place_or_moved_with_it(project, monkeypatch, tmp_path):
    monkeypatch.chdir(project)
    moved = shutil.copytree(project, tmp_path / "moved")
    (project / "mine.py").write_text("# better\n")
    RunDirectory.open(project / "run").read_config(unused=["task.reward"])
    trust.check(project / "run", RunDirectory(project / "run").read_tree()[0])
    monkeypatch.chdir(moved)
    trust.check(moved / "run", RunDirectory(moved / "run").read_tree()[0])


@pytest.mark.parametrize("changed", ["mine.py", "helper.py", "code.json", "config.yaml"])
def test_an_own_run_with_other_code_beside_it_is_refused(changed, project, monkeypatch, tmp_path):
    moved = shutil.copytree(project, tmp_path / "moved")
    monkeypatch.chdir(moved)
    if changed == "code.json":
        code = json.loads((moved / "run" / changed).read_text())
        (moved / "run" / changed).write_text(json.dumps({**code, "names": [*code["names"], "evil:f"]}))
    elif changed == "config.yaml":
        rename(moved / "run", "task", "terminated", value="mine:g")
    else:
        (moved / changed).write_text("# evil\n")
    with pytest.raises(UserError, match=r"would run the module 'mine' .* add --trust"):
        trust.check(moved / "run", RunDirectory(moved / "run").read_tree()[0])


def test_runs_without_code_of_their_own_write_no_key(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    run = RunDirectory.create(tmp_path / "run", overwrite=False)
    run.write_config(resolve("pets/cartpole"), "pets/cartpole", 0)
    assert run.read_config() and not (tmp_path / "config").exists() and not (run.path / "code.json").exists()


def test_the_key_is_the_users_alone(tmp_path, monkeypatch, project):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    tree = RunDirectory(project / "run").read_tree()[0]
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match="not signed with your key"):
        trust.check(project / "run", tree)
    trust.sign(project / "run", tree)
    trust.check(project / "run", tree)
    key = tmp_path / "config" / "foretell" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and trust.unkept() is None


def test_a_home_that_cannot_be_written_does_not_prevent_training(tmp_path, monkeypatch, project):
    (tmp_path / "home").write_text("no folder")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    tree = RunDirectory(project / "run").read_tree()[0]
    monkeypatch.chdir(project)
    trust.sign(project / "run", tree)
    trust.check(project / "run", tree)  # in the same process it is known
    assert "add --trust" in trust.unkept()


# What reads files.


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("name", ["data/episode_0001.npz", "best/episode_0001.eqx", "models/trial_0001.eqx"])
def test_pickles_are_not_loaded(name, run_copy, refused, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = run_copy / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, observations=np.array([Bomb()], object), actions=np.array([Bomb()], object))
        assert "cannot read" in refused("export-mat", run_copy)
    else:
        path.write_bytes(pickle.dumps(Bomb()))
        (run_copy / "best").mkdir(exist_ok=True)
        (run_copy / "best" / "best.csv").write_text("episode,env_steps,return\n1,5,0.0\n")
        option = ["--best"] if "best" in name else ["--trial", "1"]
        assert "cannot read the model" in refused("eval", run_copy, *option)
    assert not (tmp_path / "exploded").exists()


def test_yaml_makes_no_objects(run_copy, refused, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = (run_copy / "config.yaml").read_text()
    bomb = "!!python/object/apply:os.mkdir [exploded]"
    (run_copy / "config.yaml").write_text(text.replace("seed: 0", f"seed: {bomb}"))
    assert "cannot read" in refused("eval", run_copy)
    (tmp_path / "mine.yaml").write_text(f"base: {bomb}\n")
    assert "cannot read" in refused("train", "./mine.yaml")
    assert "not valid YAML" in refused("train", "pets/cartpole", "--set", f"train.trials={bomb}")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.long
def test_a_plug_in_that_lies_in_the_working_directory_is_not_an_installed_one(monkeypatch):
    plugin = Path(__file__).parents[1] / "plugin"
    monkeypatch.setattr(
        registry, "_registered", {section: dict(known) for section, known in registry._registered.items()}
    )
    monkeypatch.setattr(registry, "_plugins_are_loaded", False)
    monkeypatch.chdir(plugin)
    monkeypatch.syspath_prepend(plugin)
    for name in [name for name in sys.modules if name.startswith("foretell_example")]:
        monkeypatch.delitem(sys.modules, name)  # of tests that have installed it
    registry.kinds("planner")
    assert not [name for name in sys.modules if name.startswith("foretell_example")]
