"""Value targets that follow a model for a few steps before they trust the critics, and ways to weigh their horizons.

Buckman et al. 2018, "Sample-efficient reinforcement learning with stochastic ensemble value expansion".

Every real transition is continued by a short imagined rollout. Its frame 0 is the observation that really came next,
frame `j` what the model expects `j` steps later. The candidate of horizon `j` sums the real reward and those of the
`j` imagined steps, and ends in the value of frame `j`; that of horizon 0 is the plain one-step target. Each is weighted
by the chance that the episode goes on so far. A candidate has one sample for every choice of a transition, a reward and
a critic member. The target is a weighted sum over horizons of the samples' means:

| reduction | weights |
|---|---|
| `last` | the longest horizon alone (MVE, Feinberg et al. 2018) |
| `mean` | all horizons alike |
| `lambda` | `(1 - lambda) lambda^j`, and `lambda^H` for the longest horizon `H` |
| `inverse-variance` | in proportion to `1 / (variance over samples + 1e-8)` (STEVE) |
| `inverse-covariance` | those whose weighted sum varies least over samples (COV-STEVE); they may be negative |
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field, NonNegativeInt, model_validator

from foretell import registry
from foretell.models import Params, WorldModel, rollout, start, survival
from foretell.registry import register
from foretell.replay import Transitions
from foretell.settings import Name, Settings

ReductionName = Annotated[str, Name("reduction")]
EPSILON = 1e-8
"""Added to variances before they are inverted, and to the chance of reaching a frame before it divides."""
RIDGE = 1e-3
"""Added to the variances of `inverse-covariance`."""

_UNROLLED = 8
"""Imagined steps that are compiled as straight code."""

Act = Callable[[Key[Array, ""], Array, Array], tuple[Array, tuple[Array, Array]]]
"""(key, observations, time) -> actions in the environment's units, and what is kept of them: the action in units in
which the bounds are -1 and 1, and its entropy bonus, `-alpha log pi` (SAC) or 0."""
Value = Callable[[Array, Array], Float[Array, "critics frames particles batch"]]
"""(observations, actions) -> every critic's value, of what follows and without the entropy bonus of the actions."""


class Frames(NamedTuple):
    """Imagined frames behind real transitions; `frames` is the horizon plus 1. All of it is constant to gradients."""

    obs: Float[Array, "frames particles batch obs"]
    """Frame 0 is the real next observation, in every particle."""
    action: Float[Array, "frames particles batch action"]
    """What the policy does there, in units in which the bounds are -1 and 1."""
    reward: Float[Array, "frames rewards particles batch"]
    """For the step into the frame; that of frame 0 is real."""
    terminated: Float[Array, "frames particles batch"]
    """Probability that the step into the frame ends the episode; that of frame 0 is the real flag."""
    bonus: Float[Array, "frames particles batch"]
    """Entropy bonus of the frame's action, in units of the values."""
    value: Float[Array, "frames critics particles batch"]
    """Of the frame's observation and action, without that bonus."""


class Targets(NamedTuple):
    """What critics should say. Source 0 is the real pair, source `i` the pair of frame `i - 1`."""

    target: Float[Array, "sources batch"]
    weight: Float[Array, "sources batch"]
    """Probability that the source's pair is reached; 1 for the real one."""
    horizon_weights: Float[Array, "frames"]
    """Weight of every horizon in the targets of real pairs, averaged over the batch."""

    @property
    def model_use(self) -> Float[Array, ""]:
        """Weight of all horizons that follow the model."""
        return 1.0 - self.horizon_weights[0]


class Expansion(Settings):
    """Value targets from a model: how far they look ahead, and how their horizons are weighed."""

    horizon: NonNegativeInt = 3
    """Imagined steps of the longest candidate. With 0 the target is the plain one-step target."""
    reduction: ReductionName = "inverse-variance"
    """How the candidates become one target."""
    lambda_return: Annotated[float, Field(ge=0, le=1)] = 0.25
    """The lambda of the reduction `lambda`. With 0 only horizon 0 counts, with 1 only the longest."""
    lambda_per_source: bool = False
    """Count the exponent of lambda from each target's own first step, so that all are lambda-returns (True), or from
    the real transition, so that with `tdk` those of imagined pairs are too small (False, the released code)."""
    covariance_mean: bool = False
    """Average products over samples in `inverse-covariance` (True), or sum them (False, the released code), which makes
    its ridge of 0.001 count less."""
    tdk: bool = False
    """Train critics on the imagined pairs too (MVE), and not only on the real one (STEVE)."""

    @model_validator(mode="after")
    def _check(self) -> "Expansion":
        if self.tdk and not self.horizon:
            raise ValueError("tdk trains on imagined pairs, but with horizon 0 there are none")
        return self

    def targets(self, frames: Frames, discount: float, reward_scale: float = 1.0) -> Targets:
        """Targets of the real pairs, and with `tdk` of all imagined pairs but the last frame's."""
        sources = len(frames.reward) if self.tdk else 1
        rows = candidates(frames, discount=discount, reward_scale=reward_scale, sources=sources)
        target, weights = zip(*(self.reduce(row, source) for source, row in enumerate(rows)), strict=True)
        reach, _ = survival(frames.terminated)
        return Targets(jnp.stack(target), reach[:sources].mean(1), weights[0].mean(1))

    def reduce(
        self, row: Float[Array, "frames samples batch"], source: int = 0
    ) -> tuple[Float[Array, "batch"], Float[Array, "frames batch"]]:
        """The target of a source, and the weight of each horizon in it; `row` holds the source's candidates."""
        mean, deviation = centre(row[source:])
        reduction: Reduction = registry.find("reduction", self.reduction)
        weights = reduction(deviation, source, self)
        return (weights * mean).sum(0), jnp.pad(weights, ((source, 0), (0, 0)))


def imagine(
    key: Key[Array, ""],
    horizon: int,
    real: Transitions,
    *,
    model: WorldModel | None,
    params: Params,
    particles: int,
    act: Act,
    value: Value,
) -> Frames:
    """Follow a policy in imagination from where real transitions led.

    Args:
        key: for the policy's and the model's noise.
        horizon: imagined steps; 0 needs no model.
        real: the transitions.
        model: the world model.
        params: what it needs.
        particles: trajectories from each transition.
        act: the policy; it keeps the action in units in which the bounds are -1 and 1, and its entropy bonus.
        value: of such actions.
    """
    begin_key, roll_key, last_key = jax.random.split(key, 3)
    first = jnp.broadcast_to(real.next_obs, (particles, *real.next_obs.shape))
    reward = jnp.broadcast_to(real.reward, (1, 1, particles, len(real.reward)))
    ends = jnp.broadcast_to(real.terminated.astype(reward.dtype), (1, particles, len(real.reward)))
    obs, kept = first[None], jax.tree.map(lambda a: a[None], act(last_key, first, jnp.int32(horizon))[1])
    if horizon:
        assert model is not None
        begin = start(model, params, real.next_obs, begin_key, particles)
        steps = rollout(model, params, begin, act, horizon, roll_key, unroll=min(horizon, _UNROLLED))
        _, last = act(last_key, steps.end.obs, jnp.int32(horizon))
        obs, kept = steps.obs, jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), steps.extras, last)
        opinions = steps.reward.shape[1]
        reward = jnp.concatenate([jnp.broadcast_to(reward, (1, opinions, *reward.shape[2:])), steps.reward])
        ends = jnp.concatenate([ends, steps.terminated])
    action, bonus = kept
    frames = Frames(obs, action, reward, ends, bonus, jnp.moveaxis(value(obs, action), 0, 1))
    return jax.lax.stop_gradient(frames)


def candidates(
    frames: Frames, *, discount: float, reward_scale: float, sources: int
) -> Float[Array, "sources frames samples batch"]:
    """Samples of the target of each of the first sources by horizon; 0 where the horizon lies before the source.

    Of the bonuses a target counts those of later actions, not that of its own pair (Haarnoja et al. 2018, SAC).
    """
    reach, onward = survival(frames.terminated)

    def row(source: int) -> Float[Array, "frames samples batch"]:
        later = Frames(*(a[source:] for a in frames))
        powers = discount ** jnp.arange(len(later.reward), dtype=reach.dtype)[:, None, None]
        given = powers / (reach[source] + EPSILON)
        here, beyond = given * reach[source:], discount * given * onward[source:]
        rewards = reward_scale * here[:, None] * later.reward + (beyond * later.bonus)[:, None]
        ends = beyond[:, None] * later.value
        samples = jnp.cumsum(rewards, 0)[:, :, None] + ends[:, None]
        return jnp.pad(samples.reshape(*samples.shape[:1], -1, samples.shape[-1]), ((source, 0), (0, 0), (0, 0)))

    return jnp.stack([row(source) for source in range(sources)])


def centre(
    samples: Float[Array, "frames samples batch"],
) -> tuple[Float[Array, "frames batch"], Float[Array, "frames samples batch"]]:
    """Means over samples, and deviations from them, which are exactly 0 where all samples are equal."""
    shifted = samples - samples[:, :1]
    shift = shifted.mean(1)
    return samples[:, 0] + shift, shifted - shift[:, None]


Deviation = Float[Array, "ends samples batch"]
"""Of the samples of a source's candidates from their means; `ends` counts the horizons from the source on."""
Weights = Float[Array, "ends batch"]
Reduction = Callable[[Deviation, int, "Expansion"], Weights]
"""(deviations, source, settings) -> the weight of each horizon from the source on; further ones register themselves."""


def _alike(weights: Float[Array, "ends"], deviation: Deviation) -> Weights:
    """The same weights for the whole batch."""
    return jnp.broadcast_to(weights[:, None], deviation[:, 0].shape)


@register("reduction", "last")
def _last(deviation: Deviation, source: int, settings: Expansion) -> Weights:
    return _alike(jnp.zeros_like(deviation[:, 0, 0]).at[-1].set(1.0), deviation)


@register("reduction", "mean")
def _mean(deviation: Deviation, source: int, settings: Expansion) -> Weights:
    return jnp.full_like(deviation[:, 0], 1.0 / len(deviation))


@register("reduction", "lambda")
def _lambda(deviation: Deviation, source: int, settings: Expansion) -> Weights:
    first = 0 if settings.lambda_per_source else source
    powers = settings.lambda_return ** jnp.arange(first, first + len(deviation), dtype=deviation.dtype)
    return _alike(((1.0 - settings.lambda_return) * powers).at[-1].set(powers[-1]), deviation)


@register("reduction", "inverse-variance")
def _inverse_variance(deviation: Deviation, source: int, settings: Expansion) -> Weights:
    weights = 1.0 / (jnp.square(deviation).mean(1) + EPSILON)
    return weights / weights.sum(0)


@register("reduction", "inverse-covariance")
def _inverse_covariance(deviation: Deviation, source: int, settings: Expansion) -> Weights:
    """Weights that sum to 1 and make the weighted sum vary least: `C^-1 1 / (1' C^-1 1)`, of the ridged covariance `C`.

    Unknown are the weights of all horizons from each later one on, which multiply the differences of neighbours. Those
    are small and have little in common, while horizons share most of their spread and `C` is all but singular.
    """
    ridge = RIDGE * (deviation.shape[1] if settings.covariance_mean else 1)
    steps = jnp.diff(deviation, axis=0)
    ridge_steps = jnp.diff(jnp.eye(len(deviation), dtype=deviation.dtype), axis=0)
    products = jnp.moveaxis((steps[:, None] * steps).sum(2), -1, 0) + ridge * ridge_steps @ ridge_steps.T
    right = -(steps * deviation[0]).sum(1).T - ridge * ridge_steps[:, 0]
    onward = jnp.linalg.solve(products, right[..., None])[..., 0].T
    return -jnp.diff(onward, axis=0, prepend=jnp.ones_like(deviation[:1, 0]), append=jnp.zeros_like(deviation[:1, 0]))
