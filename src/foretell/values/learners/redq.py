"""Soft actor-critic with an ensemble of critics: targets take the least of a random few, the policy the mean of all.

Chen et al. 2021, "Randomized ensembled double Q-learning: learning fast without a model" (REDQ). The scale of the
values is that of Kubo et al. 2025 (DHMBPO).
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field, PositiveInt, model_validator

from foretell.registry import register
from foretell.values.learners.networks import join, predict
from foretell.values.learners.sac import SAC
from foretell.values.learners.state import LearnerState, ValueRange


@register("learner", "redq")
class REDQ(SAC):
    """The policy is that of SAC. Every critic is one network, and learns from the whole minibatch."""

    pair: ClassVar[int] = 1

    kind: str = "redq"
    critics: PositiveInt = 5
    assignment: Literal["balanced", "independent", "all"] = "all"
    subset: PositiveInt = 2
    """Critics, drawn at each update, whose least value targets use."""
    reward_quantile: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    """Scale the outputs of the critics to the range that values can have, and clip values in targets to it. The range
    goes from this quantile of rewards, with their entropy bonus, to the opposite one (0.01: the 1st and the 99th
    percentile), each earned for ever, and includes 0. Null: no scale. For agents that imagine by
    `improvement.kind=gradient`."""
    range_tau: Annotated[float, Field(gt=0, le=1)] = 3e-4
    """At each update the range moves by this share of its distance from that of the newest rewards."""

    @model_validator(mode="after")
    def _check_subset(self) -> "REDQ":
        if self.subset > self.critics:
            raise ValueError(f"subset ({self.subset}) must be at most {self.critics}, the number of critics")
        return self

    def init(self, key: Key[Array, ""], feature_size: int, action_size: int) -> LearnerState:
        """Untrained networks. Where values are scaled, all are at the centre of the range."""
        state = super().init(key, feature_size, action_size)
        if self.reward_quantile is None:
            return state
        *weights, last = state.critics.weights
        critics = replace(state.critics, weights=(*weights, jnp.zeros_like(last)))
        start = ValueRange(-jnp.ones(()), jnp.ones(()), jnp.zeros((), bool))
        return state._replace(critics=critics, target_critics=critics, value_range=start)

    def rescaled(self, state: LearnerState, reward: Float[Array, "*rows"]) -> LearnerState:
        """With the range of values after these rewards, which include entropy bonuses; NaN where one does not count."""
        if state.value_range is None or self.reward_quantile is None:
            return state
        old, share = state.value_range, jnp.array([self.reward_quantile, 1.0 - self.reward_quantile])
        forever = jnp.nanquantile(reward, share) / (1.0 - self.discount)
        low, high = jnp.minimum(forever[0], 0.0), jnp.maximum(forever[1], 0.0)
        rate = jnp.where(old.known, self.range_tau, 1.0) * (jnp.isfinite(low) & jnp.isfinite(high))
        low, high = (a + jnp.where(rate > 0, rate * (b - a), 0.0) for a, b in ((old.low, low), (old.high, high)))
        return state._replace(value_range=ValueRange(low, high, old.known | (rate > 0)))

    def target_values(
        self,
        state: LearnerState,
        features: Float[Array, "*rows features"],
        action: Float[Array, "*rows action"],
        bonus: Float[Array, "*rows"],
    ) -> Float[Array, "critics *rows"]:
        """The least value of a random few of the target critics, the same few for all rows; one row."""
        del bonus
        chosen = jax.random.permutation(jax.random.fold_in(jax.random.key(0), state.updates), self.critics)
        few = jax.tree.map(lambda a: a[chosen[: self.subset]], state.target_critics)
        x = join(features, action)
        least = predict(few, jnp.broadcast_to(x, (self.subset, *x.shape)), 1).min(0)
        scale = state.value_range
        return least if scale is None else jnp.clip(scale.value(least), scale.low, scale.high)

    def to_value(self, state: LearnerState, output: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """Scaled to the range of values."""
        return output if state.value_range is None else state.value_range.value(output)

    def to_output(self, state: LearnerState, value: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """The inverse of `to_value`."""
        return value if state.value_range is None else state.value_range.output(value)
