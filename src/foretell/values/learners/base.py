"""The base of actor-critic learners: a policy, an ensemble of critics, and one update of both towards given targets.

Targets are computed elsewhere, so that value expansion (Buckman et al. 2018, STEVE) works with any learner. All
actions are in [-1, 1]. An update has several `sources` of state-action pairs, each with several `particles`. Source 0
is the real pair, the same in all particles. Further sources are imagined (the TD-k trick), and have the batch index of
the real pair that they continue.
"""

from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from foretell.nn import MLP, all_finite, init_mlp, step_if
from foretell.nn.mlp import Activation, Initializer
from foretell.settings import Settings
from foretell.values.learners.networks import join, predict

Metrics = dict[str, Float[Array, ""]]


class Actor(NamedTuple):
    """The parameters that the policy's optimiser trains."""

    policy: MLP
    log_alpha: Float[Array, ""] | None
    """Logarithm of the temperature (SAC)."""


class LearnerState(NamedTuple):
    """What is learned. Member `pair * k + j` of the critics' networks is network `j` of critic `k`."""

    policy: MLP
    critics: MLP
    target_critics: MLP
    target_policy: MLP | None
    """Follows the policy as the target critics follow the critics (TD3)."""
    log_alpha: Float[Array, ""] | None
    """Logarithm of the temperature (SAC)."""
    policy_opt: optax.OptState
    critic_opt: optax.OptState
    updates: Int[Array, ""]
    """Updates so far, skipped ones included."""


class Learner(Settings):
    """An actor-critic learner. Subclasses define how the policy acts, its actions in targets, and its loss."""

    pair: ClassVar[int] = 1
    """Networks of one critic, whose value is their minimum."""
    policy_outputs: ClassVar[int] = 1
    """Outputs of the policy's network for each dimension of the action."""
    follow_policy: ClassVar[bool] = False
    """Whether there is a target policy."""

    kind: str
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (128, 128, 128)
    """Widths of the hidden layers of policy and critics."""
    activation: Activation = "relu"
    """Hidden activation."""
    initializer: Initializer = "glorot"
    """Initial weights; the released STEVE's are `glorot-joint`."""
    critics: PositiveInt = 1
    """Critics in the ensemble (STEVE: 4); all have the same targets."""
    assignment: Literal["balanced", "independent"] = "balanced"
    """Which critic learns from an element of the batch. `balanced`: element `b` of `B` trains critic
    `floor(b * critics / B)`, and no critic computes the elements of others. `independent`: each element draws a critic
    (the released STEVE)."""
    batch_size: PositiveInt = 512
    """Transitions in the minibatch of an update."""
    policy_learning_rate: PositiveFloat = 3e-4
    """Adam's step size for the policy, and for the temperature of SAC."""
    critic_learning_rate: PositiveFloat = 3e-4
    """Adam's step size for the critics."""
    policy_delay: PositiveInt = 1
    """Updates of the critics for each update of the policy, and for each move of the targets by `target_tau`."""
    target_every: PositiveInt = 500
    """Copy the critics to the target critics every this many updates: before update `u`, counted from 0, where `u + 1`
    is a multiple of it."""
    target_tau: Annotated[float, Field(gt=0, le=1)] | None = None
    """Instead of copying, move targets by this share of their distance at each update of the policy; null: copy."""
    discount: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Factor on the value of the next time step."""
    reward_scale: PositiveFloat = 1.0
    """Rewards are multiplied by this in targets."""

    @model_validator(mode="after")
    def _check_batch(self) -> "Learner":
        if self.assignment == "balanced" and self.batch_size % self.critics:
            nearest = max(round(self.batch_size / self.critics), 1) * self.critics
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of critics ({self.critics}) with "
                f"assignment=balanced; the nearest is {nearest}"
            )
        return self

    def act(
        self, policy: MLP, features: Float[Array, "rows features"], key: Key[Array, ""], *, explore: bool
    ) -> Float[Array, "rows action"]:
        """Actions to execute, in [-1, 1].

        Args:
            policy: the policy's network.
            features: of the observations.
            key: for exploration.
            explore: whether to explore; else actions are greedy.
        """
        raise NotImplementedError

    def propose(
        self, state: LearnerState, features: Float[Array, "particles batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "particles batch action"], Float[Array, "particles batch"]]:
        """Actions for targets and imagined rollouts.

        Args:
            state: what has been learned.
            features: of the observations.
            key: for the policy's noise.

        Returns:
            Actions in [-1, 1], and the entropy bonus that is added to their values.
        """
        raise NotImplementedError

    def policy_loss(
        self, actor: Actor, critics: MLP, features: Float[Array, "batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The policy's loss at real features; its metrics include `policy_loss`."""
        raise NotImplementedError

    @property
    def policy_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.policy_learning_rate)

    @property
    def critic_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.critic_learning_rate)

    def init(self, key: Key[Array, ""], feature_size: int, action_size: int) -> LearnerState:
        """Untrained networks; the target networks equal the online ones."""
        policy_key, critic_key = jax.random.split(key)
        make = partial(init_mlp, activation=self.activation, initializer=self.initializer)
        policy = make(policy_key, (feature_size, *self.hidden, self.policy_outputs * action_size), members=1)
        critics = make(critic_key, (feature_size + action_size, *self.hidden, 1), members=self.pair * self.critics)
        actor = Actor(policy, self.initial_log_alpha())
        return LearnerState(
            policy,
            critics,
            target_critics=critics,
            target_policy=policy if self.follow_policy else None,
            log_alpha=actor.log_alpha,
            policy_opt=self.policy_optimizer.init(actor),
            critic_opt=self.critic_optimizer.init(critics),
            updates=jnp.zeros((), jnp.int32),
        )

    def initial_log_alpha(self) -> Float[Array, ""] | None:
        """Logarithm of the initial temperature; None for learners without one."""
        return None

    def values(
        self,
        networks: MLP,
        features: Float[Array, "*rows features"],
        action: Float[Array, "*rows action"],
    ) -> Float[Array, "critics *rows"]:
        """Every critic's value of every pair; `networks` are the critics or the target critics."""
        return predict(networks, self._to_all(join(features, action)), self.pair).min(1)

    def critic_loss(
        self,
        critics: MLP,
        key: Key[Array, ""],
        features: Float[Array, "sources particles batch features"],
        action: Float[Array, "sources particles batch action"],
        target: Float[Array, "sources batch"],
        weight: Float[Array, "sources batch"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Half the weighted squared error of the assigned critics, averaged over batch and sources.

        The error is that of the prediction averaged over particles. If a critic has a pair of networks, the errors of
        both are summed.

        Args:
            critics: the networks.
            key: for the assignment of critics to elements.
            features: of the observations.
            action: in [-1, 1].
            target: of every pair.
            weight: of every pair.

        Returns:
            The loss, and the mean prediction at the real pairs.
        """
        x, count = join(features, action), target.size
        if self.assignment == "balanced":
            x, target, weight = (
                jnp.stack(jnp.split(a, self.critics, axis)) for a, axis in ((x, 2), (target, 1), (weight, 1))
            )
        else:
            assigned = jax.random.randint(key, target.shape[1:], 0, self.critics)
            weight = jnp.where(assigned == jnp.arange(self.critics)[:, None, None], weight, 0.0)
            x, target = self._to_all(x), self._to_all(target)
        guess = predict(critics, x, self.pair).mean(3)
        square = jnp.square(guess - jax.lax.stop_gradient(target)[:, None])
        return 0.5 * (weight[:, None] * square).sum() / count, guess[:, :, 0].mean()

    def update(
        self,
        state: LearnerState,
        key: Key[Array, ""],
        features: Float[Array, "sources particles batch features"],
        action: Float[Array, "sources particles batch action"],
        target: Float[Array, "sources batch"],
        weight: Float[Array, "sources batch"],
    ) -> tuple[LearnerState, Metrics]:
        """One step of policy and critics, both from the old parameters; then the target networks are updated.

        The policy learns at the real observations only. A step whose losses are not finite is skipped. Where only a
        gradient is not finite, it is replaced by 0. In both cases the metric `value_skipped` is 1, and the others 0.

        Args:
            state: what has been learned.
            key: for noise in the policy's loss and the assignment of critics.
            features: of the observations.
            action: in [-1, 1].
            target: of every pair.
            weight: of every pair.

        Returns:
            The new state, and metrics.
        """
        critic_key, policy_key = jax.random.split(key)
        due = (state.updates + 1) % self.policy_delay == 0 if self.policy_delay > 1 else jnp.ones((), bool)
        actor = Actor(state.policy, state.log_alpha)
        (critic_loss, mean_q), critic_grads = jax.value_and_grad(self.critic_loss, has_aux=True)(
            state.critics, critic_key, features, action, target, weight
        )
        (loss, metrics), policy_grads = self._policy_gradient(actor, state.critics, features[0, 0], policy_key, due)
        ok, sound = all_finite(critic_loss + loss, (policy_grads, critic_grads)), jnp.isfinite(critic_loss + loss)
        actor, policy_opt = step_if(sound & due, self.policy_optimizer, policy_grads, actor, state.policy_opt)
        critics, critic_opt = step_if(sound, self.critic_optimizer, critic_grads, state.critics, state.critic_opt)
        state = state._replace(policy=actor.policy, log_alpha=actor.log_alpha, policy_opt=policy_opt)
        state = state._replace(critics=critics, critic_opt=critic_opt, updates=state.updates + 1)
        metrics = {**metrics, "critic_loss": critic_loss, "mean_q": mean_q}
        metrics = {name: jnp.where(ok, value, 0.0) for name, value in metrics.items()}
        return self._follow(state, due), {**metrics, "value_skipped": jnp.where(ok, 0.0, 1.0)}

    def _policy_gradient(
        self,
        actor: Actor,
        critics: MLP,
        features: Float[Array, "batch features"],
        key: Key[Array, ""],
        due: Bool[Array, ""],
    ) -> tuple[tuple[Float[Array, ""], Metrics], Actor]:
        """The policy's loss with its metrics, and its gradient.

        All are zeros where no update of the policy is due. Where one is due, metrics are multiplied by `policy_delay`,
        so that their mean over all updates is right.
        """
        full = jax.value_and_grad(self.policy_loss, has_aux=True)

        def learn(*arguments: Any) -> tuple[tuple[Float[Array, ""], Metrics], Actor]:
            (loss, metrics), grads = full(*arguments)
            return (loss, jax.tree.map(lambda value: self.policy_delay * value, metrics)), grads

        arguments = (actor, critics, features, key)
        none = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(learn, *arguments))
        return jax.lax.cond(due, learn, lambda *_: none, *arguments)

    def _follow(self, state: LearnerState, due: Bool[Array, ""]) -> LearnerState:
        """The state with its target networks updated for the next update."""
        if self.target_tau is None:
            share = jnp.where((state.updates + 1) % self.target_every == 0, 1.0, 0.0)
        else:
            share = jnp.where(due, self.target_tau, 0.0)
        followed = (state.critics, state.policy if self.follow_policy else None)
        targets = optax.incremental_update(followed, (state.target_critics, state.target_policy), share)
        return state._replace(target_critics=targets[0], target_policy=targets[1])

    def _to_all(self, a: Float[Array, "*shape"]) -> Float[Array, "critics *shape"]:
        return jnp.broadcast_to(a, (self.critics, *a.shape))
