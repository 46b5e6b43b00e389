"""Programs that are compiled in the background: a call that waits for one reports it."""

import threading
import time

import jax.numpy as jnp
import pytest

from foretell import compilation
from foretell.compilation import BackgroundProgram, Waiting


@pytest.fixture
def reported(monkeypatch):
    found: list[Waiting] = []
    monkeypatch.setattr(compilation, "waiting_listeners", [found.append])
    monkeypatch.setattr(compilation, "_TICK", 0.01)
    monkeypatch.setattr(compilation, "_begun", {})
    return found


def slow(go):
    def function(x):
        assert go.wait(30)  # while it is traced
        return x + 1

    return function


def test_a_call_that_waits_names_all_that_is_compiled_and_the_seconds(reported):
    go = threading.Event()
    programs = [BackgroundProgram(slow(go), name=name) for name in ("learn", "act", "act")]
    for program in programs:
        program.compile(jnp.zeros(2))
    compilation.waiting_listeners.append(lambda waiting: go.set() if len(reported) > 3 else None)
    assert programs[0](jnp.zeros(2)).tolist() == [1, 1]
    assert reported[0].names == ("learn", "act") and reported[-1] == Waiting((), 0.0)
    seconds = [waiting.seconds for waiting in reported[:-1]]
    assert seconds == sorted(seconds) and 0 < seconds[0] < seconds[-1] < 30
    count = len(reported)
    programs[0](jnp.zeros(2))  # it is compiled
    assert len(reported) == count


def test_a_program_that_cannot_be_compiled_is_waited_for_no_longer(reported):
    program = BackgroundProgram(lambda x: x.no_such_thing, name="learn")
    program.compile(jnp.zeros(2))
    for _ in range(2):
        with pytest.raises(AttributeError, match="no_such_thing"):
            program(jnp.zeros(2))
    end = time.monotonic() + 30
    while compilation._begun and time.monotonic() < end:  # its thread ends after the call
        time.sleep(0.01)
    assert compilation._begun == {}
