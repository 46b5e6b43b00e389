"""Processes of runs: their commands, their cores, and how they end."""

import os
import sys
from threading import Event

import pytest
from stubs import SETS, plan, write_run

from foretell import UserError
from foretell.experiments import process
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.executor import Ended, Started, automatic_jobs, command, divide, run_locally, run_one
from foretell.experiments.study import run_study
from tiny import LINE


def member(folder, number=0):
    return StudyDirectory(folder).members(plan("pets/default+ds"))[number]


def test_a_run_is_trained_once_and_then_resumed(tmp_path):
    one = member(tmp_path, 1)
    out = str(tmp_path / "pets-default+ds" / "1")
    begun = ["train", "pets/default+ds", "--seed", "1", "--out", out, "--env", LINE, "--set", *SETS]
    assert command(one) == begun
    write_run(one)
    assert command(one) == ["resume", out]


def test_cores_are_divided():
    assert divide([0, 1, 2, 3, 4], 2) == [(0, 1), (2, 3)]
    assert divide([3, 5], 2) == [(3,), (5,)]
    assert divide([3, 5], 3) == [(3,), (5,), (3,)]


def test_automatic_jobs_are_bounded_by_cores_memory_and_runs(tmp_path):
    members = StudyDirectory(tmp_path).members(plan(seeds=4))
    assert automatic_jobs(members, 4, None) == 4
    assert automatic_jobs(members, 4, 3.5e9) == 2
    assert automatic_jobs(members, 4, 1e6) == 1
    assert automatic_jobs(members[:3], 64, None) == 3


def test_an_executor_runs_everything_and_one_failure_is_one_event(tmp_path):
    members = StudyDirectory(tmp_path).members(plan())

    def run(one, cores, stop):
        if one is members[1]:
            raise UserError("cannot write 'x'")
        return Ended(one, 0)

    events = list(run_locally(members, Event(), slots=[(0,), (1,)], run=run))
    assert sorted(str(event.member.path) for event in events if isinstance(event, Started)) == sorted(
        str(one.path) for one in members
    )
    ended = {event.member.path: event for event in events if isinstance(event, Ended)}
    assert [(ended[one.path].code, ended[one.path].error) for one in members] == [
        (0, ""),
        (1, "cannot write 'x'"),
        (0, ""),
        (0, ""),
    ]


@pytest.fixture
def python(monkeypatch):
    """Let a run be a short Python program instead of a command of Foretell."""

    popen = process.subprocess.Popen

    def use(code):
        monkeypatch.setattr(process.subprocess, "Popen", lambda _, **more: popen([sys.executable, "-c", code], **more))

    return use


def test_a_run_has_its_cores_and_threads_and_a_log(tmp_path, python):
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    python("import os, time; time.sleep(.2); print(os.environ['NPROC'], list(os.sched_getaffinity(0)))")
    one = member(tmp_path)
    ended = run_one(one, (core,), Event())
    assert ended[:3] == (one, 0, "") and ended.seconds > 0.2
    assert one.log.read_text() == f"1 [{core}]\n"


@pytest.mark.long
def test_the_last_line_of_a_failure_is_its_error(tmp_path, python):
    python("import sys; print('a trial'); sys.exit('foretell: no such thing')")
    assert run_one(member(tmp_path), (0,), Event()).error == "no such thing"
    python("import os; os.kill(os.getpid(), 9)")
    assert run_one(member(tmp_path), (0,), Event()).error == "killed by signal 9, perhaps because memory ran out"
    python("raise SystemExit(3)")
    assert run_one(member(tmp_path, 1), (0,), Event())[1:3] == (3, "exit code 3")


@pytest.mark.long
def test_a_run_is_asked_to_stop(tmp_path, python):
    stop = Event()
    stop.set()
    python("import time; time.sleep(60)")
    assert run_one(member(tmp_path), (0,), stop).is_stopped


@pytest.mark.long
def test_jobs_must_be_positive(tmp_path):
    with pytest.raises(UserError, match=r"^jobs must be auto or at least 1, not 0$"):
        run_study(plan(), tmp_path / "study", jobs=0)
    assert not (tmp_path / "study").exists()
