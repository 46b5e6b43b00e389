"""Functions compiled for tests."""

import jax

from tiny import quick_jit


def on_host(function, *static):
    """Compiled without optimising; the results are NumPy's, of which JAX compiles nothing further."""
    run = quick_jit(function, *static)
    return lambda *args: jax.device_get(run(*args))
