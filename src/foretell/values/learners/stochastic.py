"""What learners of stochastic policies share: the action is `tanh` of a sample of a diagonal Gaussian."""

import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import PositiveFloat, model_validator

from foretell.nn import MLP
from foretell.values.learners.base import Learner
from foretell.values.learners.networks import policy_output

_LEAST_STD = 1e-5
"""Of a policy whose standard deviation is a softplus."""


class Stochastic(Learner):
    """An actor-critic learner whose policy is a distribution. Its network's outputs are means, then log-stds."""

    policy_outputs: ClassVar[int] = 2

    log_std_range: tuple[float, float] = (-20.0, 2.0)
    """Bounds to which the logarithms of the standard deviations are clipped."""
    std: Literal["log", "softplus"] = "log"
    """What the network's second outputs are: logarithms of the standard deviations (`log`), or numbers whose softplus,
    plus 1e-5, is the standard deviation (`softplus`: DHMBPO)."""
    mean_limit: PositiveFloat | None = None
    """Means are clipped to plus and minus this before `tanh`; null: no clipping."""

    @model_validator(mode="after")
    def _check_range(self) -> "Stochastic":
        if self.log_std_range[0] >= self.log_std_range[1]:
            raise ValueError(f"log_std_range must be (low, high) with low < high, not {self.log_std_range}")
        return self

    def act(
        self, policy: MLP, features: Float[Array, "rows features"], key: Key[Array, ""], *, explore: bool
    ) -> Float[Array, "rows action"]:
        """Actions to execute: samples with `explore`, else the greedy `tanh(mean)`."""
        return self.sample(policy, features, key)[0] if explore else jnp.tanh(self.gaussian(policy, features)[0])

    def gaussian(
        self, policy: MLP, features: Float[Array, "*rows features"]
    ) -> tuple[Float[Array, "*rows action"], Float[Array, "*rows action"]]:
        """Mean and log-std of `u`, of which the action is `tanh(u)`."""
        mean, log_std = jnp.split(policy_output(policy, features), 2, -1)
        if self.mean_limit is not None:
            mean = jnp.clip(mean, -self.mean_limit, self.mean_limit)
        if self.std == "softplus":
            log_std = jnp.log(jax.nn.softplus(log_std) + _LEAST_STD)
        return mean, jnp.clip(log_std, *self.log_std_range)

    def sample(
        self, policy: MLP, features: Float[Array, "*rows features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "*rows action"], Float[Array, "*rows"]]:
        """Actions, and their log-densities."""
        mean, log_std = self.gaussian(policy, features)
        z = jax.random.normal(key, mean.shape)
        u = mean + jnp.exp(log_std) * z
        return jnp.tanh(u), squashed_log_density(u, z, log_std)


def squashed_log_density(
    u: Float[Array, "*rows action"], z: Float[Array, "*rows action"], log_std: Float[Array, "*rows action"]
) -> Float[Array, "*rows"]:
    """Log-density of the action `tanh(u)` (Haarnoja et al. 2018, appendix C).

    Args:
        u: a sample of a diagonal Gaussian.
        z: the distance of `u` from the Gaussian's mean, in standard deviations.
        log_std: logarithm of the standard deviations.
    """
    gaussian = -0.5 * jnp.square(z) - log_std - 0.5 * math.log(2.0 * math.pi)
    # log(1 - tanh(u)^2), in a form that stays finite where tanh(u) rounds to 1.
    slope = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
    return (gaussian - slope).sum(-1)
