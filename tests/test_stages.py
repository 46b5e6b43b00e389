"""A preset that goes on from another: its stages are trained first, each in a run directory of its own."""

import shutil
from importlib import resources

import pytest
import yaml

import foretell
from foretell.errors import UserError
from foretell.runs import parts, presets
from foretell.runs.directory import RunDirectory
from foretell.training.interrupt import Interrupted
from foretell.training.pretraining import stages_of, to_replace
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
@pytest.mark.parametrize("steps", [8, 40])  # in the planner's last trials, and after it
def test_stages_that_were_interrupted_go_on(steps, whole, tmp_path):
    with interrupted_at("step", steps):
        train(tmp_path)
    foretell.resume(tmp_path / "run", quiet=True)
    for name in STAGES:
        assert returns_of(whole / name) == returns_of(tmp_path / name)


def stage_of(folder, name, seed=3, **changes):
    """The directory of a stage as if it had been trained."""
    directory = RunDirectory.create(folder / f"run-small-{name}", overwrite=False)
    earlier = {"train": {"pretrained": str(folder / STAGES[0])}} if name == "imitator" else {}
    directory.write_config(presets.resolve(f"small/{name}", [earlier, changes]), f"small/{name}", seed)
    return directory


CHANGES = [
    ({"seed": 0}, "has seed=0, not 3"),
    ({"planner": {"population": 5}}, "has planner.population=5, not 4"),
    ({"task": {"env": "environments:tiny/Ends-v0"}}, f"has task.env=environments:tiny/Ends-v0, not {LINE}"),
]


@pytest.mark.parametrize(("changes", "sentence"), CHANGES, ids=lambda value: str(value)[:20])
def test_a_stage_of_another_seed_or_settings_is_not_gone_on_from(changes, sentence, tmp_path):
    stage_of(tmp_path, "planner", **changes)
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=f"the stage 'small/planner' in '.*' {sentence}; replace it with --overwrite"):
        train(tmp_path)
    assert {path: content for path, content in snapshot(tmp_path).items()} == before


def test_what_is_replaced_with_overwrite(tmp_path):
    settings = presets.resolve("small/tuner")
    stages = stages_of(settings, {}, tmp_path / "run")
    assert to_replace(stages, 3, overwrite=True) == []
    planner, imitator = stage_of(tmp_path, "planner"), stage_of(tmp_path, "imitator")
    assert to_replace(stages, 3, overwrite=False) == []
    assert to_replace(stages, 1, overwrite=True) == stages  # also what was trained after the one that is replaced
    imitator.write_config(stages[1].settings, "small/imitator", 0)
    assert to_replace(stages, 3, overwrite=True) == stages[1:]
    (planner.config).unlink()
    with pytest.raises(UserError, match="is not a run directory"):
        to_replace(stages, 3, overwrite=True)


@pytest.mark.long
def test_a_run_that_was_stopped_in_an_early_stage_is_resumed_with_the_settings_it_was_asked_for(tmp_path):
    options = {"preset": "small/imitator", "env": "environments:tiny/Ragged-v0"}
    with interrupted_at("step", 8):
        try:
            train(tmp_path, **options)
        except Interrupted as stop:
            assert f"of the stage 'small/planner'; continue with `foretell resume {tmp_path}/run`" in str(stop)
            raise
    foretell.resume(tmp_path / "run", quiet=True)
    runs = [foretell.load(tmp_path / name, quiet=True) for name in (STAGES[0], "run")]
    assert {run.settings.task.env for run in runs} == {options["env"]}
    assert runs[1].settings.train.pretrained == str(tmp_path / STAGES[0]) and len(runs[1].returns) == 4


@pytest.mark.long
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
