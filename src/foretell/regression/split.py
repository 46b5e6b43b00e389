"""Which rows a call of training learns from, which are kept out of it, and the errors on both."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from foretell.regression.ensemble import Ensemble, EnsembleState
from foretell.regression.prediction import CHUNK, Rows, mean_over, mean_square_error
from foretell.replay import bootstrap, shuffle

Sample = Callable[[Int[Array, "members places"]], Int[Array, "members places"]]
"""Places in each member's sample -> the rows that are there."""


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

    def sample(self, key: Key[Array, ""], members: int, bootstrapped: bool) -> Sample:
        """The rows that each member is trained on: its own bootstrap sample, or all."""
        if not bootstrapped:
            return lambda place: self.held + place
        keys = jax.random.split(key, members)
        return lambda place: self.held + jax.vmap(bootstrap, (0, 0, None))(keys, place, self.kept)

    def at(self, index: Int[Array, "*some"]) -> Rows:
        """These rows."""
        return jax.tree.map(lambda a: a[index], self.rows)

    def weight_out(self, most: int) -> Float[Array, "some"]:
        """Of the first `most` rows: 1 for those kept out of training, 0 for the others."""
        return 1.0 * (jnp.arange(min(most, len(self.rows.x))) < self.held)

    def mean_out(self, losses: Float[Array, "some"]) -> Float[Array, ""]:
        """The mean over the rows kept out, of losses of the first rows."""
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
    return mean_over(
        lambda index, weight: ensemble.error(state, split.at(index), weight), jnp.minimum(split.held, most)
    )


def member_errors(ensemble: Ensemble, split: Split, most: int, state: EnsembleState) -> Float[Array, "members"]:
    """The squared error of each member on at most so many of the rows kept out, in units of standardised targets."""
    predictor = ensemble.predictor(ensemble.ready(replace(state, elites=None)))

    def error(index: Int[Array, "chunk"], weight: Float[Array, "chunk"]) -> Float[Array, "members"]:
        rows = split.at(index)
        mean = predictor(jnp.broadcast_to(rows.x, (ensemble.members, *rows.x.shape))).mean
        square = jnp.square((mean - rows.y) / state.targets.std).mean(-1)
        return jnp.where(weight > 0, square * weight, 0.0).sum(1) / weight.sum()

    return mean_over(error, jnp.minimum(split.held, most))


def row_losses(ensemble: Ensemble, split: Split, most: int, state: EnsembleState) -> Float[Array, "some"]:
    """The loss on each of at most so many rows, of all members taken as one Gaussian, in units of the training loss.

    Its variance is the geometric mean of the members' variances plus the variance of their means (DHMBPO). Without a
    predicted variance the loss is half the squared error.
    """
    predictor, scale = ensemble.predictor(ensemble.ready(replace(state, elites=None))), state.targets.std

    def losses(rows: Rows) -> Float[Array, "chunk"]:
        found = predictor(jnp.broadcast_to(rows.x, (ensemble.members, *rows.x.shape)))
        mean = found.mean.mean(0)
        loss = 0.5 * jnp.square((mean - rows.y) / scale)
        if ensemble.probabilistic:
            spread = found.mean.var(0, ddof=1) if ensemble.members > 1 else 0.0
            variance = (jnp.exp(jnp.log(found.variance).mean(0)) + spread) / jnp.square(scale)
            loss = 2.0 * loss / variance + jnp.log(variance)
        crossed = (jax.nn.softplus(found.logits) - rows.flags * found.logits).mean(0)
        return loss.sum(-1) / max(rows.y.shape[-1], 1) + crossed.sum(-1)

    count = min(most, len(split.rows.x))
    size = min(CHUNK, count)

    def note(i: Int[Array, ""], noted: Float[Array, "some"]) -> Float[Array, "some"]:
        start = jnp.minimum(i * size, count - size)
        return jax.lax.dynamic_update_slice(noted, losses(split.at(start + jnp.arange(size))), (start,))

    return jax.lax.fori_loop(0, -(-jnp.minimum(split.held, count) // size), note, jnp.zeros(count))


def errors(
    ensemble: Ensemble, state: EnsembleState, split: Split, most: int, *, out: bool
) -> dict[str, Float[Array, ""]]:
    """Squared errors on at most `most` evenly spaced rows trained on, and if asked on as many of those kept out."""
    error = partial(mean_square_error, ensemble.predictor(ensemble.ready(state)), ensemble.serving)
    kept, held = (jnp.minimum(count, most) for count in (split.kept, split.held))

    def trained(place: Int[Array, "chunk"], weight: Float[Array, "chunk"]) -> Float[Array, ""]:
        return error(split.at(split.held + (place * (split.kept / kept)).astype(jnp.int32)), weight)

    found = {"train_mse": mean_over(trained, kept)}
    if not out:
        return found
    mean_out = mean_over(lambda index, weight: error(split.at(index), weight), held)
    return {**found, "holdout_mse": jnp.where(held > 0, mean_out, 0.0)}
