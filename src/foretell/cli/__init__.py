"""The command line: parse, call, print."""

import io
import os
import sys
import traceback

from foretell.cli.parser import parse
from foretell.errors import UserError, brief, one_line
from foretell.output import STDERR, silence
from foretell.runs.trust import trusting
from foretell.starting import started


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: its words; by default those of this process.

    Returns:
        The exit code: 0, 1 if the output cannot be written, 2 for a user's mistake, 130 after Ctrl-C.
    """
    started()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an output that knows few characters must not end a run
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = parse(argv)
        with trusting(getattr(args, "trust", False)):
            code = args.command(args)
        if sys.stdout is not None:
            sys.stdout.flush()  # fails here rather than at the end of the process
        return code
    except UserError as error:
        if wants_traceback(argv):
            traceback.print_exception(error)
        return _failed(str(error), 2)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has left
        silence(sys.stdout)
        return 1
    except OSError as error:
        silence(sys.stdout)
        what = "cannot write the output" if error.filename is None else f"'{error.filename}'"
        return _failed(f"{what}: {error.strerror or brief(error)}", 1)


def _failed(text: str, code: int) -> int:
    STDERR.write(f"foretell: {one_line(text)}\n")
    STDERR.flush()
    return code


def wants_traceback(argv: list[str]) -> bool:
    """Whether the user asks for the whole traceback of a failure, by an option or by a variable of the environment."""
    return "--traceback" in argv or os.environ.get("FORETELL_TRACEBACK", "") not in ("", "0")
