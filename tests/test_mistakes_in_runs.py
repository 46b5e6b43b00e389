"""A run that is missing, damaged or breaks down: that is one sentence, and nothing that was good is lost."""

import csv
import errno
import shutil
from pathlib import Path

import pytest

import foretell
from foretell.cli import main
from foretell.report import video
from tiny import LINE, TINY_SET, by_hand, snapshot

ENV = "environments:tiny/"


# A run to continue or evaluate.


@pytest.mark.parametrize("command", ["resume", "eval", "export-mat"])
@pytest.mark.long
def test_a_run_that_is_not_there(command, run_copy, refused, tmp_path):
    assert refused(command, tmp_path / "rum") == f"no run directory '{tmp_path}/rum'; did you mean '{run_copy}'?"
    assert refused(command, tmp_path) == (
        f"'{tmp_path}' is not a run directory: it has no config.yaml; did you mean '{run_copy}'?"
    )
    (run_copy / "config.yaml").unlink()
    assert refused(command, run_copy) == f"'{run_copy}' is not a run directory: it has no config.yaml"


def spoil(old: str, new: str):
    return lambda text: text.replace(old, new, 1)


CONFIGS = [
    (lambda _: "", "is damaged: 'preset' is missing"),
    (lambda _: "- a\n- b\n", "is damaged: 'preset' is missing"),
    (lambda _: "\x00\x01", "cannot read '"),
    (lambda _: "a: [", "cannot read '"),
    (lambda text: text[: text.index("planner:")], "is damaged: 'provenance' is missing"),
    (spoil("seed: 0", "sede: 0"), "is damaged: 'seed' is missing"),
    (spoil("seed: 0", "seed: zero"), "is damaged: seed must be a whole number, not 'zero'"),
    (spoil("agent: pets", "agent: pest"), "config.yaml': no agent 'pest'; did you mean 'pets'?"),
    (spoil("planner:", "plannr:"), "config.yaml': "),
    (
        spoil("population: 6", "popluation: 6"),
        "no setting 'planner.popluation' with planner.kind=cem; did you mean 'planner.population'?",
    ),
    (
        spoil("population: 6", "population: six"),
        "config.yaml': planner.population='six': input should be a valid integer",
    ),
    (spoil(LINE, f"{ENV}Lin-v0"), f"{ENV}Lin-v0"),
]


@pytest.mark.parametrize("command", ["resume", "eval"])
@pytest.mark.parametrize(("change", "sentence"), CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.long
def test_a_damaged_config(command, change, sentence, run_copy, refused):
    config = run_copy / "config.yaml"
    config.write_text(change(config.read_text()))
    before = snapshot(run_copy)
    assert sentence in refused(command, run_copy, "--trust")
    assert snapshot(run_copy) == before


@pytest.mark.parametrize("command", ["resume", "eval"])
def test_a_config_that_is_not_text(command, run_copy, refused):
    (run_copy / "config.yaml").write_bytes(b"\xff\xfe\x00")
    assert refused(command, run_copy).startswith(f"cannot read '{run_copy}/config.yaml' (UnicodeDecodeError")


@pytest.mark.long
def test_a_run_without_a_checkpoint_can_be_resumed_but_not_evaluated(run_copy, refused, capsys):
    shutil.rmtree(run_copy / "checkpoints")
    assert refused("eval", run_copy) == f"no checkpoint in {run_copy}/checkpoints yet"
    (run_copy / "checkpoints").mkdir()
    assert refused("eval", run_copy) == f"no checkpoint in {run_copy}/checkpoints yet"
    before = [row["return"] for row in csv.DictReader((run_copy / "episodes.csv").open())]
    assert main(["resume", str(run_copy), "--quiet"]) == 0
    assert [row["return"] for row in csv.DictReader((run_copy / "episodes.csv").open())] == before


@pytest.mark.parametrize("command", ["resume", "eval"])
def test_no_checkpoint_can_be_read(command, run_copy, refused):
    for path in (run_copy / "checkpoints").rglob("*"):
        if path.is_file() and path.parent.name != "checkpoints":
            path.write_bytes(b"")
    before = snapshot(run_copy)
    assert refused(command, run_copy).startswith(f"no readable checkpoint in {run_copy}/checkpoints (")
    assert snapshot(run_copy) == before


@pytest.mark.long
@pytest.mark.parametrize("command", ["resume", "eval"])
def test_a_checkpoint_of_another_shape(command, run_copy, refused):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("  - 8\n", "  - 9\n"))
    before = snapshot(run_copy)
    sentence = refused(command, run_copy)
    name = "agent.dynamics.regressor.params.network.biases.0"
    if command == "resume":
        assert "has model.hidden=[9], but the run was trained with model.hidden=[8]; undo the change" in sentence
    else:
        assert f"in {run_copy}/checkpoints does not fit the run's settings: '{name}'" in sentence
        assert "is float32[2, 1, 8], not float32[2, 1, 9]; undo the change to config.yaml" in sentence
    assert snapshot(run_copy) == before


FORBIDDEN = [
    (
        "planner.population=9",
        "a resumed run keeps its settings: 'planner.population' cannot change, only those of section train",
    ),
    ("train.capacity=90", "a resumed run keeps its settings: 'train.capacity' cannot change"),
    ("train.environments=2", "a resumed run keeps its settings: 'train.environments' cannot change"),
    ("train.lag=1", "a resumed run keeps its settings: 'train.lag' cannot change"),
    ("trials=3", "a resumed run keeps its settings: 'trials' cannot change; did you mean 'train.trials'?"),
    ("train=3", "a resumed run keeps its settings: 'train' cannot change"),
    ("train.trails=3", "no setting 'train.trails'; did you mean 'train.trials'?"),
    ("train.trials=-3", "train.trials=-3: input should be greater than 0"),
    ("train.trials", "--set takes key.path=value, not 'train.trials'"),
]


@pytest.mark.parametrize(("word", "sentence"), FORBIDDEN)
def test_a_resumed_run_keeps_its_settings(word, sentence, run_copy, refused):
    before = snapshot(run_copy)
    assert sentence in refused("resume", run_copy, "--set", word)
    assert snapshot(run_copy) == before


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--episodes", "0"], "episodes must be at least 1, not 0"),
        (["--episodes", "-2"], "episodes must be at least 1, not -2"),
        (["--episodes", "two"], "argument --episodes: invalid int value: 'two'"),
        (["--trial", "1"], "models/trial_0001.eqx'; none were saved (train.save_all_models)"),
        (["--best"], "none was kept (train.keep_best)"),
        (["--best", "--trial", "1"], "choose one: the agent of a trial, or the best"),
        (["--trial", "two"], "argument --trial: invalid int value: 'two'"),
        (["--seed", "-1"], "seed must be a whole number from 0 to 2147483647, not -1"),
        (["--seed", "9" * 20], "seed must be a whole number from 0 to 2147483647, not 999"),
    ],
)
@pytest.mark.long
def test_evaluation(argv, sentence, trained, refused):
    assert sentence in refused("eval", trained, *argv)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--episodes", "7"], "the run has finished no episode 7; the nearest is 2"),
        (["--episodes", "0", "-3"], "the run has finished no episode -3; the nearest is 0"),
        (["--episodes", "two"], "argument --episodes: invalid int value: 'two'"),
    ],
)
def test_episodes_that_cannot_be_filmed(argv, sentence, trained, refused):
    before = snapshot(trained)
    assert sentence in refused("film", trained, *argv)
    assert snapshot(trained) == before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Unrenderable", f"cannot film '{ENV}Unrenderable-v0': it has no render modes, and a video needs 'rgb_array'"),
        ("Blank", f"cannot film '{ENV}Blank-v0' (NotImplementedError: it renders nothing as 'rgb_array')"),
        ("NoScreen", f"cannot film '{ENV}NoScreen-v0' (RuntimeError: no display name"),
    ],
)
@pytest.mark.long
def test_an_environment_that_cannot_be_filmed(name, sentence, run_copy, refused, monkeypatch):
    monkeypatch.setattr(video, "choose_renderer", lambda: None)
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace(LINE, f"{ENV}{name}-v0"))
    before = snapshot(run_copy)
    assert refused("eval", run_copy, "--video", "--trust").startswith(sentence)
    assert snapshot(run_copy) == before


def test_a_film_that_cannot_be_written(run_copy, refused, monkeypatch):
    monkeypatch.setattr(video, "choose_renderer", lambda: None)
    (run_copy / "videos").write_text("mine")
    assert refused("eval", run_copy, "--video") == f"cannot write '{run_copy}/videos/seed-0': Not a directory"


@pytest.mark.long
def test_a_trained_run_that_cannot_be_filmed_is_kept(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "choose_renderer", lambda: None)
    out = tmp_path / "run"
    command = ["train", "pets/default", "--env", f"{ENV}Blank-v0", "--out", out, *TINY_SET, "--video"]
    assert refused(*command).startswith(f"cannot film '{ENV}Blank-v0'")
    assert main(["eval", str(out), "--episodes", "1"]) == 0


def test_a_run_without_episodes_cannot_be_exported(run_copy, refused):
    (run_copy / "episodes.csv").unlink()
    assert refused("export-mat", run_copy) == f"'{run_copy}' has no finished episode to export"
    assert not (run_copy / "logs.mat").exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [("data", "Is a directory"), ("config.yaml/x", "File exists"), ("config.yaml/x/y", "Not a dir")],
)
def test_a_place_that_cannot_be_exported_to(place, reason, run_copy, refused):
    out = run_copy / place
    assert refused("export-mat", run_copy, "--out", out).startswith(f"cannot write '{out}': {reason}")


@pytest.mark.long
def test_an_episode_that_cannot_be_exported(run_copy, refused):
    damaged = run_copy / "data" / "episode_0001.npz"
    damaged.write_bytes(b"")
    assert refused("export-mat", run_copy).startswith(f"cannot read '{damaged}' (")


# What goes wrong in the middle of a run.


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NanObservation", "returned an observation that is not finite in 'obs[0]'"),
        pytest.param("NanReward", "returned the reward nan at step 0", marks=pytest.mark.slow),
    ],
)
def test_an_environment_that_breaks_down_leaves_the_last_checkpoint(name, sentence, refused, tmp_path):
    out = tmp_path / "run"
    command = ["train", "pets/default", "--env", f"{ENV}{name}-v0", "--out", out, *TINY_SET, "task.check=false"]
    assert refused(*command) == f"'{ENV}{name}-v0' {sentence}"
    assert len(foretell.load(out).episodes) == 2
    assert main(["resume", str(out), "--quiet"]) == 0
    assert len(foretell.load(out).episodes) == 3
    assert f"{ENV}{name}-v0" in refused("eval", out, "--episodes", "3") or name == "NanObservation"


@pytest.mark.long
def test_an_environment_that_never_worked(refused, tmp_path):
    out = tmp_path / "run"
    command = ["train", "pets/default", "--env", f"{ENV}Crashes-v0", "--out", out, *TINY_SET]
    failure = f"'{ENV}Crashes-v0' failed in step(): RuntimeError: the gripper is jammed, at "
    assert refused(*command).startswith(failure) and not out.exists()
    assert refused(*command, "task.check=false").startswith(failure)
    assert refused("eval", out) == f"no checkpoint in {out}/checkpoints yet"


@pytest.mark.long
@pytest.mark.parametrize("file", ["episodes.csv", "config.yaml", *by_hand("learning_curve.png")])
def test_a_disk_that_is_full_loses_nothing(file, run_copy, refused, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = (run_copy / "episodes.csv").read_text()
    with monkeypatch.context() as patch:
        if file == "episodes.csv":
            patch.setattr(csv.DictWriter, "writerow", lambda _, row: refuse() if "return" in row else None)
        elif file == "config.yaml":
            patch.setattr(Path, "write_text", refuse)
        else:
            patch.setattr("matplotlib.figure.Figure.savefig", refuse)
        sentence = refused("resume", run_copy, "--quiet", "--set", "train.trials=3")
    assert sentence.startswith("cannot write '") and sentence.endswith(f"{file}': No space left on device")
    assert (run_copy / "episodes.csv").read_text().startswith(before)
    assert main(["resume", str(run_copy), "--quiet", "--set", "train.trials=3"]) == 0
    assert [row["episode"] for row in foretell.load(run_copy).episodes] == [0, 1, 2, 3]


@pytest.mark.long
def test_too_little_memory(refused, tmp_path):
    command = ["train", "pets/default", "--env", LINE, "--out", tmp_path / "run", *TINY_SET]
    sentence = refused(*command, "imagination.particles=2147483646")
    assert sentence.startswith("the settings ask for more memory than there is; lower planner.population")


@pytest.mark.long
def test_episodes_that_were_damaged(run_copy, refused):
    rows, returns = (run_copy / "episodes.csv").read_text(), [row["return"] for row in foretell.load(run_copy).episodes]
    (run_copy / "episodes.csv").write_text(rows.replace("random", "random,,").replace("train", "train,x,y"))
    assert f"'{run_copy}/episodes.csv' is damaged" in refused("export-mat", run_copy)
    assert main(["resume", str(run_copy), "--quiet"]) == 0
    assert [row["return"] for row in foretell.load(run_copy).episodes] == returns
