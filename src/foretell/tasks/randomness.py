"""Python's and NumPy's global generators, which some environments draw from: to each environment its own.

They are part of an environment's state. If several environments are stepped in turn, each continues with the numbers
that it would have drawn alone.
"""

import random
from threading import RLock
from typing import Any, ClassVar

import numpy as np


class GlobalRandom:
    """The global generators as one environment sees them."""

    _lock: ClassVar[RLock] = RLock()
    _owner: ClassVar["GlobalRandom | None"] = None
    _outside: ClassVar[tuple[Any, Any] | None] = None
    """The generators of the program outside of all environments."""

    def __init__(self) -> None:
        self._numpy: Any = np.random.MT19937()
        self._python: Any = None

    def take(self, seed: int | None = None) -> None:
        """Let the environment draw from here on: where it stopped, or from a seed."""
        cls = GlobalRandom
        with cls._lock:
            if cls._owner is not self:
                cls._leave()
                np.random.set_bit_generator(self._numpy)  # type: ignore[attr-defined]
                if self._python is not None:
                    random.setstate(self._python)
                cls._owner = self
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)

    def release(self) -> None:
        """Give the generators back to the program."""
        cls = GlobalRandom
        with cls._lock:
            if cls._owner is self and cls._outside is not None:
                cls._leave()
                numpys, pythons = cls._outside
                np.random.set_bit_generator(numpys)  # type: ignore[attr-defined]
                random.setstate(pythons)

    @classmethod
    def _leave(cls) -> None:
        """Keep what the last owner will need when it continues."""
        if cls._owner is None:
            cls._outside = np.random.get_bit_generator(), random.getstate()  # type: ignore[attr-defined]
        else:
            cls._owner._python = random.getstate()
        cls._owner = None


IMAGINED = GlobalRandom()
"""Those of all environments in imagined states."""
