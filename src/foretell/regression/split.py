"""Which rows a call of training learns from, which are kept out of it, and the errors on both."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from foretell.regression.ensemble import Ensemble, EnsembleState
from foretell.regression.prediction import Rows, mean_square_error
from foretell.replay import bootstrap, shuffle


class Split(NamedTuple):
    """The rows of a call: those kept out of training, then those trained on, then unused ones."""

    rows: Rows
    held: Int[Array, ""]
    """Number of rows that are kept out of training."""
    kept: Int[Array, ""]
    """Number of rows that are trained on."""
    first: Int[Array, ""]
    """Number of rows that the first call had."""

    @property
    def trained(self) -> Bool[Array, "rows"]:
        """Whether a row is trained on."""
        place = jnp.arange(len(self.rows.x))
        return (place >= self.held) & (place < self.held + self.kept)

    def samples(self, key: Key[Array, ""], members: int, bootstrapped: bool) -> Int[Array, "members rows"]:
        """The rows that each member is trained on: its own bootstrap sample, or all."""
        capacity = len(self.rows.x)
        if bootstrapped:
            return self.held + bootstrap(key, self.kept, members=members, capacity=capacity)
        return jnp.broadcast_to(self.held + jnp.arange(capacity) % self.kept, (members, capacity))

    def out(self, most: int) -> tuple[Rows, Float[Array, "some"]]:
        """The first `most` rows, and 1 for those kept out of training, 0 for the others."""
        count = min(most, len(self.rows.x))
        return jax.tree.map(lambda a: a[:count], self.rows), 1.0 * (jnp.arange(count) < self.held)

    def mean_out(self, losses: Float[Array, "some"]) -> Float[Array, ""]:
        """The mean over the rows kept out, of losses of the rows that `out` gives."""
        out = jnp.arange(len(losses)) < self.held
        return jnp.where(out, losses, 0.0).sum() / out.sum()


def hold_out(
    key: Key[Array, ""], rows: Rows, size: Int[Array, ""], share: float, most: int
) -> tuple[Rows, Int[Array, ""]]:
    """The rows in a new random order, and the number of them, from the first on, that are kept out of training."""
    if not share:
        return rows, jnp.zeros((), jnp.int32)
    order = shuffle(key, jnp.arange(len(rows.x)) % size, size)
    held = jnp.minimum((size * share).astype(jnp.int32), most)
    return jax.tree.map(lambda a: a[order], rows), held


def holdout_loss(ensemble: Ensemble, split: Split, most: int, state: EnsembleState) -> Float[Array, ""]:
    """The loss on at most so many of the rows kept out, in units of the training loss without its decay."""
    return ensemble.error(state, *split.out(most))


def member_errors(ensemble: Ensemble, split: Split, most: int, state: EnsembleState) -> Float[Array, "members"]:
    """The squared error of each member on at most so many of the rows kept out, in units of standardised targets."""
    rows, weight = split.out(most)
    everyone = ensemble.ready(replace(state, elites=None))
    mean = ensemble.predictor(everyone)(jnp.broadcast_to(rows.x, (ensemble.members, *rows.x.shape))).mean
    square = jnp.square((mean - rows.y) / state.targets.std).mean(-1)
    return jnp.where(weight > 0, square * weight, 0.0).sum(1) / weight.sum()


def row_losses(ensemble: Ensemble, split: Split, most: int, state: EnsembleState) -> Float[Array, "some"]:
    """The loss on each of at most so many rows, of all members taken as one Gaussian, in units of the training loss.

    Its variance is the geometric mean of the members' variances plus the variance of their means (DHMBPO). Without a
    predicted variance the loss is half the squared error.
    """
    rows, _ = split.out(most)
    everyone = ensemble.ready(replace(state, elites=None))
    found = ensemble.predictor(everyone)(jnp.broadcast_to(rows.x, (ensemble.members, *rows.x.shape)))
    mean, scale = found.mean.mean(0), state.targets.std
    loss = 0.5 * jnp.square((mean - rows.y) / scale)
    if ensemble.probabilistic:
        spread = found.mean.var(0, ddof=1) if ensemble.members > 1 else 0.0
        variance = (jnp.exp(jnp.log(found.variance).mean(0)) + spread) / jnp.square(scale)
        loss = 2.0 * loss / variance + jnp.log(variance)
    crossed = (jax.nn.softplus(found.logits) - rows.flags * found.logits).mean(0)
    return loss.sum(-1) / max(rows.y.shape[-1], 1) + crossed.sum(-1)


def errors(
    ensemble: Ensemble, state: EnsembleState, split: Split, most: int, *, out: bool
) -> dict[str, Float[Array, ""]]:
    """Squared errors on at most `most` evenly spaced rows trained on, and if asked on as many of those kept out."""
    rows, held, kept, _ = split
    count = min(most, len(rows.x))
    logged = held + (jnp.arange(count) * (kept / count)).astype(jnp.int32)
    error = partial(mean_square_error, ensemble.predictor(ensemble.ready(state)), ensemble.serving)
    found = {"train_mse": error(jax.tree.map(lambda a: a[logged], rows), jnp.ones(count))}
    return {**found, "holdout_mse": error(*split.out(most))} if out else found
