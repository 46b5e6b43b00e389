"""Ctrl-C as a request rather than an exception."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from foretell.envs import Episodes

_TOGETHER = 1.0
"""Seconds within which polite requests to end (SIGTERM) are one: a job scheduler may send it to a script and to its
processes, to which the script passes it on."""
_forwarded: ContextVar[list[Callable[[], None]] | None] = ContextVar("forwarded", default=None)


class Interrupted(Exception):
    """The user asked to stop; everything is saved."""

    def __init__(self, place: str, directory: Path) -> None:
        """Stopped at a place, see `place_in`, of the run in this directory."""
        super().__init__(f"stopped and saved at {place}; continue with `foretell resume {directory}`")
        self.place = place


def place_in(episodes: Episodes, begun: int) -> str:
    """Where a run is; `begun` is the number of its next episode."""
    return f"episode {episodes.number[0] if episodes.number[0] >= 0 else begun}, step {episodes.length[0]}"


class Interruption:
    """The user's wish to stop: the first one ends a run where it can be saved, the second one at once."""

    def __init__(self, say: Callable[[], None]) -> None:
        """`say` tells the user that the wish was heard."""
        self.asked, self._say = False, say

    def ask(self) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._say()


@contextmanager
def forwarding(handlers: list[Callable[[], None]]) -> Iterator[None]:
    """Within the block, `interrupt_calls` adds its handlers to this list, and whoever has made the list calls them."""
    token = _forwarded.set(handlers)
    try:
        yield
    finally:
        _forwarded.reset(token)


@contextmanager
def interrupt_calls(handler: Callable[[], None]) -> Iterator[None]:
    """Call `handler` on Ctrl-C, a polite request to end or the end of the terminal, if this thread may decide that."""
    if (handlers := _forwarded.get()) is not None:
        handlers.append(handler)
        try:
            yield
        finally:
            handlers.remove(handler)
        return
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hangup = getattr(signal, "SIGHUP", signal.SIGTERM)  # ignored under nohup
    last = float("-inf")

    def received(number: int, frame: object) -> None:
        nonlocal last
        again = number == signal.SIGTERM and time.monotonic() - last < _TOGETHER
        last = time.monotonic() if number == signal.SIGTERM else last
        if not again:
            handler()

    signals = {signal.SIGINT, signal.SIGTERM, *([hangup] if signal.getsignal(hangup) != signal.SIG_IGN else [])}
    before = [signal.signal(number, received) for number in signals]
    try:
        yield
    finally:
        for number, old in zip(signals, before, strict=True):
            signal.signal(number, old)
