"""Separate states of Python's and NumPy's global random generators for each environment.

Some environments draw from these generators, so their states are part of the environment's state. If several
environments are stepped in turn, each continues with the numbers that it would have drawn alone.
"""

import ctypes
import random
import sys
import weakref
from threading import RLock
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.random.mtrand import get_bit_generator

_SIZE = 624 * 4 + 4
"""Bytes of the state of NumPy's Mersenne Twister: its words and its position among them."""


class _States(NamedTuple):
    """The states of both generators."""

    python: Any
    numpy: Any
    """Of NumPy the memory of its Mersenne Twister, or all of its state if that is more."""


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
                _NUMPY.seed(seed % 2**32)

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
    return _States(random.getstate(), _NUMPY.state())


def _go_to(states: _States | None) -> None:
    if states is not None:
        random.setstate(states.python)
        _NUMPY.go_to(states.numpy)


class _NumPy:
    """NumPy's global generator. Its own functions take 25 microseconds to return or to set its state.

    Copying the memory of its Mersenne Twister takes less than one. The rest of the state is a normal number that it may
    hold back for the next call. Only the slow function returns that one, so it is called only if numbers were drawn
    since it was known that none is held back.
    """

    _empty: bytes | None = None
    """The memory at a moment when no number was held back; None if there may be one."""

    def state(self) -> Any:
        """The memory of the Mersenne Twister, or all of the state if there is more to it."""
        memory = _memory()
        if memory is not None and memory.raw == self._empty:
            return self._empty
        state = np.random.get_state(legacy=False)
        self._empty = None if memory is None or state["has_gauss"] else memory.raw
        return self._empty or state

    def go_to(self, state: Any) -> None:
        """Set what `state` returned; directly after another call of `state`."""
        memory = _memory()
        if isinstance(state, bytes) and memory is not None and self._empty is not None:
            memory.raw = state
        else:
            np.random.set_state(_whole(state) if isinstance(state, bytes) else state)
        self._empty = state if isinstance(state, bytes) else None

    def seed(self, seed: int) -> None:
        """Begin anew; no number is held back."""
        np.random.seed(seed)
        memory = _memory()
        self._empty = None if memory is None else memory.raw
        if memory is None:  # NumPy forgets the number that it holds back with its own generator alone
            np.random.set_state({**np.random.get_state(legacy=False), "has_gauss": 0})


def _memory() -> Any:
    """The memory of the generator that NumPy's global functions use; None if it is no Mersenne Twister."""
    generator = get_bit_generator()
    if type(generator) is not np.random.MT19937:
        return None
    return (ctypes.c_char * _SIZE).from_address(generator.ctypes.state_address)


def _whole(memory: bytes) -> dict[str, Any]:
    """All of the state of a generator that holds no number back."""
    words = np.frombuffer(memory, np.uint32)
    inner = {"key": words[:-1].copy(), "pos": int(words[-1])}
    return {"bit_generator": "MT19937", "state": inner, "has_gauss": 0, "gauss": 0.0}


_NUMPY = _NumPy()
IMAGINED = GlobalRandom()
"""The states for all environments that are used in imagination."""
