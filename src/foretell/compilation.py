"""The persistent compilation cache, and counts of what was compiled."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

import jax
import platformdirs

COMPILER_OPTIONS: dict[str, str | bool | int | float] = {"xla_cpu_prefer_vector_width": 512}
"""For the programs that take most of the time. On a processor with AVX-512, XLA by default uses half of each register.
That spares the clock rate, which matrix multiplications lower anyway. On other processors this changes nothing."""
_COMPILED = "/jax/core/compile/backend_compile_duration"


_totals = [0, 0.0]


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event == _COMPILED:
        _totals[0] += 1
        _totals[1] += duration_secs


jax.monitoring.register_event_duration_secs_listener(_listen)


def compiled() -> tuple[int, float]:
    """Programs that this process has compiled or fetched from the cache so far, and the seconds that took."""
    return int(_totals[0]), _totals[1]


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache directory, unless JAX is configured to use another one."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        directory = Path(platformdirs.user_cache_dir("foretell")) / "xla"
        jax.config.update("jax_compilation_cache_dir", str(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


class BackgroundProgram:
    """A function compiled in a thread of its own, so that programs compile in parallel and during other work."""

    def __init__(self, function: Callable[..., Any], *, donate: tuple[int, ...] = ()) -> None:
        """Prepare to compile.

        Args:
            function: the function.
            donate: positions of arguments that the program may overwrite; they cannot be used after a call.
        """
        self._program = jax.jit(function, donate_argnums=donate, compiler_options=COMPILER_OPTIONS)
        self._compiled: Future = Future()

    def compile(self, *example: Any) -> None:
        """Begin to compile for arguments of the same shapes and types as these."""
        Thread(target=self._work, args=example).start()

    def __call__(self, *args: Any) -> Any:
        """Run it; the first call waits for the compiler."""
        return self._compiled.result()(*args)

    def _work(self, *example: Any) -> None:
        try:
            self._compiled.set_result(self._program.lower(*example).compile())
        except BaseException as error:  # raised in the caller
            self._compiled.set_exception(error)
