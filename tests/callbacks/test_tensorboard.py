"""TensorBoard events are written, and closed at the end; if they cannot be, that is said and the run goes on."""

import errno
from pathlib import Path

import pytest
from played import Played
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from foretell.callbacks import LearningCurve, TensorBoard
from foretell.callbacks.tensorboard import EventFile


def events(folder):
    """What the files of a folder hold: a length of 8 bytes, 4 of a checksum, an event, 4 of another one."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            size = int.from_bytes(content[:8], "little")
            found.append(Event.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
    return found


def numbers(folder):
    return [(value.tag, value.simple_value, step) for value, step in values(folder) if value.HasField("simple_value")]


def values(folder):
    return [(value, one.step) for one in events(folder) for value in one.summary.value]


def test_returns_lengths_and_metrics_are_written_over_steps(tmp_path):
    run = Played(tmp_path / "run", lambda: [TensorBoard()])
    run.episode("random", 1.5)
    run.learn(train_loss=0.5, holdout_loss=float("nan"))
    run.end()
    found = numbers(tmp_path / "run" / "tensorboard")
    assert found[:2] == [("returns/random", 1.5, 5), ("lengths/random", 5, 5)]
    assert found[2:] == [("progress/learn", 1, 5), ("losses/train_loss", 0.5, 5)]
    run.resume(run.counters)
    run.end()
    starts = [one.step for one in events(tmp_path / "run" / "tensorboard") if one.HasField("session_log")]
    assert starts == [6], "what comes after the checkpoint is written again"


def test_settings_are_hyperparameters(tmp_path):
    settings = {"model": {"hidden": [8, 8], "members": 2, "elites": None}, "train": {"record": False}}
    run = Played(tmp_path / "run", lambda: [TensorBoard()], notes={"settings": settings})
    run.end()
    ((value, step),) = values(tmp_path / "run" / "tensorboard")
    assert value.tag == "_hparams_/session_start_info" and value.metadata.plugin_data.plugin_name == "hparams"
    found = HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info.hparams
    assert found["preset"].string_value == "toy" and found["seed"].number_value == 3 and step == 0
    assert found["model.hidden"].string_value == "[8, 8]" and found["model.members"].number_value == 2
    assert not found["train.record"].bool_value and "model.elites" not in found


def test_the_learning_curve_is_an_image_at_the_end(tmp_path):
    run = Played(tmp_path / "run", lambda: [LearningCurve(), TensorBoard()])
    run.episode("train", 1.5)
    run.end()
    value, step = values(tmp_path / "run" / "tensorboard")[-1]
    assert value.tag == "figures/learning_curve" and step == 5
    assert value.image.encoded_image_string == (tmp_path / "run" / "figures" / "learning_curve.png").read_bytes()
    assert (value.image.width, value.image.height) == (100, 100)


def refuse(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("what", ["__init__", "write_event", "flush", "close"])
def test_a_disk_that_refuses_is_said_once_and_does_not_end_a_run(what, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("foretell.callbacks.tensorboard._FLUSH_SECONDS", -1.0)
    monkeypatch.setattr(EventsWriter, what, refuse)
    file = EventFile(tmp_path / "events", 0)
    for step in range(50):
        file.add({"x": 1.0}, step)
    file.close()
    said = capsys.readouterr().err
    assert said.count("cannot write TensorBoard's events") == 1 and "(No space left on device); training goes" in said


@pytest.mark.long
def test_a_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "events").write_text("mine")
    EventFile(tmp_path / "events", 3).add({"x": 1.0}, 2)
    assert "training goes on without them" in capsys.readouterr().err


@pytest.mark.long
def test_a_folder_whose_name_begins_like_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = EventFile(Path("s3:/x"), 0)
    file.add({"x": 1.0}, 2)
    file.close()
    assert numbers(tmp_path / "s3:" / "x") == [("x", 1.0, 2)]


@pytest.mark.long
def test_a_run_has_files_that_tensorboard_reads(trained):
    assert {tag for tag, _, _ in numbers(trained / "tensorboard")} >= {"returns/train", "losses/train_loss"}
