"""A preset that goes on from another: its stages are trained first, each in a run directory of its own."""

import shutil
from importlib import resources

import pytest
import yaml

import foretell
from foretell.errors import UserError
from foretell.training import config
from tiny import LINE, interrupted_at

PLANNER = {
    "description": "a planner",
    "base": "mbmpc/default",
    "task": {"env": LINE},
    "model": {"hidden": [8], "weight_decay": [0.0, 0.0]},
    "fit": {"epochs": 1},
    "planner": {"population": 4, "horizon": 2},
    "train": {"trials": 2, "random_episodes": 2, "capacity": 50},
}
IMITATOR = {
    "description": "its imitator",
    "base": "small/planner",
    "agent": "imitation",
    "imitation": {"demonstrations": 1},
    "policy": {"hidden": [8]},
    "policy_fit": {"epochs": 1, "batch_size": 8},
    "train": {"pretrained": "small/planner", "trials": 4, "random_episodes": 0},
}
TUNER = {
    "description": "what goes on from that",
    "base": "trpo/default",
    "task": {"env": LINE},
    "policy": {"hidden": [8]},
    "train": {
        "pretrained": "small/imitator",
        "steps": 40,
        "steps_per_learning": 20,
        "environments": 2,
        "capacity": 50,
        "eval_episodes": 0,
    },
}
STAGES = ("run-small-planner", "run-small-imitator", "run")


@pytest.fixture(autouse=True)
def small_presets(tmp_path, monkeypatch):
    folder = tmp_path / "presets"
    shutil.copytree(str(resources.files("foretell") / "presets"), folder)
    (folder / "small").mkdir()
    for name, tree in (("planner", PLANNER), ("imitator", IMITATOR), ("tuner", TUNER)):
        (folder / "small" / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(config, "PRESETS", folder)
    monkeypatch.setattr(config, "PARTS", folder / "parts")


def train(tmp_path, preset="small/tuner", **options):
    return foretell.train(preset, out=tmp_path / "run", **{"quiet": True, **options})


def returns_of(path):
    return [row["return"] for row in foretell.load(path, quiet=True).episodes]


def test_all_stages_are_trained_in_order(tmp_path, capsys):
    run = train(tmp_path, seed=3, quiet=False)
    told = capsys.readouterr().out
    assert told.index("stage 'small/planner' in") < told.index("stage 'small/imitator' in")
    agents = ("mbmpc", "imitation", "trpo")
    found = [foretell.load(tmp_path / name, quiet=True) for name in STAGES]
    assert tuple(stage.settings.agent for stage in found) == agents
    assert {stage.seed for stage in found} == {3}
    assert run.settings.train.pretrained == str(tmp_path / STAGES[1])


def test_finished_stages_are_taken_as_they_are(tmp_path):
    train(tmp_path, "small/imitator")
    (tmp_path / "run").rename(tmp_path / "run-small-imitator")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run-small-imitator").rglob("*.csv")}
    train(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run-small-imitator").rglob("*.csv")}


def test_stages_that_were_interrupted_go_on(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    train(whole)
    with interrupted_at("step", 8):  # in the planner's last trials
        train(broken)
    assert not (broken / "run" / "config.yaml").exists()
    train(broken)
    for name in STAGES:
        assert returns_of(whole / name) == returns_of(broken / name)


def test_a_run_that_is_there_is_not_overwritten_nor_stages_trained_for_it(tmp_path):
    train(tmp_path, "small/planner")
    with pytest.raises(UserError, match="already holds a run"):
        train(tmp_path)
    assert not (tmp_path / STAGES[0]).exists()


def test_what_a_policy_gradient_cannot_go_on_from(tmp_path):
    with pytest.raises(UserError, match="has other settings in 'agent'"):
        train(tmp_path, overrides={"train": {"pretrained": "small/planner"}})
    with pytest.raises(UserError, match="no run directory 'small/plannner'"):
        train(tmp_path, overrides={"train": {"pretrained": "small/plannner"}})
