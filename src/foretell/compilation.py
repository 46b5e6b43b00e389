"""The persistent compilation cache, and counts of what was compiled."""

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import jax
import platformdirs

from foretell.errors import UserError, brief

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


_ALLOWED: dict[str, tuple[Any, ...]] = {
    "jax_enable_x64": (False,),
    "jax_debug_nans": (False,),
    "jax_debug_infs": (False,),
    "jax_disable_jit": (False,),
    "jax_default_prng_impl": ("threefry2x32",),
    "jax_numpy_dtype_promotion": ("standard",),
    "jax_numpy_rank_promotion": ("allow", "warn"),
    "jax_transfer_guard": (None, "allow", "log"),
}
"""Options of JAX, and their values with which programs compute what they should. Values that are not finite are dealt
with in the programs themselves."""
_forked = False


def prepare_jax(*, on_cpu: bool = False) -> None:
    """Check that JAX works here, and use the compilation cache; with `on_cpu`, leave other devices to other processes.

    Raises `UserError` if there is no device, if an option has a value with which programs compute something else, or in
    a process that was forked after JAX had begun to work, whose threads it lacks.
    """
    check_not_forked()
    for name, allowed in _ALLOWED.items():
        value = getattr(jax.config, name, allowed[0])
        if value not in allowed:
            raise UserError(f"{name}={value} is set, but only {allowed[0]} is supported; unset {name.upper()}")
    if on_cpu:
        jax.config.update("jax_platforms", "cpu")
    try:
        jax.devices()
    except Exception as error:  # of several types
        asked = f" with JAX_PLATFORMS={platforms}" if (platforms := getattr(jax.config, "jax_platforms", "")) else ""
        raise UserError(f"JAX finds no device{asked} ({brief(error)}); unset JAX_PLATFORMS or set it to cpu") from error
    use_compilation_cache()


def compute_inline() -> None:
    """Let the CPU compute on the thread that calls a program, so that no call waits for another thread to wake up.

    JAX decides this when it first uses the CPU; afterwards nothing changes.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def check_not_forked() -> None:
    """Raises `UserError` in a process that was forked after JAX had begun to work: it would wait for ever."""
    if _forked:
        raise UserError(
            "this process was forked after JAX had begun to work, which JAX does not survive; "
            "start processes with multiprocessing.get_context('spawn')"
        )


def _after_fork() -> None:
    global _forked
    with suppress(Exception):  # JAX has no public name for it
        _forked = jax._src.xla_bridge.backends_are_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache directory, unless JAX is configured to use another one."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        directory = Path(platformdirs.user_cache_dir("foretell")) / "xla"
        jax.config.update("jax_compilation_cache_dir", str(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def check_fits(program: Any) -> None:
    """Raises `MemoryError` if an array of a traced program is larger than the memory of this machine.

    XLA ends the process when it meets some of these.
    """
    for equation in getattr(program, "jaxpr", program).eqns:
        for variable in equation.outvars:
            size = math.prod(getattr(variable.aval, "shape", ())) * 4
            if size > _memory():
                raise MemoryError(f"an array of shape {variable.aval.shape} needs {size / 1e9:.3g} GB")
        for inner in jax.tree.leaves(equation.params, is_leaf=_is_program):
            if _is_program(inner):
                check_fits(inner)


def _is_program(value: object) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")


def _memory() -> float:
    """Bytes of physical memory; without limit where that is unknown."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


class Waiting(NamedTuple):
    """A call that waits for the compiler."""

    names: tuple[str, ...]
    """What the programs do that are being compiled; empty once the call goes on."""
    seconds: float
    """Since the first of them was begun."""


waiting_listeners: list[Callable[[Waiting], object]] = []
"""Called in the thread that waits: several times a second, and once when it goes on."""
_begun: dict["BackgroundProgram", float] = {}
"""When the programs were begun that are being compiled."""
_TICK = 0.2


def _notify(waiting: Waiting) -> None:
    for listener in list(waiting_listeners):
        listener(waiting)


@lru_cache(maxsize=8)
def traced_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that JAX traces once, even where it is part of several programs: `learn` takes seconds to trace."""
    return jax.jit(function, inline=True)


class BackgroundProgram:
    """A function compiled in a thread of its own, so that programs compile in parallel and during other work."""

    def __init__(self, function: Callable[..., Any], *, name: str = "a program", donate: tuple[int, ...] = ()) -> None:
        """Prepare to compile.

        Args:
            function: the function.
            name: what it does, for a person.
            donate: positions of arguments that the program may overwrite; they cannot be used after a call.
        """
        self._program = jax.jit(function, donate_argnums=donate, compiler_options=COMPILER_OPTIONS)
        self._name, self._compiled = name, Future[Any]()

    def compile(self, *example: Any) -> None:
        """Begin to compile for arguments of the same shapes and types as these."""
        _begun[self] = time.monotonic()
        Thread(target=self._work, args=example).start()

    def __call__(self, *args: Any) -> Any:
        """Run it; the first call waits for the compiler."""
        if not self._compiled.done():
            self._wait()
        return self._compiled.result()(*args)

    def _wait(self) -> None:
        while not wait([self._compiled], _TICK).done:
            if left := dict(_begun):  # not in the moment between the two
                names = tuple(dict.fromkeys(one._name for one in left))
                _notify(Waiting(names, time.monotonic() - min(left.values())))
        _notify(Waiting((), 0.0))

    def _work(self, *example: Any) -> None:
        try:
            traced = self._program.trace(*example)
            check_fits(traced.jaxpr)
            self._compiled.set_result(traced.lower().compile())
        except BaseException as error:  # raised in the caller
            self._compiled.set_exception(error)
        finally:
            _begun.pop(self, None)
