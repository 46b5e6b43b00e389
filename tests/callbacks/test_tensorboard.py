"""TensorBoard events are written, and closed at the end; if they cannot be, that is said and the run goes on."""

import errno
from pathlib import Path

import pytest
from played import Played
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from foretell.callbacks import TensorBoard
from foretell.callbacks.tensorboard import Scalars


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
    return [(value.tag, value.simple_value, one.step) for one in events(folder) for value in one.summary.value]


def test_returns_lengths_and_metrics_are_written_over_steps(tmp_path):
    run = Played(tmp_path / "run", lambda: [TensorBoard()])
    run.episode("random", 1.5)
    run.learn(train_loss=0.5)
    run.end()
    found = numbers(tmp_path / "run" / "tensorboard")
    assert found[:2] == [("random/return", 1.5, 5), ("random/length", 5, 5)] and ("learn/train_loss", 0.5, 5) in found
    run.resume(run.counters)
    run.end()
    starts = [one.step for one in events(tmp_path / "run" / "tensorboard") if one.HasField("session_log")]
    assert starts == [6], "what comes after the checkpoint is written again"


def refuse(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("what", ["__init__", "write_event", "flush", "close"])
def test_a_disk_that_refuses_is_said_once_and_does_not_end_a_run(what, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("foretell.callbacks.tensorboard._FLUSH_SECONDS", -1.0)
    monkeypatch.setattr(EventsWriter, what, refuse)
    scalars = Scalars(tmp_path / "events", 0)
    for step in range(50):
        scalars.add("x", 1.0, step)
    scalars.close()
    said = capsys.readouterr().err
    assert said.count("cannot write TensorBoard's events") == 1 and "(No space left on device); training goes" in said


@pytest.mark.long
def test_a_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "events").write_text("mine")
    Scalars(tmp_path / "events", 3).add("x", 1.0, 2)
    assert "training goes on without them" in capsys.readouterr().err


@pytest.mark.long
def test_a_folder_whose_name_begins_like_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scalars = Scalars(Path("s3:/x"), 0)
    scalars.add("x", 1.0, 2)
    scalars.close()
    assert numbers(tmp_path / "s3:" / "x") == [("x", 1.0, 2)]


@pytest.mark.long
def test_a_run_has_files_that_tensorboard_reads(trained):
    assert {tag for tag, _, _ in numbers(trained / "tensorboard")} >= {"train/return", "learn/train_loss"}
