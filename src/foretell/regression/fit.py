"""Training of an ensemble on all data so far: one compiled program whose number of steps depends on the data."""

from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from foretell.nn import all_finite, fit_normalizer, identity_normalizer, step_if
from foretell.regression.ensemble import Ensemble, EnsembleParams, EnsembleState
from foretell.regression.prediction import Predictor, Rows
from foretell.replay import bootstrap, shuffle
from foretell.settings import Settings


class Fitted(NamedTuple):
    """What training returns; the metrics are means over the call."""

    state: Any
    """The state of the model."""
    carried: Any
    """What training carries to the next call."""
    metrics: dict[str, Float[Array, ""]]


class Carried(NamedTuple):
    """What Adam's training carries from call to call."""

    opt_state: optax.OptState
    first: Int[Array, ""]
    """Number of rows at the first call; 0 before it."""


class Fit(Settings):
    """How an ensemble is trained at each call. The defaults are those of the PETS paper, for the cartpole."""

    kind: str = "adam"
    learning_rate: PositiveFloat = 1e-3
    """Adam's step size; its moments persist from call to call."""
    anneal: bool = False
    """Let the step size fall to zero along a cosine within each call, instead of keeping it constant."""
    batch_size: PositiveInt = 32
    """Rows per member and gradient step."""
    epochs: PositiveInt = 5
    """Passes over each member's bootstrap sample."""
    min_steps: NonNegativeInt = 0
    """Least number of gradient steps, for few data, where epochs are short."""
    max_steps: PositiveInt | None = None
    """Greatest number of gradient steps, for many data."""
    bootstrap: bool = True
    """Train each member on its own draw with replacement from the data (True), or on all data in its own order."""
    statistics: Literal["all", "first"] = "all"
    """Standardise by the statistics of all data, computed anew at each call (PETS), or always by those of the first
    call's data (MB-MPC)."""
    new_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Draw this share of every batch from data added after the first call. The rest comes, in passes that count as
    epochs, from the data of the first call, as long as the replay still holds them (MB-MPC: 0.9; 0 learns from the
    first data only). Null: treat all data alike."""
    noise: NonNegativeFloat = 0.0
    """Standard deviation of normal noise on features and targets, in units of `noise_scale`; drawn anew at each call
    (MB-MPC: 0.01, drawn once)."""
    noise_scale: Literal["std", "mean"] = "std"
    """Unit of `noise`: the standard deviation of each feature and target, or its mean where that is positive (the
    released MB-MPC)."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the data kept out of training, only for the metric `holdout_mse`."""
    log_rows: PositiveInt = 5000
    """Greatest number of rows that are kept out of training, and that are used for each logged error."""

    @model_validator(mode="after")
    def _check(self) -> "Fit":
        if self.max_steps is not None and self.max_steps < self.min_steps:
            raise ValueError(f"max_steps ({self.max_steps}) is below min_steps ({self.min_steps})")
        if self.new_share is not None and (self.bootstrap or self.holdout):
            raise ValueError("new_share needs bootstrap=false and holdout=0: it draws its batches itself")
        return self

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def start(self, state: EnsembleState) -> Carried:
        """What training carries before the first call."""
        return Carried(self.optimizer.init(state.params), jnp.zeros((), jnp.int32))

    def fit(
        self,
        key: Key[Array, ""],
        model: Ensemble,
        state: EnsembleState,
        carried: Carried,
        rows: Rows,
        size: Int[Array, ""],
    ) -> Fitted:
        """Continue training on the first `size` rows; see the function `fit`."""
        return fit(key, model, self, state, carried, rows, size)

    def standardized(
        self, model: Ensemble, state: EnsembleState, carried: Carried, rows: Rows, size: Int[Array, ""]
    ) -> EnsembleState:
        """The ensemble with the statistics of the first `size` rows, or its own, see `statistics`."""
        found = _standardizers(model, state, rows, jnp.arange(len(rows.x)) < size)
        keep = (carried.first > 0) & (self.statistics == "first")
        return jax.tree.map(partial(jnp.where, keep), state, found)

    def step(self, model: Ensemble, state: EnsembleState, carried: Carried, rows: Rows) -> Fitted:
        """One gradient step on a minibatch `[members, batch]`, for training between other updates."""
        standard = Rows(state.inputs.normalize(rows.x), state.targets.normalize(rows.y), rows.flags)
        count = rows.x.shape[1]
        params, opt_state, loss, ok = _update(
            model, self.optimizer, state.params, carried.opt_state, standard, jnp.full(count, 1.0 / count), 1.0
        )
        carried = Carried(opt_state, jnp.maximum(carried.first, 1))
        metrics = {"model_loss": loss, "model_skipped": jnp.where(ok, 0.0, 1.0)}
        return Fitted(EnsembleState(params, state.inputs, state.targets), carried, metrics)

    def batches(self, size: Int[Array, ""], first: Int[Array, ""]) -> Int[Array, ""]:
        """Gradient steps of an epoch on `size` rows, the first `first` of which are those of the first call."""
        if self.new_share is None:
            return -(-size // self.batch_size)
        old = self.batch_size - self.new_rows(size, first)
        return jnp.maximum(jnp.where(old > 0, first // jnp.maximum(old, 1), (size - first) // self.batch_size), 1)

    def new_rows(self, size: Int[Array, ""], first: Int[Array, ""]) -> Int[Array, ""]:
        """Number of rows in each batch that are drawn from data added after the first call."""
        return jnp.minimum(size - first, int((self.new_share or 0.0) * self.batch_size))

    def steps(self, size: Int[Array, ""], first: Int[Array, ""]) -> Int[Array, ""]:
        """Gradient steps of one call."""
        steps = jnp.maximum(self.epochs * self.batches(size, first), self.min_steps)
        return steps if self.max_steps is None else jnp.minimum(steps, self.max_steps)


def fit(
    key: Key[Array, ""],
    ensemble: Ensemble,
    settings: Fit,
    state: EnsembleState,
    carried: Carried,
    rows: Rows,
    size: Int[Array, ""],
) -> Fitted:
    """Refit the normalisers, then continue training on the first `size` rows (Chua et al. 2018, algorithm 1).

    Every member has its own bootstrap sample, drawn anew at each call, and its own order of rows in each epoch. A
    gradient step whose loss is not finite is skipped. Where only a gradient is not finite, it is replaced by 0. Both
    are counted in the metric `skipped_steps`.

    Args:
        key: for bootstrap, order and held-out rows.
        ensemble: settings of the networks.
        settings: how they are trained.
        state: the ensemble so far.
        carried: what training carries from the last call, see `Fit.start`.
        rows: data of fixed capacity, in their own units.
        size: number of valid rows, at least 1.

    Returns:
        The trained ensemble, what training carries to the next call, and metrics: `gradient_steps`, `skipped_steps`,
        `first_loss` and `train_loss` (per member, in units of the standardised targets), `train_mse`, and with
        `holdout` also `holdout_mse` (in the targets' own units).
    """
    hold_key, boot_key, order_key = jax.random.split(key, 3)
    first = jnp.where(carried.first > 0, carried.first, size)
    rows, held = _hold_out(hold_key, settings, rows, size)
    kept, place = size - held, jnp.arange(len(rows.x))
    refitted = _standardizers(ensemble, state, rows, (place >= held) & (place < size))
    if settings.statistics == "first":
        refitted = jax.tree.map(partial(jnp.where, carried.first > 0), state, refitted)
    state = refitted
    standard = Rows(state.inputs.normalize(rows.x), state.targets.normalize(rows.y), rows.flags)

    steps = settings.steps(kept, first)
    if settings.bootstrap:
        sample = held + bootstrap(boot_key, kept, members=ensemble.members, capacity=len(rows.x))
    else:
        sample = jnp.broadcast_to(held + place % kept, (ensemble.members, len(rows.x)))
    keys = jax.random.split(order_key, ensemble.members)

    def body(i: Int[Array, ""], carry: tuple) -> tuple:
        params, opt_state, loss_sum, first_loss, skipped = carry
        if settings.new_share is None:
            index, weight = _minibatch(i, keys, sample, kept, settings.batch_size)
        else:
            index, weight = _mixed_minibatch(i, keys, settings, kept, first)
        batch = jax.tree.map(lambda a: a[index], standard)
        pace = 0.5 * (1.0 + jnp.cos(jnp.pi * i / steps)) if settings.anneal else 1.0
        params, opt_state, loss, ok = _update(ensemble, settings.optimizer, params, opt_state, batch, weight, pace)
        return params, opt_state, loss_sum + loss, jnp.where(i == 0, loss, first_loss), skipped + ~ok

    zero = jnp.zeros(())
    params, opt_state, loss_sum, first_loss, skipped = jax.lax.fori_loop(
        0, steps, body, (state.params, carried.opt_state, zero, zero, jnp.zeros((), jnp.int32))
    )
    state = EnsembleState(params, state.inputs, state.targets)
    metrics = {
        "gradient_steps": steps,
        "skipped_steps": skipped,
        "first_loss": first_loss,
        "train_loss": loss_sum / jnp.maximum(steps - skipped, 1),
        **_errors(ensemble, settings, state, rows, held, kept),
    }
    return Fitted(state, Carried(opt_state, first), metrics)


def _hold_out(key: Key[Array, ""], settings: Fit, rows: Rows, size: Int[Array, ""]) -> tuple[Rows, Int[Array, ""]]:
    """The rows in a new random order, and the number of them, from the first on, that are kept out of training."""
    if not settings.holdout:
        return rows, jnp.zeros((), jnp.int32)
    order = shuffle(key, jnp.arange(len(rows.x)) % size, size)
    held = jnp.minimum((size * settings.holdout).astype(jnp.int32), settings.log_rows)
    return jax.tree.map(lambda a: a[order], rows), held


def _errors(
    ensemble: Ensemble,
    settings: Fit,
    state: EnsembleState,
    rows: Rows,
    held: Int[Array, ""],
    kept: Int[Array, ""],
) -> dict[str, Float[Array, ""]]:
    """Squared errors on evenly spaced training rows, and on the rows kept out."""
    count = min(settings.log_rows, len(rows.x))
    logged = held + (jnp.arange(count) * (kept / count)).astype(jnp.int32)
    error = partial(mean_square_error, ensemble.predictor(ensemble.ready(state)), ensemble.members)
    errors = {"train_mse": error(jax.tree.map(lambda a: a[logged], rows), jnp.ones(count))}
    if settings.holdout:
        out = jax.tree.map(lambda a: a[:count], rows)
        errors["holdout_mse"] = error(out, 1.0 * (jnp.arange(count) < held))
    return errors


def noisy(key: Key[Array, ""], settings: Fit, rows: Rows, valid: Bool[Array, "rows"], features: int) -> Rows:
    """The rows with noise on features and targets (Nagabandi et al. 2018, section IV-B).

    Args:
        key: for the noise.
        settings: its scale, see `Fit.noise`.
        rows: the rows.
        valid: those that the scale is computed from.
        features: number of inputs, from the first on, that get noise; the others are actions.
    """

    def shaken(key: Key[Array, ""], a: Float[Array, "rows n"]) -> Float[Array, "rows n"]:
        mean, std = fit_normalizer(a, valid, min_std=0.0)
        scale = std if settings.noise_scale == "std" else jnp.maximum(mean, 0.0)
        return a + settings.noise * scale * jax.random.normal(key, a.shape)

    in_key, out_key = jax.random.split(key)
    x = jnp.concatenate([shaken(in_key, rows.x[:, :features]), rows.x[:, features:]], -1)
    return rows._replace(x=x, y=shaken(out_key, rows.y))


def mean_square_error(predictor: Predictor, members: int, rows: Rows, weight: Float[Array, "rows"]) -> Float[Array, ""]:
    """One-step squared error of the members' mean predictions, in the targets' own units.

    It is averaged over members, outputs, and rows with their `weight`; rows of weight 0 may hold anything.
    """
    mean = predictor(jnp.broadcast_to(rows.x, (members, *rows.x.shape))).mean
    square = jnp.square(mean - rows.y).mean(0).sum(-1) / max(rows.y.shape[-1], 1)  # there may be no outputs
    return jnp.where(weight > 0, square * weight, 0.0).sum() / jnp.maximum(weight.sum(), 1)


def _standardizers(ensemble: Ensemble, state: EnsembleState, rows: Rows, trained: Bool[Array, "rows"]) -> EnsembleState:
    """The state with refitted normalisers."""
    inputs = fit_normalizer(rows.x, trained, min_std=ensemble.min_std)
    targets = identity_normalizer(rows.y.shape[-1])
    found = fit_normalizer(rows.y, trained, min_std=ensemble.min_std)
    if ensemble.scale_targets:
        targets = targets._replace(std=found.std)
    if ensemble.center_targets:
        targets = targets._replace(mean=found.mean)
    return EnsembleState(state.params, inputs, targets)


def _minibatch(
    i: Int[Array, ""],
    keys: Key[Array, "members"],
    sample: Int[Array, "members capacity"],
    size: Int[Array, ""],
    batch_size: int,
) -> tuple[Int[Array, "members batch"], Float[Array, "batch"]]:
    """Rows of gradient step `i`, and their weights, which sum to 1: equal, but 0 beyond the end of the epoch."""
    epoch, batch = jnp.divmod(i, -(-size // batch_size))
    position = batch * batch_size + jnp.arange(batch_size)
    inside = position < size

    def pick(key: Key[Array, ""], row: Int[Array, "capacity"]) -> Int[Array, "batch"]:
        return row[shuffle(jax.random.fold_in(key, epoch), jnp.where(inside, position, 0), size)]

    return jax.vmap(pick)(keys, sample), inside / inside.sum()


def _mixed_minibatch(
    i: Int[Array, ""],
    keys: Key[Array, "members"],
    settings: Fit,
    size: Int[Array, ""],
    first: Int[Array, ""],
) -> tuple[Int[Array, "members batch"], Float[Array, "batch"]]:
    """Rows of gradient step `i`: the next of a permutation of the old data, random ones of the new; equal weights."""
    batch_size = settings.batch_size
    epoch, batch = jnp.divmod(i, settings.batches(size, first))
    slot, old = jnp.arange(batch_size), batch_size - settings.new_rows(size, first)

    def pick(key: Key[Array, ""]) -> Int[Array, "batch"]:
        old_key, new_key = jax.random.split(jax.random.fold_in(key, epoch))
        walked = shuffle(old_key, (batch * old + slot) % first, first)
        drawn = jax.random.randint(
            jax.random.fold_in(new_key, batch), (batch_size,), first, jnp.maximum(size, first + 1)
        )
        return jnp.where(slot < old, walked, drawn)

    return jax.vmap(pick)(keys), jnp.full(batch_size, 1.0 / batch_size)


def _update(
    ensemble: Ensemble,
    optimizer: optax.GradientTransformation,
    params: EnsembleParams,
    opt_state: optax.OptState,
    batch: Rows,
    weight: Float[Array, "batch"],
    pace: Float[Array, ""] | float,
) -> tuple[EnsembleParams, optax.OptState, Float[Array, ""], Bool[Array, ""]]:
    """One Adam step, scaled by `pace`, or none where the loss is not finite.

    Returns:
        Parameters, optimiser state, the loss (0 if it or a gradient is not finite), and whether all was finite.
    """
    (_, likelihood), grads = jax.value_and_grad(ensemble.loss, has_aux=True)(params, *batch, weight)
    params, opt_state = step_if(jnp.isfinite(likelihood), optimizer, grads, params, opt_state, pace)
    ok = all_finite(likelihood, grads)
    return params, opt_state, jnp.where(ok, likelihood, 0.0), ok
