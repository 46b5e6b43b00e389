"""Commands in a terminal, where they show a bar while they work."""

import os
import signal
import subprocess
import sys
from threading import Timer

import pytest

import environments
from foretell.cli import main
from tiny import LINE, TINY_SET, read

pytestmark = pytest.mark.long
BAR, HIDDEN, SHOWN = "\u2501", "\x1b[?25l", "\x1b[?25h"
"""What a bar is drawn with; the cursor is hidden, and shown again."""


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (["train", "pets/default", "--env", LINE, "--out", "new", *TINY_SET], "learning_curve.png"),
        (["train", "pets/default", "--env", LINE, "--out", "new", "--seeds", "2", *TINY_SET], "run         new"),
        (["resume", "run", "--set", "train.trials=3"], "learning_curve.png"),
        (["random", "--env", LINE, "--episodes", "3"], "mean"),
        (["eval", "run", "--episodes", "2"], "mean"),
    ],
    ids=["train", "train --seeds", "resume", "random", "eval"],
)
def test_a_command_works_in_a_terminal(words, last, run_copy, terminal, monkeypatch):
    monkeypatch.chdir(run_copy.parent)
    with terminal() as shown:
        assert main(words) == 0
    text = "".join(shown)
    assert last in text
    assert text.count(HIDDEN) == text.count(SHOWN) == (words[0] != "eval" and "--seeds" not in words)
    assert (BAR in text) == (HIDDEN in text)


def test_what_the_users_code_prints_is_shown_beside_the_bar(terminal, monkeypatch):
    step = environments.Line.step

    def loud(self, action):
        print("the motor hums")
        return step(self, action)

    monkeypatch.setattr(environments.Line, "step", loud)
    with terminal() as shown:
        assert main(["random", "--env", LINE, "--episodes", "1"]) == 0
    assert "the motor hums" in "".join(shown)


def test_an_interrupt_in_a_terminal_saves_and_stops(tmp_path):
    """A process of its own, which must end by itself."""
    ours, theirs = pytest.importorskip("pty").openpty()
    words = ["train", "pets/default", "--env", LINE, "--out", str(tmp_path / "run"), *TINY_SET]
    words += ["--set", "train.trials=100000"]
    env = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-m", "foretell", *words], stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    watch = Timer(120, process.kill)
    watch.start()
    text, asked = "", False
    while found := read(ours):
        text += found
        if not asked and "trial 2/" in text:
            process.send_signal(signal.SIGINT)
            asked = True
    watch.cancel()
    os.close(ours)
    assert process.wait() == 130, text[-500:]
    assert "continue with" in text and text.count(HIDDEN) == text.count(SHOWN) == 1
