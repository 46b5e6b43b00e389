"""Ways to carry particles through an ensemble (Chua et al. 2018, section 4.2).

A propagation is a function of the predictor, the inputs of all particles and unit noise; it returns a sample of every
particle's outputs and the logits of the yes/no outputs. Particles lead, so that a member's particles are adjacent and
become rows of one matrix multiply without a copy.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from foretell.worldmodel.ensemble import Prediction

Propagation = Callable[[Callable[[Array], Prediction], int, Array, Array], tuple[Array, Array]]


def ts_inf(
    predictor: Callable[[Array], Prediction],
    members: int,
    inputs: Float[Array, "particles candidates in"],
    noise: Float[Array, "particles _candidates out"],
) -> tuple[Float[Array, "particles candidates out"], Float[Array, "particles candidates flags"]]:
    """TSinf: particle `p` of `P` is served by member `floor(p / (P / members))` at every step."""
    particles, candidates, _ = inputs.shape
    mean, logvar, logits = predictor(inputs.reshape(members, -1, inputs.shape[-1]))
    mean, std, logits = (a.reshape(particles, candidates, -1) for a in (mean, jnp.exp(0.5 * logvar), logits))
    return mean + std * noise, logits


PROPAGATIONS: dict[str, Propagation] = {"TSinf": ts_inf}
