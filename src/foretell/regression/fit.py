"""Training of an ensemble on all data so far: one compiled program whose number of steps depends on the data."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from foretell.regression.batches import minibatch, mixed_minibatch
from foretell.regression.early import Progress, Rule, stopping_early
from foretell.regression.ensemble import Ensemble, EnsembleState
from foretell.regression.prediction import Rows
from foretell.regression.split import Sample, Split, errors, hold_out
from foretell.regression.statistics import noisy, restandardized
from foretell.regression.updates import update
from foretell.settings import Settings

_NONE = slice(0, 0)
"""No columns."""


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
    """Adam's step size."""
    reset_moments: bool = False
    """Begin each call with new moments of Adam (DHMBPO), instead of those of the last call."""
    anneal: bool = False
    """Reduce the step size to zero along a cosine within each call, instead of keeping it constant."""
    batch_size: PositiveInt = 32
    """Rows for each member in each gradient step."""
    epochs: PositiveInt = 5
    """Passes over the training rows, or over each member's bootstrap sample, in each call."""
    epoch_steps: PositiveInt | None = None
    """Maximum number of gradient steps of an epoch; the next epoch goes on with the same pass over the rows. Null: an
    epoch is a whole pass."""
    min_steps: NonNegativeInt = 0
    """Minimum number of gradient steps in each call; it matters while there are few data and epochs are short."""
    max_steps: PositiveInt | None = None
    """Maximum number of gradient steps in each call; null: no limit."""
    bootstrap: bool = True
    """Train each member on its own bootstrap sample (true), or on all rows in its own order (false)."""
    statistics: Literal["all", "first"] = "all"
    """Data whose mean and standard deviation are used to standardise: all data so far (`all`: PETS), or those of the
    first call (`first`: MB-MPC)."""
    new_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of every batch that is drawn from data added after the first call. The rest is drawn from the data of the
    first call, as long as the replay holds them; an epoch is one pass over these. MB-MPC: 0.9. With 0 only the first
    data are used. Null: treat all data alike."""
    noise: NonNegativeFloat = 0.0
    """Standard deviation of normal noise on features and targets, in units of `noise_scale`. It is drawn again at each
    call (MB-MPC: 0.01, drawn once)."""
    noise_scale: Literal["std", "mean"] = "std"
    """Unit of `noise`: the standard deviation of each feature and target, or its mean where that is positive (the
    released MB-MPC)."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of held-out rows, for the metric `holdout_mse` and for early stopping. For the metric only, they are drawn
    again at each call. For early stopping, and for agents that update the model in single gradient steps, a row is
    chosen once, when it is added to the replay."""
    log_rows: PositiveInt = 5000
    """Maximum number of rows from which each logged error is computed, and of rows held out for the metric."""
    early_stopping: bool = False
    """Stop training in a call once the loss on held-out rows no longer falls from epoch to epoch. `epochs` is then the
    maximum; `min_steps` still applies."""
    patience: PositiveInt = 1
    """Epochs in a row without a new lowest held-out loss after which early stopping ends training."""
    improvement: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the lowest held-out loss by which a loss must be below it to count as lower (MBPO: 0.01)."""
    significance: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    """With early stopping compare losses row by row, by a one-sided paired test of the ensemble's likelihood. Weights
    are kept as the best if the probability that they are better by chance is below this number (DHMBPO: 0.1). Patience
    begins again whenever it is below 1/2. The weights before the first epoch count as the first best. Null: compare
    means."""
    snapshots: Literal["joint", "member"] = "joint"
    """What early stopping judges and keeps: the loss of the whole ensemble, and the whole ensemble (`joint`), or the
    squared error of each member, and of each its own weights. Then training ends once no member improves (`member`:
    MBPO)."""
    keep_best: bool = True
    """After early stopping use the weights with the lowest held-out loss (true), or the last ones (false: the released
    MVE)."""

    @model_validator(mode="after")
    def _check(self) -> "Fit":
        if self.max_steps is not None and self.max_steps < self.min_steps:
            raise ValueError(f"max_steps ({self.max_steps}) is below min_steps ({self.min_steps})")
        if self.new_share is not None and (self.bootstrap or self.holdout):
            raise ValueError("new_share needs bootstrap=false and holdout=0: it draws its batches itself")
        if self.snapshots == "member" and not self.early_stopping:
            raise ValueError("snapshots=member needs early_stopping=true")
        if self.significance is not None and (self.snapshots == "member" or not self.early_stopping):
            raise ValueError("significance needs early_stopping=true and snapshots=joint")
        if self.significance is not None and self.improvement:
            raise ValueError(f"improvement ({self.improvement:g}) must be 0 with significance, which decides instead")
        if self.epoch_steps is not None and self.new_share is not None:
            raise ValueError("epoch_steps must be null with new_share: it walks through its batches epoch by epoch")
        if self.early_stopping and not self.holdout:
            raise ValueError("early_stopping needs holdout above 0, such as 0.3: rows that are kept out of training")
        return self

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    @property
    def rule(self) -> Rule:
        """When training stops early."""
        return Rule(self.patience, self.improvement, self.significance, self.snapshots, self.keep_best, self.log_rows)

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
        held: Int[Array, ""] | None = None,
        exact: slice = _NONE,
    ) -> Fitted:
        """Continue training on the first `size` rows; see the function `fit`."""
        return fit(key, model, self, state, carried, rows, size, held, exact)

    def standardized(
        self, model: Ensemble, state: EnsembleState, carried: Carried, rows: Rows, trained: Bool[Array, "rows"]
    ) -> EnsembleState:
        """The ensemble with the statistics of the rows that are trained on, or its own, see `statistics`."""
        found = restandardized(model, state, carried.first > 0, rows, trained)
        keep = (carried.first > 0) & (self.statistics == "first")
        return jax.tree.map(partial(jnp.where, keep), state, found)

    def step(
        self,
        model: Ensemble,
        state: EnsembleState,
        carried: Carried,
        rows: Rows,
        key: Key[Array, ""] | None = None,
        weight: Float[Array, "batch"] | None = None,
    ) -> Fitted:
        """One gradient step on a minibatch `[members, batch]`, for training between other updates.

        Args:
            model: settings of the networks.
            state: the ensemble so far.
            carried: what training carries from the last step.
            rows: each member's own, in their own units.
            key: for dropout, if there is any.
            weight: of the rows; it sums to 1. None: all weigh the same.
        """
        standard = Rows(state.inputs.normalize(rows.x), state.targets.normalize(rows.y), rows.flags)
        count = rows.x.shape[1]
        weight = jnp.full(count, 1.0 / count) if weight is None else weight
        state, opt_state, loss, ok = update(model, self.optimizer, state, carried.opt_state, standard, weight, 1.0, key)
        carried = Carried(opt_state, jnp.maximum(carried.first, 1))
        metrics = {"model_loss": loss, "model_skipped": jnp.where(ok, 0.0, 1.0)}
        return Fitted(state, carried, metrics)

    def batches(self, size: Int[Array, ""], first: Int[Array, ""]) -> Int[Array, ""]:
        """Gradient steps of an epoch on `size` rows, the first `first` of which are those of the first call."""
        if self.new_share is None:
            whole = -(-size // self.batch_size)
            return whole if self.epoch_steps is None else jnp.minimum(whole, self.epoch_steps)
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
    held: Int[Array, ""] | None = None,
    exact: slice = _NONE,
) -> Fitted:
    """Refit the normalisers, then continue training on the first `size` rows (Chua et al. 2018, algorithm 1).

    Every member has its own bootstrap sample, drawn anew at each call, and its own order of rows in each epoch. A
    gradient step whose loss is not finite is skipped. Where only a gradient is not finite, it is replaced by 0. Both
    are counted in the metric `skipped_steps`.

    Args:
        key: for noise, bootstrap, order, dropout and held-out rows.
        ensemble: settings of the networks.
        settings: how they are trained.
        state: the ensemble so far.
        carried: what training carries from the last call, see `Fit.start`.
        rows: data of fixed capacity, in their own units.
        size: number of valid rows, at least 1.
        held: number of rows, from the first on, to keep out of training, less than `size`. None: as many as
            `Fit.holdout` says, drawn by `key`.
        exact: columns of the inputs that get no noise: actions.

    Returns:
        The trained ensemble, what training carries to the next call, and metrics: `gradient_steps`, `skipped_steps`,
        `first_loss` and `train_loss` (per member, in units of the standardised targets), `train_mse`, and with
        `holdout` also `holdout_mse` (in the targets' own units). With early stopping also `epochs`, and `holdout_loss`
        of the weights that are returned, in units of `train_loss`.
    """
    if settings.noise:
        valid = jnp.arange(len(rows.x)) < size
        rows = noisy(_noise_key(key), rows, valid, exact, settings.noise, settings.noise_scale)
    hold_key, boot_key, order_key = jax.random.split(key, 3)
    if held is None:
        rows, held = hold_out(hold_key, rows, size, settings.holdout, settings.log_rows)
    first = jnp.where(carried.first > 0, carried.first, size)
    split = Split(rows, held, size - held, first)

    state = settings.standardized(ensemble, state, carried, rows, split.trained)
    steps = settings.steps(split.kept, first)
    sample = split.sample(boot_key, ensemble.members, settings.bootstrap)
    standard = Rows(state.inputs.normalize(rows.x), state.targets.normalize(rows.y), rows.flags)
    standardized = split._replace(rows=standard)
    body = _gradient_step(order_key, _drop_key(key), ensemble, settings, standardized, sample, steps)
    zero = jnp.zeros(())
    opt_state = settings.optimizer.init(state.params) if settings.reset_moments else carried.opt_state
    now = Progress(state, opt_state, zero, zero, jnp.zeros((), jnp.int32))
    stopped: dict[str, Array] = {}
    if settings.early_stopping:
        batches = settings.batches(split.kept, first)
        now, steps, stopped = stopping_early(
            settings.rule, ensemble, split, body, now, steps=steps, batches=batches, least=settings.min_steps
        )
    else:
        now = jax.lax.fori_loop(0, steps, body, now)
    metrics = {
        "gradient_steps": steps,
        "skipped_steps": now.skipped,
        "first_loss": now.first_loss,
        "train_loss": now.loss_sum / jnp.maximum(steps - now.skipped, 1),
        **errors(ensemble, now.state, split, settings.log_rows, out=settings.holdout > 0),
        **stopped,
    }
    return Fitted(now.state, Carried(now.opt_state, first), metrics)


def _gradient_step(
    order_key: Key[Array, ""],
    drop_key: Key[Array, ""],
    ensemble: Ensemble,
    settings: Fit,
    split: Split,
    sample: Sample,
    steps: Int[Array, ""],
) -> Callable[[Int[Array, ""], Progress], Progress]:
    """Gradient step number `i` of `steps`, on standardised rows."""
    keys = jax.random.split(order_key, ensemble.members)

    def step(i: Int[Array, ""], now: Progress) -> Progress:
        index, weight = _batch(i, keys, settings, sample, split.kept, split.first)
        batch = split.at(index)
        pace = 0.5 * (1.0 + jnp.cos(jnp.pi * i / steps)) if settings.anneal else 1.0
        key = jax.random.fold_in(drop_key, i) if ensemble.dropout else None
        state, opt_state, loss, ok = update(
            ensemble, settings.optimizer, now.state, now.opt_state, batch, weight, pace, key
        )
        first_loss = jnp.where(i == 0, loss, now.first_loss)
        return Progress(state, opt_state, now.loss_sum + loss, first_loss, now.skipped + ~ok)

    return step


def _batch(
    i: Int[Array, ""],
    keys: Key[Array, "members"],
    settings: Fit,
    sample: Sample,
    size: Int[Array, ""],
    first: Int[Array, ""],
) -> tuple[Int[Array, "members batch"], Float[Array, "batch"]]:
    """Rows of gradient step `i`, and their weights."""
    if settings.new_share is None:
        place, weight = minibatch(i, keys, size, settings.batch_size)
        return sample(place), weight
    new, batches = settings.new_rows(size, first), settings.batches(size, first)
    return mixed_minibatch(i, keys, new, batches, size, first, settings.batch_size)


def _noise_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """Another one of these, see `_drop_key`."""
    return jax.random.fold_in(key, 2**31 - 2)


def _drop_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """A key that is none of those that splitting `key` gives: `fold_in(key, i)` is `split(key, n)[i]` for i < n."""
    return jax.random.fold_in(key, 2**31 - 3)
