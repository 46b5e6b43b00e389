"""The one exception a user's mistake raises, and the sentence that helps them mend it."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake the user can mend; its text is one sentence. The command line prints it and exits with 2."""


def nearest(value: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` when a choice is close to `value`, else the whole (short) list of choices."""
    choices = sorted(choices)
    close = get_close_matches(value, choices, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; choose one of: {', '.join(choices)}" if choices else ""
