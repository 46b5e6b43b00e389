"""Early stopping: training that ends when the error on rows kept out of it no longer falls."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Progress = TypeVar("Progress")
"""What training carries from epoch to epoch: a pytree of arrays."""


class Watched(NamedTuple):
    """Training so far."""

    epochs: Int[Array, ""]
    now: Any
    """What training carries on."""
    best: Any
    """The same, when the error was lowest; nothing if that is not kept."""
    error: Float[Array, ""]
    """After the last epoch."""
    lowest: Float[Array, ""]
    """After any epoch so far."""
    stale: Int[Array, ""]
    """Epochs since then."""


def until_stale(
    epoch: Callable[[Int[Array, ""], Progress], Progress],
    error: Callable[[Progress], Float[Array, ""]],
    start: Progress,
    *,
    least: Int[Array, ""],
    most: Int[Array, ""],
    patience: int,
    keep_best: bool,
) -> Watched:
    """Train epoch by epoch, at least one, until the error has been no lower than before for `patience` of them.

    An error that is not a number counts as lower: nothing is known that would speak for stopping.

    Args:
        epoch: (number of the epoch, progress) -> progress.
        error: of what training has come to, on rows kept out of it.
        start: before the first epoch.
        least: fewest epochs.
        most: most epochs.
        patience: epochs without a lower error after which training stops.
        keep_best: keep the progress of the lowest error.
    """

    def goes_on(watched: Watched) -> Bool[Array, ""]:
        return (watched.epochs < most) & ((watched.stale < patience) | (watched.epochs < least))

    def one(watched: Watched) -> Watched:
        now = epoch(watched.epochs, watched.now)
        found = error(now)
        lower = ~(found >= watched.lowest)
        best = jax.tree.map(lambda a, b: jnp.where(lower, a, b), now, watched.best) if keep_best else ()
        lowest, stale = jnp.where(lower, found, watched.lowest), jnp.where(lower, 0, watched.stale + 1)
        return Watched(watched.epochs + 1, now, best, found, lowest, stale)

    zero, none = jnp.zeros((), jnp.int32), jnp.array(jnp.inf)
    return jax.lax.while_loop(goes_on, one, Watched(zero, start, start if keep_best else (), none, none, zero))
