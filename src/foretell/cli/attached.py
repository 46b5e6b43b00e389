"""A command that ends with the process that started it: `python -m foretell.cli.attached train ...`.

The parent holds a pipe to the standard input. When the parent ends, however it ends, the pipe is closed and this
process is killed. Its run can be resumed from its newest checkpoint.
"""

import os
import signal
import sys
from threading import Thread

from foretell.cli import main


def end_with_parent() -> None:
    """Kill this process when the standard input is closed."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Thread(target=end_with_parent, daemon=True).start()
    sys.exit(main())
