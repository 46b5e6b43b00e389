"""Optimiser steps that are taken only where they are sound."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PyTree

Params = TypeVar("Params", bound=PyTree)


def all_finite(loss: Float[Array, ""], grads: PyTree) -> Bool[Array, ""]:
    """Whether the loss, every gradient and its square, which Adam takes, are finite."""
    return jnp.isfinite(loss + sum(jnp.square(g).sum() for g in jax.tree.leaves(grads)))


def step_if(
    ok: Bool[Array, ""],
    optimizer: optax.GradientTransformation,
    grads: Params,
    params: Params,
    opt_state: optax.OptState,
    pace: Float[Array, ""] | float = 1.0,
) -> tuple[Params, optax.OptState]:
    """Parameters and moments after a step `pace` times as long as the optimiser's, or unchanged where not `ok`."""

    updates, stepped = optimizer.update(grads, opt_state, params)
    found = optax.apply_updates(params, optax.tree.scale(pace, updates)), stepped
    return jax.tree.map(lambda new, old: jnp.where(ok, new, old), found, (params, opt_state))
