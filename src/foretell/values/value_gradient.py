"""The gradient of an N-step soft return through a world model, and the critics' targets along the same rollout.

Heess et al. 2015, "Learning continuous control policies by stochastic value gradients" (SVG); Amos et al. 2021, "On the
model-based stochastic value gradient for continuous reinforcement learning" (SAC-SVG); Kubo et al. 2025 (DHMBPO).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from foretell.models import survival
from foretell.values.expansion import Expansion, Frames


class Path(NamedTuple):
    """Imagined steps under a policy, through which gradients flow; `times` is the number of steps plus 1."""

    features: Float[Array, "times rows features"]
    """Of where the rollout began, and of where every step led."""
    action: Float[Array, "times rows action"]
    """In units in which the bounds are -1 and 1."""
    bonus: Float[Array, "times rows"]
    """Entropy bonus of the action, in the units of values."""
    reward: Float[Array, "steps rows"]
    """In the units of values."""
    terminated: Float[Array, "steps rows"]
    """Probability that the step ends the episode."""


def soft_return(path: Path, value: Float[Array, "rows"], discount: float) -> Float[Array, "rows"]:
    """The discounted return with entropy bonuses, the first one included, and the value of where the rollout ends.

    Every term is multiplied by the probability that the episode goes on so far, which counts as constant.

    Args:
        path: the rollout.
        value: of the last action, without its bonus.
        discount: factor on the next time step.
    """
    onward = jax.lax.stop_gradient(survival(path.terminated)[1])
    alive = jnp.concatenate([jnp.ones_like(onward[:1]), onward])
    weight = alive * discount ** jnp.arange(len(alive), dtype=alive.dtype)[:, None]
    terms = jnp.concatenate([path.reward, value[None]]) + path.bonus
    return jnp.where(weight > 0, weight * terms, 0.0).sum(0)


def path_targets(path: Path, value: Float[Array, "rows"], discount: float) -> Float[Array, "rows"]:
    """The critics' targets for the first pairs of a rollout: the expansion by all but its first step.

    Args:
        path: the rollout.
        value: of the last action, by the target critics, without its bonus.
        discount: factor on the next time step.
    """
    steps = len(path.reward)
    padded = jnp.zeros((steps, *value.shape)).at[-1].set(value)
    obs, action, bonus = (a[1:, None] for a in (path.features, path.action, path.bonus))
    frames = Frames(obs, action, path.reward[:, None, None], path.terminated[:, None], bonus, padded[:, None, None])
    longest = Expansion(horizon=steps - 1, reduction="last")
    return longest.targets(jax.lax.stop_gradient(frames), discount).target[0]
