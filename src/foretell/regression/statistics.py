"""Statistics of the rows that networks are trained on: standardisation, and noise in units of their spread."""

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from foretell.nn import Normalizer, fit_normalizer, identity_normalizer
from foretell.regression.ensemble import Ensemble, EnsembleState
from foretell.regression.prediction import Rows


def restandardized(
    ensemble: Ensemble, state: EnsembleState, known: Bool[Array, ""], rows: Rows, trained: Bool[Array, "rows"]
) -> EnsembleState:
    """The ensemble with the statistics of rows.

    Args:
        ensemble: which statistics it wants.
        state: the ensemble so far.
        known: whether it has statistics of earlier rows.
        rows: in their own units.
        trained: which of them count.
    """
    if not ensemble.standardize:
        return state
    inputs = fit_normalizer(rows.x, trained, min_std=ensemble.min_std)
    found = fit_normalizer(rows.y, trained, min_std=ensemble.min_std)
    if ensemble.stays_constant:
        inputs, found = (_stay(known, old, new) for old, new in ((state.inputs, inputs), (state.targets, found)))
    targets = identity_normalizer(rows.y.shape[-1])
    if ensemble.scale_targets:
        targets = targets._replace(std=found.std)
    if ensemble.center_targets:
        targets = targets._replace(mean=found.mean)
    return replace(state, inputs=inputs, targets=targets)


def _stay(known: Bool[Array, ""], old: Normalizer, new: Normalizer) -> Normalizer:
    """The new statistics, but a standard deviation of exactly 1 stays: that is what constant values have."""
    return new._replace(std=jnp.where(known & (old.std == 1.0), 1.0, new.std))


def noisy(
    key: Key[Array, ""],
    rows: Rows,
    valid: Bool[Array, "rows"],
    exact: slice,
    noise: float,
    unit: Literal["std", "mean"],
) -> Rows:
    """The rows with noise on features and targets (Nagabandi et al. 2018, section IV-B).

    Args:
        key: for the noise.
        rows: the rows.
        valid: those that the scale is computed from.
        exact: columns of the inputs that get none: actions.
        noise: its standard deviation in units of `unit`.
        unit: what is multiplied, see `Fit.noise_scale`.
    """

    def shaken(key: Key[Array, ""], a: Float[Array, "rows n"]) -> Float[Array, "rows n"]:
        mean, std = fit_normalizer(a, valid, min_std=0.0)
        scale = std if unit == "std" else jnp.maximum(mean, 0.0)
        return a + noise * scale * jax.random.normal(key, a.shape)

    in_key, out_key = jax.random.split(key)
    before, actions, after = rows.x[:, : exact.start], rows.x[:, exact], rows.x[:, exact.stop :]
    features = shaken(in_key, jnp.concatenate([before, after], -1))
    x = jnp.concatenate([features[:, : exact.start], actions, features[:, exact.start :]], -1)
    return rows._replace(x=x, y=shaken(out_key, rows.y))
