"""Failures in processes of Ray: those that a restart repairs, and those that the user has to repair."""

from collections.abc import Sequence
from typing import Any

from foretell.errors import UserError, brief

MOST = 20
"""Maximum number of restarts in a row without any result between them."""


class OutOfStep(Exception):
    """A learner received a call with another number than the next one: it has missed a call."""


def lost(error: Exception) -> bool:
    """Whether a process, or an object that it made, is lost, so that a restart can repair it."""
    import ray.exceptions as known

    gone = (known.RayActorError, known.ObjectLostError, known.WorkerCrashedError, known.RaySystemError, OutOfStep)
    if isinstance(error, known.RayTaskError) and error.cause is not None and error.cause is not error:
        return lost(error.cause)
    return isinstance(error, (*gone, known.OutOfMemoryError, known.ReferenceCountingAssertionError))


def mistake(error: Exception) -> Exception:
    """What to raise for an exception in a process of Ray that a restart cannot repair."""
    import ray.exceptions as known

    cause = error.cause if isinstance(error, known.RayTaskError) and error.cause is not None else error
    return cause if isinstance(cause, UserError) else UserError(f"a process of the run failed ({brief(cause)})")


def given_up(names: Sequence[str], error: Any) -> UserError:
    """What to raise if processes have died `MOST` times in a row."""
    return UserError(
        f"{' and '.join(names)} died {MOST} times in a row ({brief(error)}); if memory is short, lower --actors or "
        "train.capacity"
    )
