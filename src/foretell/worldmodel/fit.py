"""Training an ensemble on all data so far, as one compiled program whose length is decided by the data."""

from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from foretell.nn import fit_normalizer, identity_normalizer
from foretell.replay import bootstrap, shuffle
from foretell.settings import Settings
from foretell.worldmodel.ensemble import Ensemble, EnsembleParams, EnsembleState
from foretell.worldmodel.prediction import Predictor, Rows


class Fitted(NamedTuple):
    """What training returns; the metrics are means over the call."""

    state: Any
    """The model's."""
    opt_state: optax.OptState
    metrics: dict[str, Float[Array, ""]]


class Fit(Settings):
    """How an ensemble is trained at each call. The defaults are the paper's, for the cartpole."""

    kind: Literal["adam"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    """Adam's step size; its moments persist from call to call."""
    anneal: bool = False
    """Let the step size fall to zero along a cosine within each call, rather than stay."""
    batch_size: PositiveInt = 32
    """Rows per member and gradient step."""
    epochs: PositiveInt = 5
    """Passes over each member's bootstrap sample."""
    min_steps: NonNegativeInt = 0
    """At least this many gradient steps, for when data are few and epochs are short."""
    max_steps: PositiveInt | None = None
    """At most this many gradient steps, for when data are many."""
    bootstrap: bool = True
    """Train each member on its own draw with replacement from the data (True), or on all data in its own order."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the data kept out of training, for the metric `holdout_mse` alone."""
    log_rows: PositiveInt = 5000
    """At most this many rows are held out, and at most this many are used for each logged error."""

    @model_validator(mode="after")
    def _check(self) -> "Fit":
        if self.max_steps is not None and self.max_steps < self.min_steps:
            raise ValueError(f"max_steps ({self.max_steps}) is below min_steps ({self.min_steps})")
        return self

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def start(self, state: EnsembleState) -> optax.OptState:
        """What training carries from call to call: Adam's moments."""
        return self.optimizer.init(state.params)

    def fit(
        self,
        key: Key[Array, ""],
        model: Ensemble,
        state: EnsembleState,
        opt_state: optax.OptState,
        rows: Rows,
        size: Int[Array, ""],
    ) -> Fitted:
        """Continue training on the first `size` rows; see `fit`."""
        return fit(key, model, self, state, opt_state, rows, size)

    def steps(self, size: Int[Array, ""]) -> Int[Array, ""]:
        """Gradient steps of one call on `size` rows."""
        steps = jnp.maximum(self.epochs * -(-size // self.batch_size), self.min_steps)
        return steps if self.max_steps is None else jnp.minimum(steps, self.max_steps)


def fit(
    key: Key[Array, ""],
    ensemble: Ensemble,
    settings: Fit,
    state: EnsembleState,
    opt_state: optax.OptState,
    rows: Rows,
    size: Int[Array, ""],
) -> Fitted:
    """Refit the normalisers, then continue training on the first `size` rows (Chua et al. 2018, algorithm 1).

    Every member has its own bootstrap sample, drawn anew at each call, and its own order of rows in each epoch. A
    gradient step that is not finite is skipped and counted in the metric `skipped_steps`.
    """
    hold_key, boot_key, order_key = jax.random.split(key, 3)
    capacity = rows.x.shape[0]
    held = jnp.zeros((), jnp.int32)
    if settings.holdout:  # the first `held` rows of a random order stay out of training
        held = jnp.minimum((size * settings.holdout).astype(jnp.int32), settings.log_rows)
        order = shuffle(hold_key, jnp.arange(capacity) % size, size)
        rows = jax.tree.map(lambda a: a[order], rows)
    kept = size - held
    place = jnp.arange(capacity)
    state, standard = _standardize(ensemble, state, rows, (place >= held) & (place < size))

    steps = settings.steps(kept)
    if settings.bootstrap:
        sample = held + bootstrap(boot_key, kept, members=ensemble.members, capacity=capacity)
    else:
        sample = jnp.broadcast_to(held + place % kept, (ensemble.members, capacity))
    epoch_keys = jax.random.split(order_key, ensemble.members)

    def body(i: Int[Array, ""], carry: tuple) -> tuple:
        params, opt_state, loss_sum, skipped = carry
        index, weight = _minibatch(i, epoch_keys, sample, kept, settings.batch_size)
        batch = jax.tree.map(lambda a: a[index], standard)
        pace = 0.5 * (1.0 + jnp.cos(jnp.pi * i / steps)) if settings.anneal else 1.0
        params, opt_state, loss, ok = _update(ensemble, settings.optimizer, params, opt_state, batch, weight, pace)
        return params, opt_state, loss_sum + loss, skipped + ~ok

    zero = jnp.zeros(())
    params, opt_state, loss_sum, skipped = jax.lax.fori_loop(
        0, steps, body, (state.params, opt_state, zero, jnp.zeros((), jnp.int32))
    )
    state = EnsembleState(params, state.inputs, state.targets)
    log_rows = min(settings.log_rows, capacity)
    logged = held + (jnp.arange(log_rows) * (kept / log_rows)).astype(jnp.int32)  # evenly spaced
    error = partial(mean_square_error, ensemble.predictor(state), ensemble.members)
    metrics = {
        "gradient_steps": steps,
        "skipped_steps": skipped,
        "train_loss": loss_sum / jnp.maximum(steps - skipped, 1),
        "train_mse": error(jax.tree.map(lambda a: a[logged], rows), jnp.ones(log_rows)),
    }
    if settings.holdout:
        out = jax.tree.map(lambda a: a[:log_rows], rows)
        metrics["holdout_mse"] = error(out, 1.0 * (jnp.arange(log_rows) < held))
    return Fitted(state, opt_state, metrics)


def mean_square_error(predictor: Predictor, members: int, rows: Rows, weight: Float[Array, "rows"]) -> Float[Array, ""]:
    """One-step squared error of the members' mean predictions in the targets' own units, averaged over outputs."""
    mean = predictor(jnp.broadcast_to(rows.x, (members, *rows.x.shape))).mean
    square = jnp.square(mean - rows.y).mean(0).sum(-1) / max(rows.y.shape[-1], 1)  # there may be no outputs
    return jnp.where(weight > 0, square * weight, 0.0).sum() / jnp.maximum(weight.sum(), 1)


def _standardize(
    ensemble: Ensemble, state: EnsembleState, rows: Rows, trained: Bool[Array, "rows"]
) -> tuple[EnsembleState, Rows]:
    """The state with refitted normalisers, and the rows standardised by them."""
    inputs = fit_normalizer(rows.x, trained, min_std=ensemble.min_std)
    targets = identity_normalizer(rows.y.shape[-1])
    if ensemble.scale_targets:
        scale = fit_normalizer(rows.y, trained, min_std=ensemble.min_std).std
        targets = targets._replace(std=scale)
    standard = Rows(inputs.normalize(rows.x), targets.normalize(rows.y), rows.flags)
    return EnsembleState(state.params, inputs, targets), standard


def _minibatch(
    i: Int[Array, ""],
    keys: Key[Array, "members"],
    sample: Int[Array, "members capacity"],
    size: Int[Array, ""],
    batch_size: int,
) -> tuple[Int[Array, "members batch"], Float[Array, "batch"]]:
    """Rows of gradient step `i`, and their weights (0 beyond the end of the epoch, else equal; they sum to 1)."""
    epoch, batch = jnp.divmod(i, -(-size // batch_size))
    position = batch * batch_size + jnp.arange(batch_size)
    inside = position < size

    def pick(key: Key[Array, ""], row: Int[Array, "capacity"]) -> Int[Array, "batch"]:
        return row[shuffle(jax.random.fold_in(key, epoch), jnp.where(inside, position, 0), size)]

    return jax.vmap(pick)(keys, sample), inside / inside.sum()


def _update(
    ensemble: Ensemble,
    optimizer: optax.GradientTransformation,
    params: EnsembleParams,
    opt_state: optax.OptState,
    batch: Rows,
    weight: Float[Array, "batch"],
    pace: Float[Array, ""] | float,
) -> tuple[EnsembleParams, optax.OptState, Float[Array, ""], Bool[Array, ""]]:
    """One Adam step, `pace` times as long, or none when the loss or a gradient is not finite.

    Returns the loss (0 if skipped) and success.
    """
    (total, likelihood), grads = jax.value_and_grad(ensemble.loss, has_aux=True)(params, *batch, weight)
    ok = jnp.isfinite(total + sum(jnp.square(g).sum() for g in jax.tree.leaves(grads)))  # Adam squares them

    def apply(params: EnsembleParams, opt_state: optax.OptState) -> tuple[EnsembleParams, optax.OptState]:
        updates, opt_state = optimizer.update(grads, opt_state, params)
        updates = optax.tree.scale(pace, updates)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = jax.lax.cond(ok, apply, lambda *unchanged: unchanged, params, opt_state)
    return params, opt_state, jnp.where(ok, likelihood, 0.0), ok
