"""Value targets that look a few steps ahead in a world model, and the weights of their horizons.

Buckman et al. 2018, "Sample-efficient reinforcement learning with stochastic ensemble value expansion".

Every real transition is continued by a short imagined rollout. Its frame 0 is the real next observation, and frame `j`
the model's prediction `j` steps later. The candidate of horizon `j` is the sum of the real reward, the rewards of the
`j` imagined steps and the value of frame `j`; that of horizon 0 is the one-step target. Each term is multiplied by the
probability that the episode goes on so far. A candidate has one sample for every choice of a transition, a reward and a
critic network. The target is a weighted sum over horizons of the samples' means:

| reduction | weights |
|---|---|
| `last` | the longest horizon alone (MVE, Feinberg et al. 2018) |
| `mean` | the same for all horizons |
| `lambda` | `(1 - lambda) lambda^j`, and `lambda^H` for the longest horizon `H` |
| `inverse-variance` | in proportion to `1 / (variance over samples + 1e-8)` (STEVE) |
| `inverse-covariance` | those whose weighted sum varies least over samples (COV-STEVE); they may be negative |
"""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field, NonNegativeInt, model_validator

from foretell import registry
from foretell.models import Params, WorldModel, rollout, start, survival
from foretell.registry import register
from foretell.replay import Transitions
from foretell.settings import Name, Settings
from foretell.values.learners.state import Visits

ReductionName = Annotated[str, Name("reduction")]
EPSILON = 1e-8
"""Added to variances before they are inverted, and to the probability of reaching a frame before dividing by it."""
RIDGE = 1e-3
"""Added to the variances of `inverse-covariance`."""

_UNROLLED = 8
"""Imagined steps that are compiled as straight code."""

Act = Callable[[Key[Array, ""], Array, Array], tuple[Array, tuple[Array, Array]]]
"""(key, observations, time) -> actions in the environment's units; with them the same actions in units in which the
bounds are -1 and 1, and their entropy bonus, `-alpha log pi` (SAC) or 0."""
Value = Callable[[Array, Array, Array], Float[Array, "critics frames particles batch"]]
"""(observations, actions, their entropy bonus) -> every critic's value, without that bonus."""


class Frames(NamedTuple):
    """Imagined continuations of real transitions; `frames` is the horizon plus 1. Gradients do not flow through it."""

    obs: Float[Array, "frames particles batch obs"]
    """Frame 0 is the real next observation, in every particle."""
    action: Float[Array, "frames particles batch action"]
    """The policy's action there, in units in which the bounds are -1 and 1."""
    reward: Float[Array, "frames rewards particles batch"]
    """Of the step into the frame, from every reward network; that of frame 0 is real."""
    terminated: Float[Array, "frames particles batch"]
    """Probability that the step into the frame ends the episode; that of frame 0 is the real flag."""
    bonus: Float[Array, "frames particles batch"]
    """Entropy bonus of the frame's action, in the units of values."""
    value: Float[Array, "frames critics particles batch"]
    """Every critic's value of the frame's observation and action, without that bonus."""


class Targets(NamedTuple):
    """Targets of the critics. Source 0 is the real pair, source `i` the pair of frame `i - 1`."""

    target: Float[Array, "sources batch"]
    weight: Float[Array, "sources batch"]
    """Probability that the source's pair is reached; 1 for the real one."""
    horizon_weights: Float[Array, "frames"]
    """Weight of every horizon in the targets of real pairs, averaged over the batch."""

    @property
    def model_use(self) -> Float[Array, ""]:
        """Total weight of the horizons that use the model."""
        return 1.0 - self.horizon_weights[0]


class Expansion(Settings):
    """Value targets that look ahead in a world model: how far, and with which weights of the horizons."""

    horizon: NonNegativeInt = 3
    """Horizon of the longest candidate target, in imagined steps. 0: targets are the one-step targets of the
    learner."""
    reduction: ReductionName = "inverse-variance"
    """How the candidates of all horizons are combined into one target."""
    lambda_return: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Lambda of the reduction `lambda`. With 0 only horizon 0 has weight, with 1 only the longest horizon."""
    lambda_per_source: bool = False
    """Where the exponent of lambda starts with `tdk`: at each pair, so that all targets are lambda-returns (true), or
    at the real pair, so that the weights of imagined pairs' targets sum to less than 1 (false, as released)."""
    covariance_mean: bool = False
    """In `inverse-covariance`, average the products over samples (true), or sum them (false, the released code). A sum
    gives the ridge of 0.001 less weight."""
    tdk: bool = False
    """Train the critics also on imagined pairs of observation and action (the TD-k trick of MVE), and not only on real
    ones (STEVE)."""
    divisor: Literal["sources", "horizon", "none"] = "sources"
    """With `tdk`, divide the sum of the losses of a real pair and its imagined pairs by their number, `horizon + 1`
    (`sources`: STEVE), by `horizon` (the paper of MVE), or not at all (`none`)."""
    average: Literal["all", "reached"] = "all"
    """With `tdk`, average the loss of an imagined pair over the whole minibatch (`all`: STEVE), or over the transitions
    whose episodes reach it (`reached`: MVE)."""
    ends: Literal["model", "never"] = "model"
    """Imagined episodes end where the model or the task predicts termination (`model`: STEVE), or never (MVE)."""

    @model_validator(mode="after")
    def _check(self) -> "Expansion":
        if self.tdk and not self.horizon:
            raise ValueError("tdk needs imagined pairs, but horizon is 0; raise horizon, or set tdk=false")
        if not self.tdk and (self.divisor != "sources" or self.average != "all"):
            raise ValueError("divisor and average are for tdk=true: without it there is one source, the real pair")
        return self

    def targets(self, frames: Frames, discount: float, reward_scale: float = 1.0) -> Targets:
        """Targets of the real pairs, and with `tdk` of all imagined pairs but those of the last frame.

        Args:
            frames: the imagined continuations.
            discount: factor on the value of the next time step.
            reward_scale: factor on rewards.
        """
        sources = len(frames.reward) if self.tdk else 1
        rows = candidates(frames, discount=discount, reward_scale=reward_scale, sources=sources)
        target, weights = zip(*(self.reduce(row, source) for source, row in enumerate(rows)), strict=True)
        return Targets(jnp.stack(target), self._weights(frames, sources), weights[0].mean(1))

    def _weights(self, frames: Frames, sources: int) -> Float[Array, "sources batch"]:
        """By which critics divide the mean over sources: the probabilities of getting there, scaled as settings say."""
        reach = survival(frames.terminated)[0][:sources].mean(1)
        if self.average == "reached":
            reach = jnp.concatenate([reach[:1], over_reached(reach[1:]) * reach.shape[1]])
        return reach * {"sources": 1.0, "horizon": sources / max(sources - 1, 1), "none": float(sources)}[self.divisor]

    def visits(self, frames: Frames, features: Float[Array, "frames particles batch features"]) -> Visits | None:
        """Where imagination went, for state-value functions; None without `tdk`."""
        if not self.tdk:
            return None
        onward = survival(frames.terminated)[1].mean(1)
        weight = over_reached(onward) if self.average == "reached" else onward / onward.shape[1]
        return Visits(features, frames.action, frames.bonus, weight)

    def reduce(
        self, row: Float[Array, "frames samples batch"], source: int = 0
    ) -> tuple[Float[Array, "batch"], Float[Array, "frames batch"]]:
        """The targets of a source, and the weight of each horizon in them.

        Args:
            row: samples of the source's candidates; those of horizons before the source are not used.
            source: its number.
        """
        mean, centred = centre(row[source:])
        reduction: Reduction = registry.find("reduction", self.reduction)
        weights = reduction(centred, source, self)
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
    ends: bool = True,
) -> Frames:
    """Follow a policy in imagination from the next observations of real transitions.

    Args:
        key: for the policy's and the model's noise.
        horizon: imagined steps; 0 needs no model.
        real: the transitions.
        model: the world model.
        params: what it needs.
        particles: trajectories from each transition.
        act: the policy, see `Act`.
        value: the critics, see `Value`.
        ends: whether imagined episodes end where the model says so, or never.
    """
    begin_key, roll_key, last_key = jax.random.split(key, 3)
    first = jnp.broadcast_to(real.next_obs, (particles, *real.next_obs.shape))
    reward = jnp.broadcast_to(real.reward, (1, 1, particles, len(real.reward)))
    terminated = jnp.broadcast_to(real.terminated.astype(reward.dtype), (1, particles, len(real.reward)))
    obs, kept = first[None], jax.tree.map(lambda a: a[None], act(last_key, first, jnp.int32(horizon))[1])
    if horizon:
        assert model is not None
        begin = start(model, params, real.next_obs, begin_key, particles)
        steps = rollout(model, params, begin, act, horizon, roll_key, unroll=min(horizon, _UNROLLED))
        _, last = act(last_key, steps.end.obs, jnp.int32(horizon))
        obs, kept = steps.obs, jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), steps.extras, last)
        opinions = steps.reward.shape[1]
        reward = jnp.concatenate([jnp.broadcast_to(reward, (1, opinions, *reward.shape[2:])), steps.reward])
        terminated = jnp.concatenate([terminated, steps.terminated if ends else jnp.zeros_like(steps.terminated)])
    action, bonus = kept
    frames = Frames(obs, action, reward, terminated, bonus, jnp.moveaxis(value(obs, action, bonus), 0, 1))
    return jax.lax.stop_gradient(frames)


def candidates(
    frames: Frames, *, discount: float, reward_scale: float, sources: int
) -> Float[Array, "sources frames samples batch"]:
    """Samples of the candidates of the first sources, for each horizon.

    The entropy bonus of a source's own action is not part of its candidates, those of later actions are (Haarnoja et
    al. 2018, SAC).

    Args:
        frames: the imagined continuations.
        discount: factor on the value of the next time step.
        reward_scale: factor on rewards.
        sources: number of sources.

    Returns:
        Samples, 0 where the horizon is before the source.
    """
    reach, onward = survival(frames.terminated)

    def row(source: int) -> Float[Array, "frames samples batch"]:
        later = Frames(*(a[source:] for a in frames))
        powers = discount ** jnp.arange(len(later.reward), dtype=reach.dtype)[:, None, None]
        given = powers / (reach[source] + EPSILON)
        here, beyond = given * reach[source:], discount * given * onward[source:]
        rewards = reward_scale * _where_reached(here[:, None], later.reward)
        rewards += _where_reached(beyond, later.bonus)[:, None]
        ends = _where_reached(beyond[:, None], later.value)
        samples = jnp.cumsum(rewards, 0)[:, :, None] + ends[:, None]
        return jnp.pad(samples.reshape(*samples.shape[:1], -1, samples.shape[-1]), ((source, 0), (0, 0), (0, 0)))

    return jnp.stack([row(source) for source in range(sources)])


def _where_reached(weight: Float[Array, "..."], a: Float[Array, "..."]) -> Float[Array, "..."]:
    """The product, but 0 after a certain end, where imagination may give rewards or values that are not finite."""
    return jnp.where(weight > 0, weight * a, 0.0)


def pairs(
    obs: Float[Array, "batch obs"], action: Float[Array, "batch action"], frames: Frames, sources: int
) -> tuple[Float[Array, "sources particles batch obs"], Float[Array, "sources particles batch action"]]:
    """Where critics are trained: at the real pairs, and with several sources at the imagined ones.

    Args:
        obs: of real transitions.
        action: likewise, in units in which the bounds are -1 and 1.
        frames: what is imagined after them.
        sources: number of sources.
    """
    if sources == 1:
        return obs[None, None], action[None, None]
    first = (jnp.broadcast_to(a, (1, *later.shape[1:])) for a, later in ((obs, frames.obs), (action, frames.action)))
    return tuple(  # type: ignore[return-value]
        jnp.concatenate([real, later[: sources - 1]])
        for real, later in zip(first, (frames.obs, frames.action), strict=True)
    )


def over_reached(reach: Float[Array, "sources batch"]) -> Float[Array, "sources batch"]:
    """Weights that make a sum over the batch a mean over the transitions that are reached; 0 where none is."""
    total = reach.sum(1, keepdims=True)
    return jnp.where(total > 0, reach / jnp.where(total > 0, total, 1.0), 0.0)


def centre(
    samples: Float[Array, "frames samples batch"],
) -> tuple[Float[Array, "frames batch"], Float[Array, "frames samples batch"]]:
    """Means over samples, and samples minus their mean, which are exactly 0 where all samples are equal."""
    shifted = samples - samples[:, :1]
    shift = shifted.mean(1)
    return samples[:, 0] + shift, shifted - shift[:, None]


Centred = Float[Array, "ends samples batch"]
"""Samples of a source's candidates minus their mean; `ends` are the horizons from the source on."""
Weights = Float[Array, "ends batch"]
Reduction = Callable[[Centred, int, "Expansion"], Weights]
"""(centred samples, source, settings) -> the weight of each horizon from the source on."""


def _alike(weights: Float[Array, "ends"], centred: Centred) -> Weights:
    """The same weights for the whole batch."""
    return jnp.broadcast_to(weights[:, None], centred[:, 0].shape)


@register("reduction", "last")
def _last(centred: Centred, source: int, settings: Expansion) -> Weights:
    return _alike(jnp.zeros_like(centred[:, 0, 0]).at[-1].set(1.0), centred)


@register("reduction", "mean")
def _mean(centred: Centred, source: int, settings: Expansion) -> Weights:
    return jnp.full_like(centred[:, 0], 1.0 / len(centred))


@register("reduction", "lambda")
def _lambda(centred: Centred, source: int, settings: Expansion) -> Weights:
    first = 0 if settings.lambda_per_source else source
    powers = settings.lambda_return ** jnp.arange(first, first + len(centred), dtype=centred.dtype)
    return _alike(((1.0 - settings.lambda_return) * powers).at[-1].set(powers[-1]), centred)


@register("reduction", "inverse-variance")
def _inverse_variance(centred: Centred, source: int, settings: Expansion) -> Weights:
    weights = 1.0 / (jnp.square(centred).mean(1) + EPSILON)
    return weights / weights.sum(0)


@register("reduction", "inverse-covariance")
def _inverse_covariance(centred: Centred, source: int, settings: Expansion) -> Weights:
    """Weights that sum to 1 and minimise the variance of the weighted sum: `C^-1 1 / (1' C^-1 1)`.

    `C` is the covariance of the horizons with a ridge. It is nearly singular, since horizons share most of their
    variation. So the equations are solved for other unknowns: the sum of the weights from each horizon on. They
    multiply the differences of neighbouring horizons, which are small and have little in common.
    """
    ridge = RIDGE * (centred.shape[1] if settings.covariance_mean else 1)
    steps = jnp.diff(centred, axis=0)
    ridge_steps = jnp.diff(jnp.eye(len(centred), dtype=centred.dtype), axis=0)
    products = jnp.moveaxis((steps[:, None] * steps).sum(2), -1, 0) + ridge * ridge_steps @ ridge_steps.T
    right = -(steps * centred[0]).sum(1).T - ridge * ridge_steps[:, 0]
    onward = jnp.linalg.solve(products, right[..., None])[..., 0].T
    return -jnp.diff(onward, axis=0, prepend=jnp.ones_like(centred[:1, 0]), append=jnp.zeros_like(centred[:1, 0]))
