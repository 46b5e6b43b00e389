import os
import signal
import threading

import pytest

from foretell.training.interrupt import interrupt_calls


@pytest.mark.long
def test_ctrl_c_and_a_polite_end_are_requests_and_the_old_handlers_come_back():
    before, calls = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)], []
    with interrupt_calls(lambda: calls.append(1)):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert len(calls) == 2
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


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
