"""What goes wrong in processes of Ray: what a new process mends, and what the user has to."""

from collections.abc import Sequence
from typing import Any

from foretell.errors import UserError, brief

MOST = 20
"""Times in a row that a process is started again without any result between them."""


class OutOfStep(Exception):
    """A learner was asked for something that does not follow what it has done: it has missed a call."""


def lost(error: Exception) -> bool:
    """Whether a process, or what it has made, is gone, so that it has to be made again."""
    import ray.exceptions as known

    gone = (known.RayActorError, known.ObjectLostError, known.WorkerCrashedError, known.RaySystemError, OutOfStep)
    if isinstance(error, known.RayTaskError) and error.cause is not None and error.cause is not error:
        return lost(error.cause)
    return isinstance(error, (*gone, known.OutOfMemoryError, known.ReferenceCountingAssertionError))


def mistake(error: Exception) -> Exception:
    """What to raise for an exception in a process of Ray that a new process does not mend."""
    import ray.exceptions as known

    cause = error.cause if isinstance(error, known.RayTaskError) and error.cause is not None else error
    return cause if isinstance(cause, UserError) else UserError(f"a process of the run failed ({brief(cause)})")


def given_up(names: Sequence[str], error: Any) -> UserError:
    """What to raise if processes die again and again."""
    return UserError(
        f"{' and '.join(names)} died {MOST} times in a row ({brief(error)}); if memory is short, lower --actors or "
        "train.capacity"
    )
