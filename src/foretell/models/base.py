"""What every world model is, and imagination, its rollout.

A world model is one-step dynamics. It steps a *carry*, which goes from step to step: for models of
observations the observation itself, for a model with a latent state that state. Many particles are stepped side by side
for each row of a batch; how they differ is the model's uncertainty.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from foretell.replay import Replay, Transitions

Params = Any
"""What imagination needs of a trained model: a pytree of arrays."""
Carry = Any
"""What a model carries from step to step: a pytree of arrays `[particles, batch, ...]`."""
ModelState = Any
"""What a model has learned, and what its training carries on: a pytree of arrays."""
Metrics = dict[str, Array]


class Step(NamedTuple):
    """What one imagined step leads to."""

    obs: Float[Array, "particles batch obs"]
    """The next observation."""
    reward: Float[Array, "rewards particles batch"]
    """In the environment's units, from each of the model's reward networks; one row where there is one opinion."""
    terminated: Float[Array, "particles batch"]
    """Probability that the step ends the episode."""


@runtime_checkable
class WorldModel(Protocol):
    """One-step dynamics, learned or true. Both methods are pure and can be compiled."""

    def begin(self, params: Params, obs: Float[Array, "batch obs"], key: Key[Array, ""], particles: int) -> Carry:
        """The carry of `particles` imagined trajectories from each observation."""

    def step(
        self, params: Params, carry: Carry, action: Float[Array, "particles batch action"], key: Key[Array, ""]
    ) -> tuple[Carry, Step]:
        """One step of all particles; actions are in the environment's units."""


@runtime_checkable
class TrainedModel(WorldModel, Protocol):
    """A world model that learns from a replay, in one long call or in single gradient steps; agents are built on it."""

    @property
    def needs_data(self) -> bool:
        """Whether it knows nothing before it has been trained."""

    @property
    def particles(self) -> int:
        """Particles of a rollout unless the caller wants another number."""

    def init(self, key: Key[Array, ""]) -> ModelState:
        """An untrained model."""

    def params(self, state: ModelState) -> Params:
        """What imagination needs."""

    def fit(self, state: ModelState, replay: Replay, key: Key[Array, ""]) -> tuple[ModelState, Metrics]:
        """Train on all data (as PETS does between episodes)."""

    def prepare(self, state: ModelState, replay: Replay) -> ModelState:
        """What single updates need first, such as statistics of the data."""

    def update(self, state: ModelState, replay: Replay, key: Key[Array, ""]) -> tuple[ModelState, Metrics]:
        """One gradient step on a minibatch (as STEVE does beside its critics).

        The metric `model_skipped`, if there is one, is 1 for a step that was not finite and was skipped, else 0.
        """

    def error(self, params: Params, data: Transitions, weight: Float[Array, "rows"]) -> Float[Array, ""]:
        """One-step squared error of the mean prediction, averaged over rows (weighted) and dimensions of the target."""


class Disagrees(Protocol):
    """A model of several networks that says how far these disagree, see `foretell.regression.divergence`."""

    def disagreement(
        self, params: Params, obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"]
    ) -> Float[Array, "*rows"]:
        """The mean divergence of all pairs of networks; actions are in the environment's units."""


class ModelDefaults:
    """What most trained models have in common, to inherit: the carry of a particle is its observation."""

    needs_data: ClassVar[bool] = True

    @property
    def followed(self) -> int:
        """Members among which the particles are divided for a whole rollout, in order; 1: they change, or mix, members.

        Particle `p` of `P` follows member `floor(p / (P / followed))`.
        """
        return 1

    def params(self, state: ModelState) -> Params:
        """The whole state."""
        return state

    def begin(self, params: Params, obs: Float[Array, "batch obs"], key: Key[Array, ""], particles: int) -> Carry:
        """The observation, in every particle."""
        del params, key
        return jnp.broadcast_to(obs, (particles, *obs.shape))

    def prepare(self, state: ModelState, replay: Replay) -> ModelState:
        """Nothing."""
        del replay
        return state

    def update(self, state: ModelState, replay: Replay, key: Key[Array, ""]) -> tuple[ModelState, Metrics]:
        """Nothing, as for a model that `prepare` trains; see `ModelSettings.trains_stepwise`."""
        del replay, key
        return state, {}

    def error(self: Any, params: Params, data: Transitions, weight: Float[Array, "rows"]) -> Float[Array, ""]:
        """The error of the mean over particles, with their noise."""
        begin_key, step_key = jax.random.split(jax.random.key(0))
        carry = self.begin(params, data.obs, begin_key, self.particles)
        action = jnp.broadcast_to(data.action, (self.particles, *data.action.shape))
        obs = self.step(params, carry, action, step_key)[1].obs.mean(0)
        return weighted_error(self.task.target(data.obs, obs), self.task.target(data.obs, data.next_obs), weight)


def weighted_error(
    predicted: Float[Array, "rows target"], target: Float[Array, "rows target"], weight: Float[Array, "rows"]
) -> Float[Array, ""]:
    """Squared error, averaged over dimensions and (weighted) over rows; rows of weight 0 may hold anything."""
    square = jnp.square(predicted - target).mean(-1)
    return jnp.where(weight > 0, square * weight, 0.0).sum() / jnp.maximum(weight.sum(), 1)


class Start(NamedTuple):
    """Where a rollout begins."""

    carry: Carry
    obs: Float[Array, "particles batch obs"]


Act = Callable[[Key[Array, ""], Float[Array, "particles batch obs"], Int[Array, ""]], tuple[Array, Any]]
"""(key, observations, time) -> actions `[particles, batch, action]` in the environment's units, and what to keep."""


Fold = Callable[[Any, Step], Any]
"""(value, step) -> value, to accumulate something over the steps of a rollout."""


class Trajectory(NamedTuple):
    """Imagined steps. Times lead."""

    obs: Float[Array, "horizon+1 particles batch obs"]
    """Where the rollout began, and where every step led."""
    action: Float[Array, "horizon particles batch action"]
    reward: Float[Array, "horizon rewards particles batch"]
    terminated: Float[Array, "horizon particles batch"]
    """Probability that the step ends the episode."""
    extras: Any
    """What `act` returned beside the actions."""
    end: Start
    """From where the rollout could go on."""
    folded: Any = None
    """What was accumulated over the steps, see `rollout`."""


def start(
    model: WorldModel, params: Params, obs: Float[Array, "batch obs"], key: Key[Array, ""], particles: int
) -> Start:
    """The start of a rollout from real observations."""
    carry = model.begin(params, obs, key, particles)
    return Start(carry, jnp.broadcast_to(obs, (particles, *obs.shape)))


def rollout(
    model: WorldModel,
    params: Params,
    start: Start,
    act: Act,
    horizon: int,
    key: Key[Array, ""],
    *,
    unroll: int = 1,
    fold: tuple[Any, Fold] | None = None,
) -> Trajectory:
    """Imagine `horizon` steps. Whatever of the trajectory is not used costs nothing once compiled.

    Args:
        model: the world model.
        params: what it needs, see `TrainedModel.params`.
        start: where to begin, see `start`, or the `end` of another rollout.
        act: a policy, an open-loop plan (`open_loop`), or recorded actions.
        horizon: steps.
        key: for the policy's and the model's noise.
        unroll: steps compiled as straight code; more is faster for short horizons, and compiles longer.
        fold: a start value, and a function (value, step) -> value; faster than to go through all steps afterwards.
    """
    value, accumulate = fold or ((), lambda value, step: value)

    def one(state: tuple[Start, Any], at: tuple[Int[Array, ""], Key[Array, ""], Any]) -> tuple[tuple, tuple]:
        (here, value), (t, act_key, noise) = state, at
        action, extras = act(act_key, here.obs, t)
        carry, step = model.step(params, here.carry, action, noise)
        return (Start(carry, step.obs), accumulate(value, step)), (step, action, extras)

    act_key, step_key = jax.random.split(key)
    times, keys = jnp.arange(horizon), jax.random.split(act_key, horizon)
    noise = noise_of(model, step_key, horizon, *start.obs.shape[:2])
    (end, value), (steps, actions, extras) = jax.lax.scan(one, (start, value), (times, keys, noise), unroll=unroll)
    obs = jnp.concatenate([start.obs[None], steps.obs])
    return Trajectory(obs, actions, steps.reward, steps.terminated, extras, end, value)


def noise_of(model: WorldModel, key: Key[Array, ""], horizon: int, particles: int, batch: int) -> Any:
    """What `step` is given at each step of a rollout: keys, or what the model's own `noise` draws for all at once.

    A model may have a method of these arguments after the first, whose arrays lead with time. Many small draws take
    longer than one large one.
    """
    draw = getattr(model, "noise", None)
    return jax.random.split(key, horizon) if draw is None else draw(key, horizon, particles, batch)


def open_loop(plan: Float[Array, "batch horizon action"], particles: int) -> Act:
    """Act as planned, or as recorded, whatever is observed."""

    def act(key: Key[Array, ""], obs: Float[Array, "particles batch obs"], t: Int[Array, ""]) -> tuple[Array, tuple]:
        del key, obs
        now = jax.lax.dynamic_index_in_dim(plan, t, 1, keepdims=False)
        return jnp.broadcast_to(now, (particles, *now.shape)), ()

    return act


def survival(
    terminated: Float[Array, "horizon *rows"] | Bool[Array, "horizon *rows"],
) -> tuple[Float[Array, "horizon *rows"], Float[Array, "horizon *rows"]]:
    """Probabilities that the episode gets as far as each step, and that it goes on after it."""
    onward = jnp.cumprod(1.0 - terminated, 0)
    return jnp.concatenate([jnp.ones_like(onward[:1]), onward[:-1]]), onward


def return_fold(start: Start) -> tuple[Any, Fold]:
    """As `returns`, for `rollout` to accumulate: the value is a pair, the return so far and the probability of being
    there."""
    rows = start.obs.shape[:2]

    def accumulate(value: tuple[Array, Array], step: Step) -> tuple[Array, Array]:
        total, reach = value
        earned = jnp.where(reach > 0, reach * step.reward.mean(0), 0.0)  # after the end rewards may be infinite
        return total + earned, reach * (1.0 - step.terminated)

    return (jnp.zeros(rows), jnp.ones(rows)), accumulate


def returns(trajectory: Trajectory) -> Float[Array, "particles batch"]:
    """Undiscounted return of every particle; rewards after a termination do not count."""
    reach, _ = survival(trajectory.terminated)
    reward = trajectory.reward.mean(1)
    return jnp.where(reach > 0, reach * reward, 0.0).sum(0)  # what is imagined after the end may be infinite
