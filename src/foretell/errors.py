"""The exception that a user's mistake raises, and helpers for its text."""

import sysconfig
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from traceback import extract_tb

_FEW = 16
_LONGEST = 1200
"""Characters of a message."""
_OURS, _STANDARD = str(Path(__file__).parent), sysconfig.get_path("stdlib")


class UserError(ValueError):
    """A mistake that the user can correct; its text is one sentence. The command line prints it and exits with 2."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(str(text)))


def one_line(text: str) -> str:
    """A message without line breaks and other characters that cannot be printed; of a long one beginning and end."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 400]} ... {line[-400:]}"


def nearest(value: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` when a choice is close to `value`, else the list of choices, or nothing if it is long."""
    choices = sorted(choices)
    close = get_close_matches(value, choices, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; choose one of: {', '.join(choices)}" if 0 < len(choices) <= _FEW else ""


def brief(error: BaseException) -> str:
    """Type and message of another library's exception, on one line of limited length."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a user's class may fail here too
        text = ""
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def located(error: BaseException) -> str:
    """As `brief`, with the place of the failure: `"ValueError: no joint, at my_robot.py, line 12"`.

    The place is the innermost line of the user's own code, else that of a package. Foretell's own failures have none.
    """
    lines = extract_tb(error.__traceback__)
    theirs = len(lines) - next((i for i, line in enumerate(lines[::-1]) if line.filename.startswith(_OURS)), len(lines))
    called = [line for line in lines[theirs:] if not line.filename.startswith("<")]
    own = [line for line in called if not ("site-packages" in line.filename or line.filename.startswith(_STANDARD))]
    return brief(error) + "".join(f", at {line.filename}, line {line.lineno}" for line in (own or called)[-1:])
