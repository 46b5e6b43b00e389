"""Early stopping of the training of an ensemble: what is judged on held-out rows, and what is kept of the training."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from foretell.regression.ensemble import Ensemble, EnsembleState, better_members
from foretell.regression.paired import judged_by_rows
from foretell.regression.split import Split, holdout_loss, member_errors, row_losses
from foretell.regression.stopping import Watched, until_stale


class Progress(NamedTuple):
    """What gradient steps carry from one to the next within a call."""

    state: EnsembleState
    opt_state: optax.OptState
    loss_sum: Float[Array, ""]
    first_loss: Float[Array, ""]
    skipped: Int[Array, ""]


class Rule(NamedTuple):
    """When training stops early, and what is kept; see the settings of `Fit`."""

    patience: int
    improvement: float
    significance: float | None
    snapshots: Literal["joint", "member"]
    keep_best: bool
    log_rows: int


def stopping_early(
    rule: Rule,
    ensemble: Ensemble,
    split: Split,
    step: Callable[[Int[Array, ""], Progress], Progress],
    start: Progress,
    *,
    steps: Int[Array, ""],
    batches: Int[Array, ""],
    least: int,
) -> tuple[Progress, Int[Array, ""], dict[str, Array]]:
    """Gradient steps, in epochs of `batches`, until held-out rows are no longer predicted better.

    Args:
        rule: when training stops.
        ensemble: settings of the networks.
        split: has the held-out rows.
        step: gradient step number `i`.
        start: before the first step.
        steps: most gradient steps.
        batches: gradient steps of an epoch.
        least: fewest gradient steps.

    Returns:
        What training has come to, the steps taken, and metrics.
    """

    def epoch(number: Int[Array, ""], now: Progress) -> Progress:
        return jax.lax.fori_loop(number * batches, jnp.minimum((number + 1) * batches, steps), step, now)

    watched = _watched(rule, ensemble, split, epoch, start, least=-(-least // batches), most=-(-steps // batches))
    now, loss = watched.now, watched.error
    if rule.keep_best:
        now, loss = now._replace(state=watched.best.state, opt_state=watched.best.opt_state), watched.lowest
    now = now._replace(state=ensemble.with_elites(now.state, loss))
    taken = jnp.minimum(watched.epochs * batches, steps)
    if rule.significance is not None:
        loss = split.mean_out(loss)
    return now, taken, {"epochs": watched.epochs, "holdout_loss": loss.mean()}


def _watched(
    rule: Rule,
    ensemble: Ensemble,
    split: Split,
    epoch: Callable[[Int[Array, ""], Progress], Progress],
    start: Progress,
    *,
    least: Int[Array, ""],
    most: Int[Array, ""],
) -> Watched:
    """Training as long as the rule says: of the whole ensemble by mean losses or row by row, or of each member."""
    score: Callable[..., Float[Array, "*errors"]]
    more: dict[str, Any]
    if rule.significance is not None:
        judge = judged_by_rows(split.weight_out(rule.log_rows), rule.significance)
        score, more = row_losses, {"judge": judge, "from_start": True}
    elif rule.snapshots == "member":
        score, more = member_errors, {"keep": _better_members}
    else:
        score, more = holdout_loss, {}
    error = partial(score, ensemble, split, rule.log_rows)
    return until_stale(
        epoch,
        lambda now: error(now.state),
        start,
        least=least,
        most=most,
        patience=rule.patience,
        keep_best=rule.keep_best,
        improvement=rule.improvement,
        **more,
    )


def _better_members(lower: Array, now: Progress, best: Progress) -> Progress:
    return now._replace(state=better_members(lower, now.state, best.state))
