"""Ctrl-C as a request rather than an exception."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foretell.envs import Episodes


class Interrupted(Exception):
    """The user asked to stop; everything is saved."""

    def __init__(self, episodes: Episodes, begun: int, directory: Path) -> None:
        """Stopped in `episodes`; `begun` is the number of the next one."""
        at = episodes.number[0] if episodes.number[0] >= 0 else begun
        super().__init__(
            f"stopped and saved at episode {at}, step {episodes.length[0]}; continue with `foretell resume {directory}`"
        )


@contextmanager
def interrupt_calls(handler: Callable[[], None]) -> Iterator[None]:
    """Call `handler` on Ctrl-C or a polite request to end, as far as this thread may decide that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: handler()) for number in signals]
    try:
        yield
    finally:
        for number, old in zip(signals, before, strict=True):
            signal.signal(number, old)
