"""Ctrl-C while the command imports libraries: the process ends with one line instead of a traceback."""

import os
import signal
import sys
import threading
from itertools import pairwise
from types import FrameType


def is_the_command() -> bool:
    """Whether this process is `foretell` or `python -m foretell`, not a program that imports Foretell."""
    module = ("-m", "foretell") in pairwise(sys.orig_argv)
    return module or os.path.basename(sys.argv[0] if sys.argv else "") in ("foretell", "foretell.exe")


def end_quietly() -> None:
    """Until `started` is called, end the process on Ctrl-C without a traceback."""
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def started() -> None:
    """From now on Ctrl-C raises `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"foretell: interrupted\n")
    os._exit(130)
