"""Programs with arrays that no memory holds are refused before they are compiled."""

import jax
import jax.numpy as jnp
import pytest

from foretell.compilation import check_fits

HUGE = 2**31 - 1


def plain(x):
    return jnp.zeros((HUGE, 1000)) + x


def in_a_loop(x):
    return jax.lax.fori_loop(0, 3, lambda _, y: y + jnp.ones((HUGE, 1000)).sum(), x)


def in_a_branch(x):
    return jax.lax.cond(x > 0, lambda: jnp.ones((HUGE, 1000)).sum(), lambda: x)


def in_a_function(x):
    return jax.jit(lambda y: (y * jnp.ones((HUGE, 1000))).sum())(x)


@pytest.mark.parametrize("function", [plain, in_a_loop, in_a_branch, in_a_function])
def test_an_array_that_no_memory_holds(function):
    with pytest.raises(MemoryError, match=r"an array of shape \(2147483647, 1000\) needs 8\.59e\+03 GB"):
        check_fits(jax.jit(function).trace(1.0).jaxpr)


def test_what_fits_is_not_refused():
    check_fits(jax.jit(lambda x: jax.lax.fori_loop(0, HUGE, lambda _, y: y + 1, x)).trace(1.0).jaxpr)
