"""Work on the first rows of arrays of fixed capacity, in blocks: it costs what the rows cost, not the capacity.

A loop whose number of steps is traced visits the blocks that hold data. Nothing is recompiled as the data grow, and
results do not depend on the capacity.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

BLOCK = 8192
"""Rows of a block; arrays of at most so many rows are one block."""

T = TypeVar("T")
U = TypeVar("U")


def map_rows(function: Callable[[T], U], rows: T, size: Int[Array, ""]) -> U:
    """A function of each of the first `size` rows; beyond their last block zeros.

    Args:
        function: of a block of rows, row by row.
        rows: a pytree of arrays with a leading axis for the rows.
        size: number of valid rows.
    """
    capacity = len(jax.tree.leaves(rows)[0])
    if capacity <= BLOCK:
        return function(rows)
    shapes = jax.eval_shape(lambda: function(_block(rows, 0, BLOCK)))
    out: U = jax.tree.map(lambda shape: jnp.zeros((capacity, *shape.shape[1:]), shape.dtype), shapes)

    def visit(i: Int[Array, ""], out: U) -> U:
        start = jnp.minimum(i * BLOCK, capacity - BLOCK)
        found = function(_block(rows, start, BLOCK))
        return jax.tree.map(lambda a, new: jax.lax.dynamic_update_slice_in_dim(a, new, start, 0), out, found)

    return jax.lax.fori_loop(0, -(-size // BLOCK), visit, out)


def sum_rows(
    function: Callable[[T, Bool[Array, "block"]], U], rows: T, size: Int[Array, ""], *, block: int = BLOCK
) -> U:
    """The sum over blocks of a function of the first `size` rows.

    Args:
        function: of a block of rows and of whether each counts, a sum over those that do.
        rows: a pytree of arrays with a leading axis for the rows.
        size: number of valid rows.
        block: rows of a block.
    """
    capacity = len(jax.tree.leaves(rows)[0])
    if capacity <= block:
        return function(rows, jnp.arange(capacity) < size)

    def part(i: Int[Array, ""]) -> U:
        first = i * block
        start = jnp.minimum(first, capacity - block)
        place = start + jnp.arange(block)
        return function(_block(rows, start, block), (place >= first) & (place < size))

    count = jnp.asarray(-(-size // block), jnp.int32)
    shapes = jax.eval_shape(part, count)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return jax.lax.fori_loop(jnp.int32(0), count, lambda i, now: jax.tree.map(jnp.add, now, part(i)), zeros)


def _block(rows: T, start: Int[Array, ""] | int, count: int) -> T:
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, count), rows)
