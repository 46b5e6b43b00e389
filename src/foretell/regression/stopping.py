"""Early stopping: training that ends when the error on rows kept out of it no longer falls."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Progress = TypeVar("Progress")
"""What training carries from epoch to epoch: a pytree of arrays."""


Keep = Callable[[Bool[Array, "*members"], Any, Any], Any]
Judge = Callable[[Float[Array, "*errors"], Float[Array, "*errors"]], tuple[Bool[Array, "*members"], Bool[Array, ""]]]
"""(errors, the lowest so far) -> whether they are lower, and whether to be patient again."""


class Watched(NamedTuple):
    """Training so far."""

    epochs: Int[Array, ""]
    now: Any
    """What training carries on."""
    best: Any
    """The same, when the error was lowest; nothing if that is not kept."""
    error: Float[Array, "*members"]
    """After the last epoch; of the whole, or of each member."""
    lowest: Float[Array, "*members"]
    """After any epoch so far."""
    stale: Int[Array, ""]
    """Epochs since then, for the last member whose error fell."""


def _whole(lower: Bool[Array, ""], now: Any, best: Any) -> Any:
    """All of the progress, if the error is lower."""
    return jax.tree.map(lambda a, b: jnp.where(lower, a, b), now, best)


def _below(
    improvement: float, found: Float[Array, "*members"], lowest: Float[Array, "*members"]
) -> tuple[Bool[Array, "*members"], Bool[Array, ""]]:
    """Whether errors are below the lowest ones by this share of them."""
    most = lowest - improvement * jnp.abs(lowest) if improvement else lowest
    lower = ~(found >= most)
    return lower, lower.any()


def until_stale(
    epoch: Callable[[Int[Array, ""], Progress], Progress],
    error: Callable[[Progress], Float[Array, "*members"]],
    start: Progress,
    *,
    least: Int[Array, ""],
    most: Int[Array, ""],
    patience: int,
    keep_best: bool,
    improvement: float = 0.0,
    keep: Keep = _whole,
    judge: Judge | None = None,
    from_start: bool = False,
) -> Watched:
    """Train epoch by epoch, at least one, until the error has been no lower than before for `patience` of them.

    There may be several errors, one for each member: then all of them must have been no lower.
    An error that is not a number counts as lower: nothing is known that would speak for stopping.

    Args:
        epoch: (number of the epoch, progress) -> progress.
        error: of what training has come to, on rows kept out of it.
        start: before the first epoch.
        least: fewest epochs.
        most: most epochs.
        patience: epochs without a lower error after which training stops.
        keep_best: keep the progress of the lowest error.
        improvement: share of the lowest error so far by which an error must be below it to count as lower.
        keep: (which errors are lower, progress, best so far) -> best so far.
        judge: (errors, lowest errors) -> which are lower, and whether patience begins again; None: by `improvement`.
        from_start: the start counts as the first best; else the first epoch does.
    """

    judges = partial(_below, improvement) if judge is None else judge

    def goes_on(watched: Watched) -> Bool[Array, ""]:
        return (watched.epochs < most) & ((watched.stale < patience) | (watched.epochs < least))

    def one(watched: Watched) -> Watched:
        now = epoch(watched.epochs, watched.now)
        found = error(now)
        lower, better = judges(found, watched.lowest)
        best = keep(lower, now, watched.best) if keep_best else ()
        lowest, stale = jnp.where(lower, found, watched.lowest), jnp.where(better, 0, watched.stale + 1)
        return Watched(watched.epochs + 1, now, best, found, lowest, stale)

    zero, none = jnp.zeros((), jnp.int32), jnp.full(jax.eval_shape(error, start).shape, jnp.inf)
    lowest = error(start) if from_start else none
    return jax.lax.while_loop(goes_on, one, Watched(zero, start, start if keep_best else (), none, lowest, zero))
