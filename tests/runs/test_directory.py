"""The run directory: nothing lost, nothing half-written, and a sentence when the disk refuses."""

import csv
import errno
from pathlib import Path

import numpy as np
import pytest
import yaml

from foretell.errors import UserError
from foretell.runs.directory import RunDirectory, append_row, truncate_rows, writing
from foretell.runs.presets import resolve


@pytest.fixture
def run(tmp_path):
    made = RunDirectory.create(tmp_path / "run", overwrite=False)
    made.write_config(resolve("pets/cartpole"), "pets/cartpole", 3)
    return made


def row(number, kind="train"):
    return {
        "episode": number,
        "env_steps": 2 * number + 2,
        "kind": kind,
        "return": 0.5,
        "length": 2,
        "wall_seconds": 0.1,
    }


def write(run, count):
    for number in range(count):
        run.write_episode(row(number), np.zeros((3, 1)), np.zeros((2, 1)), np.full(2, 0.25), number=number)
        append_row(run.metrics, {"learn": number, "train_loss": 1.0})


def test_a_config_is_read_as_it_was_written(run):
    assert run.read_config() == (resolve("pets/cartpole"), "pets/cartpole", 3)
    provenance = yaml.safe_load(run.config.read_text())["provenance"]
    assert {"command", "git_commit", "python", "versions"} == provenance.keys()
    assert not list(run.path.glob("*.tmp"))


@pytest.mark.long
def test_a_config_cut_anywhere_is_refused_or_read_whole(run):
    text, whole = run.config.read_text(), run.read_config()
    for end in range(0, len(text), 41):
        run.config.write_text(text[:end])
        try:
            assert run.read_config() == whole
        except UserError as mistake:
            assert str(run.config) in str(mistake) and "\n" not in str(mistake)
    run.config.write_text(text[: text.index("provenance")])
    with pytest.raises(UserError, match="'provenance' is missing"):
        run.read_config()


def test_a_disk_that_is_full_at_the_start_leaves_a_place_for_the_next_attempt(tmp_path, monkeypatch):
    def refuse(path, *_):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    run = RunDirectory.create(tmp_path / "run", overwrite=False)
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"config.yaml': No space left"):
        patch.setattr(Path, "write_text", refuse)
        run.write_config(resolve("pets/cartpole"), "pets/cartpole", 3)
    assert not [*run.path.iterdir()] and RunDirectory.create(run.path, overwrite=False)


def test_a_place_is_taken_if_it_is_new_empty_or_holds_only_a_lock(tmp_path):
    for out in (tmp_path / "a" / "b", tmp_path / "a" / "b"):
        with RunDirectory.create(out, overwrite=False).lock():
            assert out.is_dir()


def test_a_run_is_replaced_only_on_demand_and_only_its_own_files(run):
    write(run, 2)
    (run.path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds a run; continue it with `foretell resume"):
        RunDirectory.create(run.path, overwrite=False)
    RunDirectory.create(run.path, overwrite=True)
    assert len(run.read_episodes()) == 2, "nothing goes before `clear`"
    run.clear()
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "notes.txt"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_no_run_is_not_replaced(overwrite, tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="is not empty and is not a run directory"):
            RunDirectory.create(path, overwrite=overwrite)
    with pytest.raises(UserError, match=r"cannot write '.*file/run': Not a directory"):
        RunDirectory.create(tmp_path / "file" / "run", overwrite=overwrite)


def test_one_process_at_a_time(run):
    with run.lock():
        with pytest.raises(UserError, match="is being trained by another process"), RunDirectory(run.path).lock():
            pytest.fail("two hold the lock")
        assert RunDirectory.open(run.path).read_config()
    with run.lock():
        pass


def test_episodes_are_read_as_they_were_written(run):
    assert run.read_episodes() == []
    write(run, 2)
    assert run.read_episodes() == [row(0), row(1)]
    with np.load(run.data / "episode_0001.npz") as file:
        assert file["observations"].shape == (3, 1) and file["returns"] == 0.5 and file["kind"] == "train"


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_rewinding_keeps_what_the_checkpoint_knows(kept, run):
    write(run, 3)
    (run.data / "episode_0003.tmp.npz").touch()
    run.rewind(kept, kept, lambda number: number < kept)
    assert run.read_episodes() == [row(number) for number in range(kept)]
    assert sorted(path.name for path in run.data.iterdir()) == [f"episode_{number:04d}.npz" for number in range(kept)]
    write_again = row(kept)
    append_row(run.episodes, write_again)
    assert run.read_episodes()[-1] == write_again


def test_rewinding_to_where_it_is_touches_nothing(run):
    write(run, 2)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    run.rewind(2, 2, lambda number: number < 2)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


@pytest.mark.parametrize(
    "rest", ["", "epi", "episode,env", "episode,env_steps,kind,return,length,wall_seconds\r\n0,2,tr"]
)
def test_a_line_that_was_cut_by_a_full_disk_is_written_again(rest, run):
    run.episodes.write_text(rest)
    run.rewind(0, 0, lambda number: False)
    append_row(run.episodes, row(0))
    assert run.read_episodes() == [row(0)]


@pytest.mark.parametrize("rows", [b"0,2,train,x,2,0.1", b"0,2", b"\xff\xff,2,train,0.5,2,0.1"])
def test_damaged_episodes_are_told(rows, run):
    write(run, 1)
    run.episodes.write_bytes(run.episodes.read_bytes() + rows + b"\r\n")
    with pytest.raises(UserError, match=r"episodes.csv' is damaged \("):
        run.read_episodes()


def test_truncating_keeps_bytes_as_they_are(tmp_path):
    path = tmp_path / "rows.csv"
    truncate_rows(path, 3)
    assert not path.exists()
    path.write_bytes(b"h\r\n1\r\n\xff\r\n3")
    truncate_rows(path, 2)
    assert path.read_bytes() == b"h\r\n1\r\n\xff\r\n"


def test_a_table_that_is_there_keeps_its_columns(tmp_path):
    """As the episodes of a run that an earlier version began."""
    path = tmp_path / "episodes.csv"
    path.write_text("episode,return\n0,1.5\n")
    append_row(path, {"episode": 1, "end": "limit", "return": 2.5})
    append_row(path, {"episode": 2})
    assert path.read_text().split() == ["episode,return", "0,1.5", "1,2.5", "2,"]


def test_what_the_disk_refuses_is_told(run, monkeypatch):
    with pytest.raises(UserError, match="cannot write 'x': No space left on device"), writing(Path("x")):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match="cannot write 'x': odd"), writing(Path("x")):
        raise OSError("odd")
    with pytest.raises(UserError, match="No space left"):
        append_row(Path("/dev/full"), row(0))
    before = run.config.read_text()
    monkeypatch.setattr(
        Path, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied"))
    )
    with pytest.raises(UserError, match=r"cannot write '.*config.yaml': Permission denied"):
        run.write_config(resolve("pets/cartpole"), "pets/cartpole", 4)
    assert run.config.read_text() == before


@pytest.mark.parametrize("near", ["rum", "."])
def test_a_run_that_is_not_there_suggests_one_that_is(near, run):
    with pytest.raises(UserError, match=f"did you mean '{run.path}'"):
        RunDirectory.open(run.path.parent / near)


@pytest.mark.long
def test_the_lines_are_csv(run):
    write(run, 1)
    assert next(csv.reader(run.episodes.open())) == ["episode", "env_steps", "kind", "return", "length", "wall_seconds"]
