"""A preset that goes on from another: its stages are trained first, each in a run directory of its own."""

import shutil
from importlib import resources

import pytest
import yaml

import foretell
from foretell.errors import UserError
from foretell.runs import parts, presets
from tiny import LINE, interrupted_at, snapshot

PLANNER = {
    "description": "a planner",
    "base": "mbmpc/default",
    "task": {"env": LINE},
    "model": {"hidden": [8], "weight_decay": [0.0, 0.0]},
    "fit": {"epochs": 1},
    "reward_model": {"hidden": [8]},
    "reward_fit": {"epochs": 1, "min_steps": 0},
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


@pytest.fixture(scope="module", autouse=True)
def small_presets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "presets"
    shutil.copytree(str(resources.files("foretell") / "presets"), folder)
    (folder / "small").mkdir()
    for name, tree in (("planner", PLANNER), ("imitator", IMITATOR), ("tuner", TUNER)):
        (folder / "small" / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "PRESETS", folder)
        for module in (presets, parts):
            patch.setattr(module, "PARTS", folder / "parts")
        yield


def train(folder, preset="small/tuner", **options):
    return foretell.train(preset, out=folder / "run", **{"seed": 3, "quiet": True, **options})


@pytest.fixture(scope="module")
def whole(small_presets, tmp_path_factory):
    """The folder of a run with all its stages."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def returns_of(path):
    return [row["return"] for row in foretell.load(path, quiet=True).episodes]


@pytest.mark.long
def test_all_stages_are_trained_in_order(whole):
    found = [foretell.load(whole / name, quiet=True) for name in STAGES]
    assert tuple(stage.settings.agent for stage in found) == ("mbmpc", "imitation", "trpo")
    assert {stage.seed for stage in found} == {3}
    earlier = [stage.settings.train.pretrained for stage in found]
    assert earlier == [None, str(whole / STAGES[0]), str(whole / STAGES[1])]


@pytest.mark.long
def test_finished_stages_are_taken_as_they_are(whole, tmp_path, capsys):
    for name in STAGES[:2]:
        shutil.copytree(whole / name, tmp_path / name)
    before = snapshot(tmp_path)
    train(tmp_path, quiet=False)
    out = capsys.readouterr().out
    assert out.index("stage 'small/planner' in") < out.index("stage 'small/imitator' in")
    after = snapshot(tmp_path)
    assert {path: after[path] for path in before} == before
    assert returns_of(tmp_path / "run") == returns_of(whole / "run")


@pytest.mark.slow
def test_stages_that_were_interrupted_go_on(whole, tmp_path):
    with interrupted_at("step", 8):  # in the planner's last trials
        train(tmp_path)
    assert not (tmp_path / "run" / "config.yaml").exists()
    train(tmp_path)
    for name in STAGES:
        assert returns_of(whole / name) == returns_of(tmp_path / name)


def test_a_run_that_is_there_is_not_overwritten_nor_stages_trained_for_it(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(UserError, match="already holds a run"):
        train(tmp_path)
    assert not (tmp_path / STAGES[0]).exists()


@pytest.mark.long
def test_what_a_policy_gradient_cannot_go_on_from(trained, tmp_path):
    with pytest.raises(UserError, match="has other settings in 'agent'"):
        train(tmp_path, overrides={"train": {"pretrained": str(trained)}})
    with pytest.raises(UserError, match="no run directory 'small/plannner'"):
        train(tmp_path, overrides={"train": {"pretrained": "small/plannner"}})
    assert not any(tmp_path.iterdir())
