"""Standard output and error that may fail: if a line cannot be printed, the run continues."""

import io
import os
import sys
from contextlib import suppress
from typing import Any, Literal, cast


class Output(io.TextIOBase):
    """The current standard output or error. Text that cannot be written is dropped, which is reported once."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name
        self._failed: Any = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        stream = self._stream
        if stream is None or stream is self._failed:
            return len(text)
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
        except (OSError, ValueError) as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        stream = self._stream
        if stream is None or stream is self._failed:
            return
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def isatty(self) -> bool:
        with suppress(OSError, ValueError, AttributeError):
            return self._stream.isatty()
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def _stream(self) -> Any:
        stream = None if sys is None else getattr(sys, self._name)  # modules are None once Python ends
        # What Rich puts in place of standard output beside a bar prints to a console, which prints here.
        return getattr(stream, "rich_proxied_file", stream) if self._name == "stdout" else stream

    def _give_up(self, error: Exception) -> None:
        """Report the reason, and discard the buffer, which could not be flushed at the end of the process."""
        self._failed = self._stream
        reason = getattr(error, "strerror", None) or error
        if self._name == "stdout" and not isinstance(error, BrokenPipeError):
            STDERR.write(f"foretell: cannot write to standard output ({reason}); continuing without it\n")
            STDERR.flush()
        silence(self._stream)


STDOUT, STDERR = Output("stdout"), Output("stderr")


def say(text: str) -> None:
    """Print a line for the user."""
    STDOUT.write(f"{text}\n")
    STDOUT.flush()


def silence(stream: Any) -> None:
    """Discard all further output of one of this process's own streams."""
    if stream is sys.__stdout__ or stream is sys.__stderr__:
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), cast(Any, stream).fileno())
