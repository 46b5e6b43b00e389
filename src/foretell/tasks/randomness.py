"""Separate states of Python's and NumPy's global random generators for each environment.

Some environments draw from these generators, so their states are part of the environment's state. If several
environments are stepped in turn, each continues with the numbers that it would have drawn alone.
"""

import random
import sys
import weakref
from threading import RLock
from typing import Any, ClassVar, NamedTuple

import numpy as np


class _States(NamedTuple):
    """The states of both generators."""

    python: Any
    numpy: Any


class GlobalRandom:
    """The states of the global generators for one environment. `release` restores those of the rest of the program."""

    _lock: ClassVar[RLock] = RLock()
    _owner: ClassVar["weakref.ref[GlobalRandom] | None"] = None
    """The environment that draws from them at present; None: the rest of the program."""
    _outside: ClassVar[_States | None] = None
    """The states of the rest of the program while an environment draws."""

    def __init__(self) -> None:
        self._states: _States | None = None

    def take(self, seed: int | None = None) -> None:
        """Let the environment draw from now on: with the states where it stopped, or from a seed."""
        cls = GlobalRandom
        with cls._lock:
            owner = None if cls._owner is None else cls._owner()
            if owner is not self:
                if owner is None:
                    cls._outside = _now()
                else:
                    owner._states = _now()
                _go_to(self._states)
                cls._owner = weakref.ref(self)
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)

    def release(self) -> None:
        """Restore the states of the rest of the program."""
        cls = GlobalRandom
        with cls._lock:
            if cls._owner is not None and cls._owner() in (self, None):
                self._states = _now()
                _go_to(cls._outside)
                cls._owner = None

    def __del__(self) -> None:
        if sys is not None and not sys.is_finalizing():  # modules are None once Python ends
            self.release()


def _now() -> _States:
    return _States(random.getstate(), np.random.get_state(legacy=False))


def _go_to(states: _States | None) -> None:
    if states is not None:
        random.setstate(states.python)
        np.random.set_state(states.numpy)


IMAGINED = GlobalRandom()
"""The states for all environments that are used in imagination."""
