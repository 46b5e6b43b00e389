"""The persistent compilation cache, and counts of what was compiled."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

import jax
import platformdirs

COMPILER_OPTIONS: dict[str, str | bool | int | float] = {"xla_cpu_prefer_vector_width": 512}
"""For programs that time goes into. XLA uses half of the registers of a processor with AVX-512, whose clock its matrix
multiplications, which use all, have lowered already; on other processors this changes nothing."""
_COMPILED = "/jax/core/compile/backend_compile_duration"


_totals = [0, 0.0]


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event == _COMPILED:
        _totals[0] += 1
        _totals[1] += duration_secs


jax.monitoring.register_event_duration_secs_listener(_listen)


def compiled() -> tuple[int, float]:
    """Programs this process has compiled or fetched from the cache so far, and the seconds that took."""
    return int(_totals[0]), _totals[1]


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache directory, unless JAX was told of another place."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        directory = Path(platformdirs.user_cache_dir("foretell")) / "xla"
        jax.config.update("jax_compilation_cache_dir", str(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


class BackgroundProgram:
    """A function compiled in a thread of its own, so that programs compile side by side and beside other work."""

    def __init__(self, function: Callable[..., Any], *, donate: tuple[int, ...] = ()) -> None:
        """The arguments at the positions in `donate` are consumed: their memory is written anew."""
        self._program = jax.jit(function, donate_argnums=donate, compiler_options=COMPILER_OPTIONS)
        self._compiled: Future = Future()

    def compile(self, *example: Any) -> None:
        """Begin to compile for arguments like the example."""
        Thread(target=self._work, args=example).start()

    def __call__(self, *args: Any) -> Any:
        """Run it, waiting for the compiler the first time."""
        return self._compiled.result()(*args)

    def _work(self, *example: Any) -> None:
        try:
            self._compiled.set_result(self._program.lower(*example).compile())
        except BaseException as error:  # handed to the caller, who may be told what is wrong
            self._compiled.set_exception(error)
