"""A learned stand-in for an environment: ensembles of deterministic networks of transition, reward and termination.

Buckman et al. 2018, "Sample-Efficient Reinforcement Learning with Stochastic Ensemble Value Expansion" (STEVE), and
its released code.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from foretell.nn import MLP, all_finite, init_mlp, step_if
from foretell.nn.mlp import Activation, Initializer
from foretell.replay import Transitions
from foretell.settings import Settings
from foretell.tasks.base import Task

Losses = dict[str, Float[Array, ""]]
Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class SimulatorSettings(Settings):
    """The networks of a `NeuralSimulator` and their training. The defaults are the released STEVE's."""

    members: PositiveInt = 4
    """Transition networks and termination networks; they are used in pairs."""
    reward_members: PositiveInt = 4
    """Reward networks."""
    hidden: Widths = (512,) * 7
    """Widths of the hidden layers of the transition networks."""
    aux_hidden: Widths = (128,) * 3
    """Widths of the hidden layers of the reward and termination networks."""
    activation: Activation = "relu"
    """Hidden activation."""
    initializer: Initializer = "glorot"
    """Initial weights, see `foretell.nn.mlp.init_mlp`; the released code has `glorot-joint`, by accident."""
    weight_decay: NonNegativeFloat = 1e-4
    """Adds `decay / 2` times the sum of squares of all weights and biases of all members to the loss."""
    learning_rate: PositiveFloat = 3e-4
    """Adam's step size."""
    batch_size: PositiveInt = 512
    """Rows per gradient step, for all members together."""
    assignment: Literal["balanced", "independent"] = "balanced"
    """Which member of a network learns from a row: the one whose part of the batch it is in, all parts being equal
    (`balanced`), or one drawn for it alone (`independent`), as released. The expected gradient is the same, but
    `balanced` costs only a share of the time: no member computes the rows of others."""

    @model_validator(mode="after")
    def _check(self) -> "SimulatorSettings":
        common = math.lcm(self.members, self.reward_members)
        if self.assignment == "balanced" and self.batch_size % common:
            near = max(1, round(self.batch_size / common)) * common
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of members ({self.members}) and of "
                f"reward_members ({self.reward_members}) with assignment=balanced; the nearest is {near}"
            )
        return self


class SimulatorState(NamedTuple):
    """The networks, which the optimiser trains; None where the task leaves nothing to learn."""

    transition: MLP
    """From observation (its features) and action to the task's target."""
    reward: MLP | None
    """From next observation, observation (their features) and action to the reward."""
    termination: MLP | None
    """From the same to the logit of the probability that the episode ends."""


class SimulatedStep(NamedTuple):
    """One step of all particles."""

    next_obs: Float[Array, "particles batch obs"]
    reward: Float[Array, "rewards particles batch"]
    """What every reward network, or the task (one), expects."""
    terminated: Float[Array, "particles batch"]
    """Probability that the step ends the episode."""


@dataclass(frozen=True)
class NeuralSimulator:
    """A task simulated by networks. Rewards and actions are in the environment's units; nothing is standardised."""

    task: Task
    settings: SimulatorSettings

    def init(self, key: Key[Array, ""]) -> SimulatorState:
        """Fresh networks of the right sizes."""
        task, settings, keys = self.task, self.settings, jax.random.split(key, 3)
        network = partial(init_mlp, activation=settings.activation, initializer=settings.initializer)
        seen, learns_termination = task.feature_size, task.terminated is None and task.learns_termination
        sizes = (seen + task.spec.action_size, *settings.hidden, task.target_size)
        aux = (2 * seen + task.spec.action_size, *settings.aux_hidden, 1)
        return SimulatorState(
            network(keys[0], sizes, members=settings.members),
            network(keys[1], aux, members=settings.reward_members) if task.reward is None else None,
            network(keys[2], aux, members=settings.members) if learns_termination else None,
        )

    def step(
        self,
        state: SimulatorState,
        obs: Float[Array, "particles batch obs"],
        action: Float[Array, "particles batch action"],
    ) -> SimulatedStep:
        """Particle t moves and ends as member t says; there are as many particles as members."""
        task, inputs = self.task, self._inputs(obs, action)
        next_obs = task.advance(obs, state.transition(inputs))
        x = jnp.concatenate([task.features(next_obs), inputs], -1)
        if state.reward is None:
            assert task.reward is not None
            reward = task.reward(obs, action, next_obs)[None]
        else:
            reward = _everyone(state.reward, x.reshape(-1, x.shape[-1])).reshape(-1, *x.shape[:2])
        terminated = jnp.zeros(x.shape[:2])
        if task.terminated is not None:
            terminated = 1.0 * task.terminated(obs, action, next_obs)
        elif state.termination is not None:
            terminated = jax.nn.sigmoid(state.termination(x)[..., 0])
        return SimulatedStep(next_obs, reward, terminated)

    def loss(self, params: SimulatorState, data: Transitions, key: Key[Array, ""]) -> tuple[Float[Array, ""], Losses]:
        """The sum of the errors, averaged over rows, and of the decay; and its parts.

        The errors are half the squared error of target and reward, summed over outputs, and the cross-entropy of
        termination. Reward and termination networks see the real next observation. Each row is predicted by the member
        assigned to it; `key` draws members where they are independent, else the members divide the rows evenly.
        """
        task, keys = self.task, jax.random.split(key, 3)
        inputs = self._inputs(data.obs, data.action)
        x = jnp.concatenate([task.features(data.next_obs), inputs], -1)
        output = self._assigned(keys[0], params.transition, inputs)
        losses = {"transition_loss": _half_square(output - task.target(data.obs, data.next_obs))}
        if params.reward is not None:
            output = self._assigned(keys[1], params.reward, x)
            losses["reward_loss"] = _half_square(output - data.reward[:, None])
        if params.termination is not None:
            logit = self._assigned(keys[2], params.termination, x)[:, 0]
            losses["termination_loss"] = (jax.nn.softplus(logit) - data.terminated * logit).mean()
        squares = sum((jnp.square(leaf).sum() for leaf in jax.tree.leaves(params)), jnp.zeros(()))
        losses["decay_loss"] = 0.5 * self.settings.weight_decay * squares
        return sum(losses.values(), jnp.zeros(())), losses

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.settings.learning_rate)

    def start(self, params: SimulatorState) -> optax.OptState:
        """What training carries from update to update: Adam's moments."""
        return self.optimizer.init(params)

    def update(
        self, key: Key[Array, ""], params: SimulatorState, opt_state: optax.OptState, data: Transitions
    ) -> tuple[SimulatorState, optax.OptState, Losses]:
        """One Adam step on rows in random order, and its losses.

        A step whose loss is not finite is skipped, a gradient that alone is not finite counts as 0; the metric
        `model_skipped` is then 1, and the losses 0.
        """
        (total, losses), grads = jax.value_and_grad(self.loss, has_aux=True)(params, data, key)
        params, opt_state = step_if(jnp.isfinite(total), self.optimizer, grads, params, opt_state)
        ok = all_finite(total, grads)
        metrics = {name: jnp.where(ok, loss, 0.0) for name, loss in {"model_loss": total, **losses}.items()}
        return params, opt_state, {**metrics, "model_skipped": 1.0 - ok}

    def _inputs(self, obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"]) -> Float[Array, "*rows in"]:
        return jnp.concatenate([self.task.features(obs), action], -1)

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
