"""The command line: parse, call, print."""

import io
import os
import sys
import traceback

from foretell.cli.parser import parse
from foretell.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: its words; by default those of this process.

    Returns:
        The exit code: 0, 2 for a user's mistake, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an output that knows few characters must not end a run
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = parse(argv)
        return args.command(args)
    except UserError as error:
        if wants_traceback(argv):
            traceback.print_exception(error)
        print(f"foretell: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("foretell: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def wants_traceback(argv: list[str]) -> bool:
    """Whether the user asks for the whole traceback of a failure, by an option or by a variable of the environment."""
    return "--traceback" in argv or os.environ.get("FORETELL_TRACEBACK", "") not in ("", "0")
