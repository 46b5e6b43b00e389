"""Optimiser steps that are taken only where they are sound."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PyTree

from foretell.nn.mlp import MLP

Params = TypeVar("Params", bound=PyTree)


def all_finite(loss: Float[Array, ""], grads: PyTree) -> Bool[Array, ""]:
    """Whether the loss, the gradients and their squares, which Adam takes, are finite.

    Of a network only the biases are looked at: what flows back to a layer's weights flows to its biases too, and they
    are few.
    """
    networks = jax.tree.leaves(grads, is_leaf=_is_network)
    leaves = jax.tree.leaves([node.biases if _is_network(node) else node for node in networks])
    return jnp.isfinite(loss + jnp.square(jnp.concatenate([leaf.ravel() for leaf in leaves])).sum())


def step_if(
    ok: Bool[Array, ""],
    optimizer: optax.GradientTransformation,
    grads: Params,
    params: Params,
    opt_state: optax.OptState,
    pace: Float[Array, ""] | float = 1.0,
) -> tuple[Params, optax.OptState]:
    """Parameters and moments after a step `pace` times as long as the optimiser's, or unchanged where not `ok`.

    Gradients that are not finite, or whose squares are not, count as 0. To refuse the whole step because of one, it
    would have to wait for all of them, and go through parameters and moments once more.
    """
    grads = jax.tree.map(lambda g: jnp.where(jnp.isfinite(jnp.square(g)), g, 0.0), grads)
    updates, stepped = optimizer.update(grads, opt_state, params)
    found = optax.apply_updates(params, optax.tree.scale(pace, updates)), stepped
    return jax.tree.map(lambda new, old: jnp.where(ok, new, old), found, (params, opt_state))


def _is_network(node: object) -> bool:
    return isinstance(node, MLP)
