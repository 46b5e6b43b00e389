"""How ensembles learn from a replay: in one long call, in single steps, and what they are worth on held-out rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell.regression.ensemble import Ensemble, EnsembleState
from foretell.regression.fit import Carried, Fit, Fitted
from foretell.regression.prediction import Rows
from foretell.replay import Replay, Transitions, held_out, held_out_first, training_slots

RowsOf = Callable[[Transitions], Rows]
"""Transitions with any leading axes -> the regression problem that they pose."""
_VALIDATION_BATCHES = 32
"""An estimate of the validation loss takes as many rows as so many batches have."""


def fit_rows(
    key: Key[Array, ""],
    training: Any,
    regressor: Any,
    state: Any,
    carried: Any,
    rows: Rows,
    replay: Replay,
    actions: slice,
) -> Fitted:
    """One long call of training on all rows of the replay; with early stopping, but for those that are held out.

    Args:
        key: see `Fit.fit`, as the other arguments; a Gaussian process has its own training.
        training: how the regressor is trained.
        regressor: its settings.
        state: the regressor so far.
        carried: what training carries from the last call.
        rows: one for each transition of the replay.
        replay: the transitions.
        actions: the columns of the inputs that hold actions.
    """
    given: dict[str, Any] = {}
    if isinstance(training, Fit):
        given["exact"] = actions
        if training.early_stopping:
            order, given["held"] = held_out_first(replay, training.holdout)
            rows = jax.tree.map(lambda a: a[order], rows)
    fitted: Fitted = training.fit(key, regressor, state, carried, rows, replay.size, **given)
    return fitted


def step_rows(
    key: Key[Array, ""],
    training: Fit,
    regressor: Ensemble,
    state: EnsembleState,
    carried: Carried,
    rows_of: RowsOf,
    replay: Replay,
) -> Fitted:
    """One gradient step on rows that each member draws for itself, none of which is held out."""
    shape = (regressor.members, training.batch_size)
    weight: Array | None = None
    if training.holdout:
        slots, use = training_slots(replay, key, shape, training.holdout)
        used = use.all(0)
        weight = used / jnp.maximum(used.sum(), 1)
    else:
        slots = jax.random.randint(key, shape, 0, replay.size)
    rows = rows_of(jax.tree.map(lambda store: store[slots], replay.data))
    return training.step(regressor, state, carried, rows, _drop_key(key), weight)


def validation_loss(
    key: Key[Array, ""], training: Fit, regressor: Ensemble, state: EnsembleState, rows_of: RowsOf, replay: Replay
) -> Float[Array, ""]:
    """The error of predictions on the held-out ones of random rows, in units of the training loss without its decay.

    Rows are drawn with replacement, 32 times as many as a batch has. It is NaN if none of them is held out.
    """
    slots = jax.random.randint(key, (_VALIDATION_BATCHES * training.batch_size,), 0, replay.size)
    rows = rows_of(jax.tree.map(lambda store: store[slots], replay.data))
    return regressor.error(state, rows, 1.0 * held_out(replay, slots, training.holdout))


def _drop_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """A key that is none of those that splitting `key` gives: `fold_in(key, i)` is `split(key, n)[i]` for i < n."""
    return jax.random.fold_in(key, 2**31 - 3)
