import os
import signal
import threading

import pytest

from foretell.training import interrupt
from foretell.training.interrupt import interrupt_calls


@pytest.mark.long
def test_ctrl_c_and_a_polite_end_are_requests_and_the_old_handlers_come_back():
    before, calls = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)], []
    with interrupt_calls(lambda: calls.append(1)):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert len(calls) == 2
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_two_polite_requests_at_once_are_one(monkeypatch):
    """A job scheduler sends SIGTERM to a script and to its processes, and the script passes it on."""
    calls, now = [], [100.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    with interrupt_calls(lambda: calls.append(now[0])):
        for now[0] in (100.0, 100.2, 102.0):
            signal.raise_signal(signal.SIGTERM)
    assert calls == [100.0, 102.0]


@pytest.mark.long
def test_another_thread_leaves_the_handlers_alone():
    inside = []

    def work():
        with interrupt_calls(lambda: None):
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [signal.getsignal(signal.SIGINT)]
