"""`foretell study --run N`: one run of a study in this process, as a task of a job array executes it."""

import csv
import shlex

import pytest
from filelock import FileLock
from stubs import plan, write_run

from foretell import UserError
from foretell.cli import main, parser
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.study import run_of_study
from tiny import LINE, TINY_SET

WORDS = ["study", "pets/default", "pets/default+ds", "--env", LINE, "--seeds", "2", *TINY_SET]
"""Its `--set` is the last option, so that a test may add settings."""


@pytest.fixture
def asked():
    return plan()


@pytest.fixture
def directory(tmp_path):
    return StudyDirectory(tmp_path / "study")


def one(asked, directory, number, code=0):
    """Execute a run whose command is noted and whose files are written; the exit code, and the commands."""
    commands = []

    def train(words):
        commands.append(shlex.join(words))
        write_run(directory.members(asked)[number])
        return code

    return run_of_study(asked, directory.path, number, train), commands


def finished(directory):
    with directory.finished.open(newline="") as file:
        return [row[:2] for row in csv.reader(file)][1:]


def test_runs_are_counted_seed_by_seed(asked, directory):
    code, commands = one(asked, directory, 1)
    assert code == 0 and len(commands) == 1
    assert commands[0].startswith(f"train pets/default+ds --seed 0 --out {directory.path / 'pets-default+ds' / '0'} ")
    assert one(asked, directory, 2)[1][0].startswith("train pets/default --seed 1 ")
    assert finished(directory) == [["pets/default+ds", "0"], ["pets/default", "1"]]


def test_a_finished_run_is_not_executed_again(asked, directory):
    one(asked, directory, 3)
    assert one(asked, directory, 3) == (0, []) and len(finished(directory)) == 1


def test_a_run_that_was_stopped_is_resumed(asked, directory):
    assert one(asked, directory, 0, code=130)[0] == 130
    assert not directory.finished.exists()
    path = directory.members(asked)[0].path
    assert one(asked, directory, 0) == (0, [f"resume {path}"]) and len(finished(directory)) == 1


def test_other_runs_may_be_executed_meanwhile(asked, directory):
    """The study is locked only while its own files are written."""

    def train(words):
        write_run(directory.members(asked)[0])
        assert one(asked, directory, 1)[0] == 0
        return 0

    assert run_of_study(asked, directory.path, 0, train) == 0
    assert sorted(finished(directory)) == [["pets/default", "0"], ["pets/default+ds", "0"]]


def test_a_study_that_another_process_keeps_locked_is_refused(asked, directory, monkeypatch):
    monkeypatch.setattr("foretell.experiments.study._LOCK_SECONDS", 0.0)
    directory.path.mkdir()
    with (
        FileLock(directory.path / ".lock", is_singleton=False),
        pytest.raises(UserError, match=r"^another process is running the study in "),
    ):
        one(asked, directory, 0)


@pytest.mark.parametrize("number", ["-1", "4"])
def test_a_number_that_no_run_has_is_refused_before_anything_is_written(number, tmp_path, refused):
    out = tmp_path / "study"
    words = [*WORDS, "--out", out, "--run", number]
    assert refused(*words) == f"run must be a whole number from 0 to 3, not {number}"
    assert not out.exists()


def test_a_number_must_be_whole(tmp_path, refused):
    assert "--run" in refused(*WORDS, "--out", tmp_path / "study", "--run", "one")


@pytest.mark.parametrize("option", [["--jobs", "2"], ["--ray"], ["--store", "s3://bucket"], ["--vectorise"]])
def test_what_executes_many_runs_is_refused(option, tmp_path, refused):
    words = [*WORDS, "--out", tmp_path / "study", *option, "--run", "0"]
    assert refused(*words) == f"--run executes a single run in this process, so leave out {option[0]}"
    assert not (tmp_path / "study").exists()


def test_the_directory_of_another_study_is_refused(asked, directory, refused):
    one(asked, directory, 0)
    words = [*WORDS, "train.trials=3", "--out", directory.path, "--run", "0"]
    assert "holds another study" in refused(*words)


@pytest.mark.long
def test_the_same_command_without_a_number_summarises(asked, directory, capsys, monkeypatch):
    monkeypatch.setattr("foretell.experiments.summary.draw_panels", lambda *_: None)
    for number in range(4):
        one(asked, directory, number)
    assert main([*WORDS, "--out", str(directory.path)]) == 0
    assert "4 of 4 runs are finished" in directory.page.read_text()


def test_it_says_what_it_executes_in_this_process(tmp_path, capsys, monkeypatch):
    called = []
    help, _, options = parser._COMMANDS["train"]
    train = lambda args: called.append((args.preset, args.seed, args.quiet)) or 0  # noqa: E731
    monkeypatch.setitem(parser._COMMANDS, "train", (help, train, options))
    assert main([*WORDS, "--quiet", "--out", str(tmp_path / "study"), "--run", "1"]) == 0
    assert capsys.readouterr().out.startswith("foretell train pets/default+ds --seed 0 --out ")
    assert called == [("pets/default+ds", 0, True)]
