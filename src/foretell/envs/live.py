"""Which environments are being acted in, for a world model that needs more of them than their observations.

The shell announces them: `with serving(envs): action = np.asarray(act(...))`. The other way round, a compiled program
cannot raise what fails in a callback: the callback reports it, and the end of the block raises it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import gymnasium

from foretell.errors import UserError

# Of the whole process: callbacks run in threads of XLA's.
_stack: list[tuple[gymnasium.Env, ...]] = []
_reported: list[UserError] = []


@contextmanager
def serving(envs: Sequence[gymnasium.Env]) -> Iterator[None]:
    """Announce the environments that are acted in within the block, one for each row of observations.

    Compiled programs run in the background: wait for what they return within the block.

    Args:
        envs: environments that stand still while their next actions are chosen.

    Raises:
        UserError: at the end of the block, the first failure reported since its beginning.
    """
    if not _stack:
        _reported.clear()  # of calls whose failures nobody asked for
    _stack.append(tuple(envs))
    try:
        yield
    except BaseException:
        _reported.clear()
        raise
    finally:
        _stack.pop()
    raise_reported()


def served() -> Sequence[gymnasium.Env]:
    """The environments of the innermost block; none outside of any."""
    return _stack[-1] if _stack else ()


def report(error: UserError) -> None:
    """Note a failure within a compiled program, to be raised once it has ended."""
    _reported.append(error)


def raise_reported() -> None:
    """Raise the first failure reported since the last call, if any; for programs run outside of a block.

    Raises:
        UserError: that failure.
    """
    reported = _reported[:1]
    _reported.clear()
    for error in reported:
        raise error
