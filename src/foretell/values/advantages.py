"""Advantages and returns of steps of one policy, in the order in which they were taken.

Schulman, Moritz, Levine, Jordan, Abbeel: "High-dimensional continuous control using generalized advantage estimation",
ICLR 2016 (GAE).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_LEAST_STD = 1e-8
"""Added to the deviation of advantages (rllab), so that equal ones can be standardised."""


class Steps(NamedTuple):
    """Consecutive steps of environments in lock-step, and what the baseline said of them."""

    reward: Float[Array, "time environments"]
    value: Float[Array, "time environments"]
    """The baseline's value of the observation at which an action was chosen."""
    next_value: Float[Array, "time environments"]
    """Likewise, of the observation to which it led, in the same episode."""
    terminated: Bool[Array, "time environments"]
    """Nothing follows."""
    over: Bool[Array, "time environments"]
    """The last of an episode, terminated or cut."""


class Estimates(NamedTuple):
    """What a policy and its baseline learn from."""

    advantage: Float[Array, "time environments"]
    returns: Float[Array, "time environments"]
    """Discounted sums of rewards."""


def estimate(steps: Steps, *, discount: float, gae_lambda: float, bootstrap: bool) -> Estimates:
    """GAE, and discounted returns.

    Sums run to the end of an episode or of the steps. Where they stop short of a termination, the next value stands for
    what would follow if `bootstrap`, and nothing otherwise (rllab).
    """
    ends = steps.over.at[-1].set(True)
    known = ~steps.terminated if bootstrap else ~ends
    goes_on = jnp.where(ends, 0.0, discount)
    after = jnp.where(known, discount * steps.next_value, 0.0)
    advantage = _accumulate(steps.reward + after - steps.value, gae_lambda * goes_on)
    returns = _accumulate(steps.reward + jnp.where(ends, after, 0.0), goes_on)
    return Estimates(advantage, returns)


def standardised(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """With a mean of 0 and a deviation of 1."""
    return (x - x.mean()) / (x.std() + _LEAST_STD)


def explained_variance(value: Float[Array, "*shape"], returns: Float[Array, "*shape"]) -> Float[Array, ""]:
    """The share of the returns' variance that values account for: at most 1, below 0 if worse than a constant.

    0 where the returns do not vary.
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
