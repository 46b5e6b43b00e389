"""Training in single gradient steps until the loss on held-out rows no longer falls.

Feinberg et al. 2018, "Model-Based Value Expansion for Efficient Model-Free Reinforcement Learning" (MVE), as released.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from foretell.models.base import Metrics, ModelState
from foretell.replay import Replay


@runtime_checkable
class Validated(Protocol):
    """A model that learns stepwise and keeps rows out of training; see `Fit.holdout`."""

    def update(self, state: ModelState, replay: Replay, key: Key[Array, ""]) -> tuple[ModelState, Metrics]:
        """One gradient step on a minibatch, in which there is no held-out row."""

    def validation_loss(self, state: ModelState, replay: Replay, key: Key[Array, ""]) -> Float[Array, ""]:
        """An estimate of the loss on held-out rows; NaN if there are none."""


class _Epochs(NamedTuple):
    epochs: Int[Array, ""]
    state: Any
    total: Metrics
    last: Float[Array, ""]
    now: Float[Array, ""]


def train_until_stale(
    model: Validated,
    state: ModelState,
    replay: Replay,
    key: Key[Array, ""],
    steps: Int[Array, ""] | int,
    *,
    max_epochs: int = 1000,
) -> tuple[ModelState, Metrics]:
    """Train epoch by epoch, at least one, while the loss on held-out rows is lower than before the epoch.

    The loss is estimated on new random rows each time, so it is noisy. The last weights are kept, not the best.

    Args:
        model: what to train.
        state: of the model, prepared; see `TrainedModel.prepare`.
        replay: the data.
        key: for the rows, of training and of estimates.
        steps: gradient steps of an epoch.
        max_epochs: most epochs, whatever the loss.

    Returns:
        The trained model, and metrics: `epochs`, `holdout_loss` at the end, and those of `update`, averaged over steps.
    """
    estimate_key, update_key = jax.random.split(key)
    update = jax.jit(model.update, inline=True)  # traced once, for its shapes and in the loop

    def estimate(state: ModelState, epochs: Int[Array, ""]) -> Float[Array, ""]:
        return model.validation_loss(state, replay, jax.random.fold_in(estimate_key, epochs))

    def step(number: Int[Array, ""], carry: tuple[ModelState, Metrics]) -> tuple[ModelState, Metrics]:
        state, found = update(carry[0], replay, jax.random.fold_in(update_key, number))
        return state, jax.tree.map(jnp.add, carry[1], found)

    def falls(now: _Epochs) -> Bool[Array, ""]:
        return (now.epochs == 0) | ((now.now < now.last) & (now.epochs < max_epochs))

    def epoch(now: _Epochs) -> _Epochs:
        first = now.epochs * steps
        state, total = jax.lax.fori_loop(first, first + steps, step, (now.state, now.total))
        return _Epochs(now.epochs + 1, state, total, now.now, estimate(state, now.epochs + 1))

    zero, shapes = jnp.zeros((), jnp.int32), jax.eval_shape(update, state, replay, key)[1]
    total = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    start = _Epochs(zero, state, total, jnp.array(jnp.inf), estimate(state, zero))
    end = jax.lax.while_loop(falls, epoch, start)
    means = jax.tree.map(lambda a: a / jnp.maximum(end.epochs * steps, 1), end.total)
    return end.state, {**means, "epochs": end.epochs, "holdout_loss": end.now}
