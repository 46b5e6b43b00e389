"""A study that is killed in the middle of a run goes on with the same command, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock, Timeout
from stubs import SETS

from foretell.cli import main
from tiny import LINE, results, tiny_run

TRIALS = 12


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_free(lock):
    try:
        FileLock(lock).acquire(timeout=0)
    except Timeout:
        return False
    return True


@pytest.mark.long
def test_a_killed_study_goes_on_and_its_runs_end_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    run = tmp_path / "study" / "pets-default" / "0"
    words = ["study", "pets/default", "--env", LINE, "--seeds", "1", "--quiet", "--out", str(tmp_path / "study")]
    words += ["--set", *SETS, f"train.trials={TRIALS}", "train.capacity=300"]
    study = subprocess.Popen([sys.executable, "-m", "foretell", *words])
    wait_until(lambda: (run / "episodes.csv").is_file() and (run / "episodes.csv").read_text().count("train") > 3)
    study.send_signal(signal.SIGKILL)
    study.wait()
    wait_until(lambda: is_free(run / ".lock"), 10)
    assert (run / "episodes.csv").read_text().count("train") < TRIALS
    assert main(words) == 0
    undisturbed = tmp_path / "undisturbed"
    tiny_run(undisturbed, trials=TRIALS, capacity=300)
    assert results(run) == results(undisturbed)
