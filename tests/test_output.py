"""Output that fails does not end a run, and is said where that is possible."""

import errno
import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foretell.callbacks import plain_console
from foretell.cli import main
from foretell.output import say
from foretell.training.interrupt import interrupt_calls
from tiny import LINE, TINY_SET


class Broken(io.StringIO):
    """A stream that refuses."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def write(self, text):
        raise self._error


ERRORS = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    ValueError("I/O operation on closed file"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_what_is_printed_for_the_user_is_dropped_and_that_is_said_once(error, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    for _ in range(3):
        say("progress")
        plain_console().print("progress")
    said = capsys.readouterr().err
    assert said.count("cannot write to standard output") == (not isinstance(error, BrokenPipeError))


def test_no_output_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    say("progress")
    plain_console(stderr=True).print("a warning")
    assert main(["presets", "pests"]) == 2


def test_an_output_of_few_characters(monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    say("▁▂█ 1")
    assert content.getvalue() == b"??? 1\n"


@pytest.mark.long
def test_a_result_that_cannot_be_printed_is_a_mistake(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Broken(ERRORS[0]))
    assert main(["presets"]) == 1
    assert capsys.readouterr().err == "foretell: cannot write the output: No space left on device\n"


@pytest.mark.long
def test_the_end_of_a_terminal_is_a_request_unless_it_is_ignored():
    before, calls = signal.getsignal(signal.SIGHUP), []
    try:
        with interrupt_calls(lambda: calls.append(1)):
            os.kill(os.getpid(), signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with interrupt_calls(lambda: calls.append(2)):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert calls == [1]


def command(out, *more):
    """A tiny run in a process of its own."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-m", "foretell", "train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET]
    return {"args": [*words, *more], "env": {**os.environ, "PYTHONPATH": paths}}


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_run_whose_output_is_full(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(**command(tmp_path / "run"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert done.stderr == (
        "foretell: cannot write to standard output (No space left on device); continuing without it\n"
    )
    assert len((tmp_path / "run" / "episodes.csv").read_text().splitlines()) == 4


@pytest.mark.slow
def test_a_disk_on_which_files_cannot_grow_leaves_a_run_that_can_be_resumed(tmp_path):
    """A limit to the size of files stands for a full disk: what is refused is named, and nothing is lost."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))

    options = command(tmp_path / "run", "--quiet")
    options["env"]["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "none")
    done = subprocess.run(**options, stderr=subprocess.PIPE, text=True, preexec_fn=limited)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("foretell: cannot write ") and str(tmp_path) in lines[-1], done.stderr
    assert main(["resume", str(tmp_path / "run"), "--quiet"]) == 0
