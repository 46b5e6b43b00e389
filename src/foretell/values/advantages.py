"""Advantages and returns of the steps of one policy, in the order in which they were taken.

Schulman, Moritz, Levine, Jordan, Abbeel: "High-dimensional continuous control using generalized advantage estimation",
ICLR 2016 (GAE).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_LEAST_STD = 1e-8
"""Added to the standard deviation of advantages (rllab), so that equal ones can be standardised."""


class Steps(NamedTuple):
    """Consecutive steps of environments that are stepped together, and the baseline's values."""

    reward: Float[Array, "time environments"]
    value: Float[Array, "time environments"]
    """The baseline's value of the observation before the step."""
    next_value: Float[Array, "time environments"]
    """The baseline's value of the observation after the step, in the same episode."""
    terminated: Bool[Array, "time environments"]
    """Marks steps that terminate their episode."""
    over: Bool[Array, "time environments"]
    """Marks the last steps of episodes, terminated or truncated."""


class Estimates(NamedTuple):
    """What a policy and its baseline learn from."""

    advantage: Float[Array, "time environments"]
    returns: Float[Array, "time environments"]
    """Discounted sums of rewards."""


def estimate(steps: Steps, *, discount: float, gae_lambda: float, bootstrap: bool) -> Estimates:
    """Generalized advantage estimates, and discounted returns (Schulman et al. 2016, equation 16).

    Args:
        steps: the steps; sums run to the end of the episode, or to the last of the steps.
        discount: factor on the value of the next time step.
        gae_lambda: 1 gives returns less the baseline, 0 gives one-step advantages.
        bootstrap: whether the next value stands for the rewards after an end that is no termination; if not, they count
            as 0 (rllab).
    """
    ends = steps.over.at[-1].set(True)
    known = ~steps.terminated if bootstrap else ~ends
    goes_on = jnp.where(ends, 0.0, discount)
    after = jnp.where(known, discount * steps.next_value, 0.0)
    advantage = _accumulate(steps.reward + after - steps.value, gae_lambda * goes_on)
    returns = _accumulate(steps.reward + jnp.where(ends, after, 0.0), goes_on)
    return Estimates(advantage, returns)


def standardised(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Shifted and scaled to a mean of 0 and a standard deviation of 1."""
    return (x - x.mean()) / (x.std() + _LEAST_STD)


def explained_variance(value: Float[Array, "*shape"], returns: Float[Array, "*shape"]) -> Float[Array, ""]:
    """The share of the returns' variance that the values explain: at most 1, below 0 if worse than a constant.

    It is 0 where the returns do not vary.
    """
    total = returns.var()
    return jnp.where(total > 0, 1.0 - (returns - value).var() / jnp.where(total > 0, total, 1.0), 0.0)


def _accumulate(
    x: Float[Array, "time environments"], decay: Float[Array, "time environments"]
) -> Float[Array, "time environments"]:
    """`y[t] = x[t] + decay[t] y[t + 1]`, from the last step backwards."""

    def body(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        total = now[0] + now[1] * later
        return total, total

    return jax.lax.scan(body, jnp.zeros_like(x[0]), (x, decay), reverse=True)[1]
