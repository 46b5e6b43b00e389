"""One gradient step of an ensemble."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key

from foretell.nn import all_finite, step_if
from foretell.nn.regularization import averaged
from foretell.regression.ensemble import Ensemble, EnsembleState
from foretell.regression.prediction import Rows


def update(
    ensemble: Ensemble,
    optimizer: optax.GradientTransformation,
    state: EnsembleState,
    opt_state: optax.OptState,
    batch: Rows,
    weight: Float[Array, "batch"],
    pace: Float[Array, ""] | float,
    key: Key[Array, ""] | None,
) -> tuple[EnsembleState, optax.OptState, Float[Array, ""], Bool[Array, ""]]:
    """One Adam step, scaled by `pace`, or none where the loss is not finite.

    Returns:
        The ensemble, optimiser state, the loss (0 if it or a gradient is not finite), and whether all was finite.
    """
    (_, passed), grads = jax.value_and_grad(ensemble.loss, has_aux=True)(state.params, *batch, weight, key)
    good = jnp.isfinite(passed.error)
    params, opt_state = step_if(good, optimizer, grads, state.params, opt_state, pace)
    moments = state.moments
    if moments is not None and passed.moments is not None:
        new = averaged(moments, passed.moments)
        moments = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, moments)
    ok = all_finite(passed.error, grads)
    return replace(state, params=params, moments=moments), opt_state, jnp.where(ok, passed.error, 0.0), ok
