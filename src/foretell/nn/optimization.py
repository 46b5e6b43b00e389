"""Optimiser steps that are taken only where they are finite."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PyTree

from foretell.nn.mlp import MLP

Params = TypeVar("Params", bound=PyTree)


def all_finite(loss: Float[Array, ""], grads: PyTree) -> Bool[Array, ""]:
    """Whether the loss, the gradients and their squares, which Adam takes, are finite.

    Of a network only the biases are checked: a gradient that is not finite in a layer's weights is not finite in its
    biases either, and they are few.
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
    """Parameters and the optimiser's state after one step.

    Gradients that are not finite, or whose squares are not, are replaced by 0. To refuse the whole step because of one,
    the step would have to wait for all of them, and pass through parameters and moments once more.

    Args:
        ok: whether to take the step; else everything is returned unchanged.
        optimizer: the optimiser.
        grads: the gradient.
        params: the parameters.
        opt_state: the optimiser's state.
        pace: a factor on the length of the step.
    """
    grads = jax.tree.map(lambda g: jnp.where(jnp.isfinite(jnp.square(g)), g, 0.0), grads)
    updates, stepped = optimizer.update(grads, opt_state, params)
    found = optax.apply_updates(params, optax.tree.scale(pace, updates)), stepped
    return jax.tree.map(lambda new, old: jnp.where(ok, new, old), found, (params, opt_state))


def _is_network(node: object) -> bool:
    return isinstance(node, MLP)
