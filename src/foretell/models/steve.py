"""STEVE's networks: ensembles of deterministic networks of transition, reward and termination, trained by one loss.

Buckman et al. 2018, "Sample-Efficient Reinforcement Learning with Stochastic Ensemble Value Expansion" (STEVE), and
its released code.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key
from pydantic import Field, NonNegativeFloat, PositiveInt

from foretell.models.base import Metrics, ModelDefaults, TrainedModel, weighted_error
from foretell.models.base import Step as ModelStep
from foretell.models.learned import inputs_of, known_step
from foretell.models.settings import Imagination, ModelSettings, Unknown
from foretell.models.unchanging import Unchanging, unknown_columns
from foretell.nn import (
    MLP,
    Normalizer,
    all_finite,
    fit_normalizer,
    identity_normalizer,
    init_mlp,
    step_if,
    with_inputs,
)
from foretell.nn.mlp import Activation, Initializer
from foretell.registry import register
from foretell.regression.fit import Fit
from foretell.replay import Replay, Transitions, sample
from foretell.tasks.base import Task

Losses = dict[str, Float[Array, ""]]
_MIN_STD = 1e-6
"""A standard deviation below this is replaced by 1."""
Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


@register("model", "steve")
class SteveNetworks(ModelSettings):
    """The networks of a `SteveModel`. The defaults are the released STEVE's.

    Of the section `fit` they use `learning_rate`, `batch_size`, and for one long call of training `epochs`, `min_steps`
    and `max_steps`. Of `imagination` they use `particles`, a multiple of `members`; null: one for each member.
    """

    trains_stepwise = True

    kind: str = "steve"
    members: PositiveInt = 4
    """Number of transition networks, and of termination networks; they are used in pairs."""
    reward_members: PositiveInt = 4
    """Number of reward networks."""
    hidden: Widths = (512,) * 7
    """Widths of the hidden layers of the transition networks."""
    aux_hidden: Widths = (128,) * 3
    """Widths of the hidden layers of the reward and termination networks."""
    activation: Activation = "relu"
    """Activation function of the hidden layers."""
    initializer: Initializer = "glorot"
    """Distribution of the initial weights; the released code has `glorot-joint`, by accident."""
    hidden_norm: Literal["none", "layer"] = "none"
    """Layer norm before the activation of each hidden layer, with a trained gain and shift (`layer`), or no
    normalisation (`none`, as released)."""
    standardize: bool = False
    """Standardise inputs, targets and rewards with their statistics over the replay, renewed as it grows. False, as
    released: the weights of the losses depend on the units of observations and rewards."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay: adds this times half the sum of all members' squared weights and biases to the loss. Gains and
    shifts of a layer norm are not decayed."""
    assignment: Literal["balanced", "independent"] = "balanced"
    """Which member of an ensemble learns from a row of the minibatch. `balanced`: each member learns from an equal part
    of the minibatch. `independent`: a random member for each row, as released. The expected gradient is the same, but
    `balanced` takes less time."""

    def check(self, fit: Any, imagination: Imagination) -> None:
        if fit.kind != "adam":
            raise ValueError(f"model.kind=steve is trained with fit.kind=adam, not {fit.kind}")
        if fit.early_stopping:
            raise ValueError("fit.early_stopping=true needs model.kind=ensemble, not steve, which holds no rows out")
        if self.hidden_norm == "layer" and min(*self.hidden, *self.aux_hidden) < 2:
            raise ValueError("model.hidden_norm=layer needs hidden layers of at least 2 units, not 1")
        if imagination.propagation != "TSinf":
            raise ValueError(
                f"imagination.propagation must be TSinf with model.kind=steve, not {imagination.propagation}: every "
                "particle follows one network"
            )
        if imagination.particles is not None and imagination.particles % self.members:
            near = max(1, round(imagination.particles / self.members)) * self.members
            raise ValueError(
                f"imagination.particles ({imagination.particles}) must be a multiple of model.members "
                f"({self.members}); the nearest is {near}"
            )
        common = math.lcm(self.members, self.reward_members)
        if self.assignment == "balanced" and fit.batch_size % common:
            near = max(1, round(fit.batch_size / common)) * common
            raise ValueError(
                f"fit.batch_size ({fit.batch_size}) must be a multiple of model.members ({self.members}) and of "
                f"model.reward_members ({self.reward_members}) with model.assignment=balanced; the nearest is {near}"
            )

    def build(self, task: Task, *, fit: Any, imagination: Imagination, unknown: Unknown) -> TrainedModel:
        return SteveModel(task, self, fit, imagination.particles or self.members, unknown)


class SteveParams(NamedTuple):
    """The networks, which the optimiser trains; None where there is nothing to learn."""

    transition: MLP
    """From observation (its features) and action to the task's target."""
    reward: MLP | None
    """From next observation, observation (their features) and action to the reward."""
    termination: MLP | None
    """From the same to the logit of the probability that the episode ends."""


class Scales(NamedTuple):
    """What the outputs of the networks are relative to."""

    target: Normalizer
    reward: Normalizer


class SteveImagination(NamedTuple):
    """What imagination needs of a `SteveModel`."""

    networks: SteveParams
    columns: Unchanging | None
    """What is known of the columns of observations; None: nothing."""
    scales: Scales | None = None
    """None: outputs are in the environment's units."""


class SteveState(NamedTuple):
    """The networks, and Adam's moments."""

    networks: SteveParams
    opt: optax.OptState
    columns: Unchanging | None = None
    """What is known of the columns of observations; None: nothing."""
    scales: Scales | None = None
    """Those of the outputs; None: the environment's units."""


@dataclass(frozen=True)
class SteveModel(ModelDefaults):
    """Rewards and actions are in the environment's units.

    Particle `p` of `P` moves and ends as member `floor(p / (P / members))` says; every reward network is applied to it.
    """

    task: Task
    settings: SteveNetworks
    training: Fit
    particles: int
    unknown: Unknown

    @property
    def followed(self) -> int:
        return self.settings.members

    def init(self, key: Key[Array, ""]) -> SteveState:
        task, settings, keys = self.task, self.settings, jax.random.split(key, 3)
        network = partial(
            init_mlp,
            activation=settings.activation,
            initializer=settings.initializer,
            layer_norm=settings.hidden_norm == "layer",
            standardize_inputs=settings.standardize,
        )
        seen = task.feature_size
        sizes = (seen + task.spec.action_size, *settings.hidden, task.target_size)
        aux = (2 * seen + task.spec.action_size, *settings.aux_hidden, 1)
        networks = SteveParams(
            network(keys[0], sizes, members=settings.members),
            network(keys[1], aux, members=settings.reward_members) if self.unknown.reward else None,
            network(keys[2], aux, members=settings.members) if self.unknown.termination else None,
        )
        scales = Scales(identity_normalizer(task.target_size), identity_normalizer(1)) if settings.standardize else None
        return SteveState(networks, self.optimizer.init(networks), unknown_columns(task.spec.obs_size), scales)

    def params(self, state: SteveState) -> SteveImagination:
        return SteveImagination(state.networks, state.columns, state.scales)

    def prepare(self, state: SteveState, replay: Replay) -> SteveState:
        """With what the data say of the columns, and new scales if the replay has grown by a share."""
        if state.columns is not None:
            state = state._replace(columns=state.columns.after(replay))
        if state.scales is None:
            return state
        return jax.lax.cond(replay.grown, lambda: self._rescaled(state, replay), lambda: state)

    def _rescaled(self, state: SteveState, replay: Replay) -> SteveState:
        """With the statistics of all inputs and outputs in the replay."""
        task, data = self.task, replay.data
        fitted = partial(fit_normalizer, valid=replay.valid, min_std=_MIN_STD)
        inputs = inputs_of(task, data.obs, data.action)
        seen, aux = fitted(inputs), fitted(jnp.concatenate([task.features(data.next_obs), inputs], -1))
        networks = SteveParams(
            with_inputs(state.networks.transition, seen),
            *(network and with_inputs(network, aux) for network in state.networks[1:]),
        )
        scales = Scales(fitted(task.target(data.obs, data.next_obs)), fitted(data.reward[:, None]))
        return state._replace(networks=networks, scales=scales)

    def step(
        self,
        params: SteveImagination,
        carry: Float[Array, "particles batch obs"],
        action: Float[Array, "particles batch action"],
        key: Key[Array, ""],
    ) -> tuple[Float[Array, "particles batch obs"], ModelStep]:
        del key
        networks, task, inputs = params.networks, self.task, inputs_of(self.task, carry, action)
        output = self._by_member(networks.transition, inputs)
        next_obs = task.advance(carry, output if params.scales is None else params.scales.target.denormalize(output))
        if params.columns is not None:
            next_obs = params.columns.keep(carry, next_obs)
        x = jnp.concatenate([task.features(next_obs), inputs], -1)
        ends = None
        if networks.termination is not None:
            ends = jax.nn.sigmoid(self._by_member(networks.termination, x)[..., 0])
        step = known_step(task, carry, action, next_obs, terminated=ends)
        if networks.reward is not None:
            reward = _everyone(networks.reward, x.reshape(-1, x.shape[-1]))
            reward = reward if params.scales is None else params.scales.reward.denormalize(reward)
            step = step._replace(reward=reward.reshape(-1, *x.shape[:2]))
        return next_obs, step

    def loss(
        self, params: SteveParams, data: Transitions, key: Key[Array, ""], scales: Scales | None = None
    ) -> tuple[Float[Array, ""], Losses]:
        """The sum of the errors, averaged over rows, and of the decay; and its parts.

        The errors are half the squared error of target and reward, summed over outputs, and the cross-entropy of
        termination. Reward and termination networks see the real next observation. Each row is predicted by the member
        assigned to it; `key` draws members where they are independent, else the members divide the rows evenly.
        """
        task, keys = self.task, jax.random.split(key, 3)
        inputs = inputs_of(task, data.obs, data.action)
        x = jnp.concatenate([task.features(data.next_obs), inputs], -1)
        output = self._assigned(keys[0], params.transition, inputs)
        target, reward = task.target(data.obs, data.next_obs), data.reward[:, None]
        if scales is not None:
            target, reward = scales.target.normalize(target), scales.reward.normalize(reward)
        losses = {"transition_loss": _half_square(output - target)}
        if params.reward is not None:
            output = self._assigned(keys[1], params.reward, x)
            losses["reward_loss"] = _half_square(output - reward)
        if params.termination is not None:
            logit = self._assigned(keys[2], params.termination, x)[:, 0]
            losses["termination_loss"] = (jax.nn.softplus(logit) - data.terminated * logit).mean()
        leaves = [leaf for network in params if network is not None for leaf in (*network.weights, *network.biases)]
        squares = sum((jnp.square(leaf).sum() for leaf in leaves), jnp.zeros(()))
        losses["decay_loss"] = 0.5 * self.settings.weight_decay * squares
        return sum(losses.values(), jnp.zeros(())), losses

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.training.learning_rate)

    def fit(self, state: SteveState, replay: Replay, key: Key[Array, ""]) -> tuple[SteveState, Metrics]:
        """So many updates as `fit` asks for; their losses are means."""
        steps, state = self.training.steps(replay.size, replay.size), self.prepare(state, replay)

        update = jax.jit(self.update, inline=True)  # traced once, for its shapes and in the loop

        def one(i: Array, carry: tuple[SteveState, Metrics]) -> tuple[SteveState, Metrics]:
            state, metrics = update(carry[0], replay, jax.random.fold_in(key, i))
            return state, jax.tree.map(jnp.add, carry[1], metrics)

        shapes = jax.eval_shape(update, state, replay, key)[1]
        none = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        state, total = jax.lax.fori_loop(0, steps, one, (state, none))
        skipped = total.pop("model_skipped")
        means = {name: value / jnp.maximum(steps, 1) for name, value in total.items()}
        return state, {"gradient_steps": steps, "skipped_steps": skipped, **means}

    def update(self, state: SteveState, replay: Replay, key: Key[Array, ""]) -> tuple[SteveState, Metrics]:
        """One Adam step on rows in random order, and its losses.

        A step whose loss is not finite is skipped, a gradient that alone is not finite counts as 0; the metric
        `model_skipped` is then 1, and the losses 0.
        """
        sample_key, loss_key = jax.random.split(key)
        return self.learn_from(state, sample(replay, sample_key, self.training.batch_size), loss_key)

    def learn_from(self, state: SteveState, data: Transitions, key: Key[Array, ""]) -> tuple[SteveState, Metrics]:
        """The same on given rows."""
        learn = jax.value_and_grad(self.loss, has_aux=True)
        (total, losses), grads = learn(state.networks, data, key, state.scales)
        networks, opt = step_if(jnp.isfinite(total), self.optimizer, grads, state.networks, state.opt)
        ok = all_finite(total, grads)
        metrics = {name: jnp.where(ok, loss, 0.0) for name, loss in {"model_loss": total, **losses}.items()}
        return state._replace(networks=networks, opt=opt), {**metrics, "model_skipped": 1.0 - ok}

    def error(self, params: SteveImagination, data: Transitions, weight: Float[Array, "rows"]) -> Float[Array, ""]:
        mean = _everyone(params.networks.transition, inputs_of(self.task, data.obs, data.action)).mean(0)
        mean = mean if params.scales is None else params.scales.target.denormalize(mean)
        return weighted_error(mean, self.task.target(data.obs, data.next_obs), weight)

    def _by_member(self, network: MLP, x: Float[Array, "particles batch in"]) -> Float[Array, "particles batch out"]:
        """The output of each particle's own member."""
        rows = x.reshape(self.settings.members, -1, x.shape[-1])
        return network(rows).reshape(*x.shape[:2], -1)

    def _assigned(self, key: Key[Array, ""], network: MLP, x: Float[Array, "rows in"]) -> Float[Array, "rows out"]:
        """The prediction for each row of the one member that learns from it."""
        members = len(network.weights[0])
        if self.settings.assignment == "balanced":
            return jnp.concatenate(network(x.reshape(members, -1, x.shape[-1])))
        chosen = jax.random.randint(key, x.shape[:1], 0, members) == jnp.arange(members)[:, None]
        return jnp.where(chosen[..., None], _everyone(network, x), 0.0).sum(0)


def _everyone(network: MLP, x: Float[Array, "rows in"]) -> Float[Array, "members rows out"]:
    """All members on the same rows."""
    return network(jnp.broadcast_to(x, (len(network.weights[0]), *x.shape)))


def _half_square(error: Float[Array, "rows out"]) -> Float[Array, ""]:
    return 0.5 * jnp.square(error).sum(-1).mean()
