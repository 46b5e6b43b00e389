"""The base of actor-critic learners: a policy, an ensemble of critics, and one update of both towards given targets.

Targets are computed elsewhere, so that value expansion (Buckman et al. 2018, STEVE) works with any learner. All
actions are in [-1, 1]. An update has several `sources` of state-action pairs, each with several `particles`. Source 0
is the real pair, the same in all particles. Further sources are imagined (the TD-k trick), and have the batch index of
the real pair that they continue.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from foretell.nn import MLP, all_finite, init_mlp, step_if
from foretell.nn.mlp import Activation, Initializer
from foretell.settings import Settings
from foretell.values.learners.networks import join, predict
from foretell.values.learners.state import Actor, LearnerState, Metrics, Visits


class Learner(Settings):
    """An actor-critic learner. Subclasses define how the policy acts, its actions in targets, and its loss."""

    pair: ClassVar[int] = 1
    """Networks of one critic, whose value is their minimum."""
    policy_outputs: ClassVar[int] = 1
    """Outputs of the policy's network for each dimension of the action."""
    kind: str
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (128, 128, 128)
    """Widths of the hidden layers of policy and critics."""
    activation: Activation = "relu"
    """Activation function of the hidden layers."""
    initializer: Initializer = "glorot"
    """Distribution of the initial weights; the released STEVE has `glorot-joint`."""
    layer_norm: bool = False
    """Use layer norm before the activation of every hidden layer of policy and critics (MVE)."""
    critics: PositiveInt = 1
    """Critics in the ensemble (STEVE: 4); all have the same targets."""
    assignment: Literal["balanced", "independent", "all"] = "balanced"
    """Which critic learns from an element of the minibatch. `balanced`: each critic learns from an equal part of it;
    element `b` of `B` trains critic `floor(b * critics / B)`. `independent`: a random critic for each element (the
    released STEVE), with `critics` times the work. `all`: every critic, with `critics` times the work (REDQ)."""
    batch_size: PositiveInt = 512
    """Transitions in the minibatch of each update."""
    policy_learning_rate: PositiveFloat = 3e-4
    """Adam's step size for the policy, and for SAC's temperature."""
    critic_learning_rate: PositiveFloat = 3e-4
    """Adam's step size for the critics."""
    critic_weight_decay: NonNegativeFloat = 0.0
    """Weight decay: adds this times half the sum of the critics' squared weights (not biases) to their loss."""
    policy_delay: PositiveInt = 1
    """Updates of the critics for each update of the policy, and for each update of the target networks by
    `target_tau`."""
    target_every: PositiveInt = 500
    """Copy the critics to the target critics every so many updates: before update `u`, counted from 0, if `u + 1` is a
    multiple of this."""
    target_tau: Annotated[float, Field(gt=0, le=1)] | None = None
    """Soft updates: at each update of the policy, move the target networks towards the online networks by this share of
    the difference. Null: copy every `target_every` updates."""
    policy_target_tau: Annotated[float, Field(gt=0, le=1)] | None = None
    """`target_tau` of the target policy, if there is one; null: the same as for the target critics."""
    discount: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Discount factor."""
    reward_scale: PositiveFloat = 1.0
    """Factor on the rewards in targets."""
    standardize: bool = False
    """Policy and critics see features with mean 0 and standard deviation 1 over the replay, renewed as it grows."""

    @property
    def has_target_policy(self) -> bool:
        """Whether the targets' actions are those of a copy of the policy that follows it."""
        return False

    @model_validator(mode="after")
    def _check_targets(self) -> "Learner":
        if self.policy_target_tau is not None and self.target_tau is None:
            raise ValueError("policy_target_tau needs target_tau: targets are copied every target_every updates")
        if self.policy_target_tau is not None and not self.has_target_policy:
            raise ValueError(f"policy_target_tau must be null: this learner ({self.kind}) has no target policy")
        return self

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

    def explorer(self, state: LearnerState) -> MLP | None:
        """The policy that acts to explore, where that is another than the greedy one; else None."""
        return None

    def policy_loss(
        self, actor: Actor, state: LearnerState, features: Float[Array, "batch features"], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The policy's loss at real features, by the critics of `state`; its metrics include `policy_loss`."""
        raise NotImplementedError

    def after_update(
        self, state: LearnerState, features: Float[Array, "batch features"], key: Key[Array, ""]
    ) -> tuple[LearnerState, Metrics]:
        """What follows an update on these real observations, and its metrics: nothing unless overridden."""
        del features, key
        return state, {}

    @property
    def policy_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.policy_learning_rate)

    @property
    def critic_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.critic_learning_rate)

    def init(self, key: Key[Array, ""], feature_size: int, action_size: int) -> LearnerState:
        """Untrained networks; the target networks equal the online ones."""
        policy_key, critic_key = jax.random.split(key)
        make = self.network
        policy = make(policy_key, (feature_size, *self.hidden, self.policy_outputs * action_size), members=1)
        critics = make(critic_key, (feature_size + action_size, *self.hidden, 1), members=self.pair * self.critics)
        actor = Actor(policy, self.initial_log_alpha())
        return LearnerState(
            policy,
            critics,
            target_critics=critics,
            target_policy=policy if self.has_target_policy else None,
            log_alpha=actor.log_alpha,
            policy_opt=self.policy_optimizer.init(actor),
            critic_opt=self.critic_optimizer.init(critics),
            updates=jnp.zeros((), jnp.int32),
        )

    @property
    def network(self) -> Callable[..., MLP]:
        """Makes untrained networks: (key, sizes, members)."""
        make = partial(init_mlp, activation=self.activation, initializer=self.initializer)
        return partial(make, layer_norm=self.layer_norm, standardize_inputs=self.standardize)

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
        return predict(networks, self.to_all(join(features, action)), self.pair).min(1)

    def target_values(
        self,
        state: LearnerState,
        features: Float[Array, "*rows features"],
        action: Float[Array, "*rows action"],
        bonus: Float[Array, "*rows"],
    ) -> Float[Array, "critics *rows"]:
        """The values that targets use, without the entropy bonus of these actions, which targets add."""
        del bonus
        return self.values(state.target_critics, features, action)

    def policy_value(
        self, state: LearnerState, features: Float[Array, "*rows features"], action: Float[Array, "*rows action"]
    ) -> Float[Array, "*rows"]:
        """The value that a policy's actions should raise, by the online critics."""
        return self.to_value(state, self.values(state.critics, features, action).mean(0))

    def to_value(self, state: LearnerState, output: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """Values, from outputs of the critics; the same unless overridden."""
        del state
        return output

    def to_output(self, state: LearnerState, value: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """The inverse of `to_value`."""
        del state
        return value

    def rescaled(self, state: LearnerState, reward: Float[Array, "*rows"]) -> LearnerState:
        """With a scale of values that goes with such rewards, where the learner has one; NaN: a reward to leave out."""
        del reward
        return state

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
        elif self.assignment == "all":
            x, target, weight = map(self.to_all, (x, target, weight))
        else:
            assigned = jax.random.randint(key, target.shape[1:], 0, self.critics)
            weight = jnp.where(assigned == jnp.arange(self.critics)[:, None, None], weight, 0.0)
            x, target = self.to_all(x), self.to_all(target)
        guess = predict(critics, x, self.pair).mean(3)
        square = jnp.square(guess - jax.lax.stop_gradient(target)[:, None])
        loss = 0.5 * (weight[:, None] * square).sum() / count
        if self.critic_weight_decay:
            loss += 0.5 * self.critic_weight_decay * sum(jnp.square(w).sum() for w in critics.weights)
        return loss, guess[:, :, 0].mean()

    def update(
        self,
        state: LearnerState,
        key: Key[Array, ""],
        features: Float[Array, "sources particles batch features"],
        action: Float[Array, "sources particles batch action"],
        target: Float[Array, "sources batch"],
        weight: Float[Array, "sources batch"],
        visits: Visits | None = None,
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
            visits: where imagination went, for learners with a state-value function.

        Returns:
            The new state, and metrics.
        """
        del visits
        critic_key, policy_key = jax.random.split(key)
        due = (state.updates + 1) % self.policy_delay == 0 if self.policy_delay > 1 else jnp.ones((), bool)
        actor = Actor(state.policy, state.log_alpha)
        (critic_loss, mean_q), critic_grads = jax.value_and_grad(self.critic_loss, has_aux=True)(
            state.critics, critic_key, features, action, self.to_output(state, target), weight
        )
        (loss, metrics), policy_grads = self._policy_gradient(actor, state, features[0, 0], policy_key, due)
        ok, sound = all_finite(critic_loss + loss, (policy_grads, critic_grads)), jnp.isfinite(critic_loss + loss)
        actor, policy_opt = step_if(sound & due, self.policy_optimizer, policy_grads, actor, state.policy_opt)
        critics, critic_opt = step_if(sound, self.critic_optimizer, critic_grads, state.critics, state.critic_opt)
        state = state._replace(policy=actor.policy, log_alpha=actor.log_alpha, policy_opt=policy_opt)
        state = state._replace(critics=critics, critic_opt=critic_opt, updates=state.updates + 1)
        state, noise = self.after_update(state, features[0, 0], jax.random.fold_in(key, 2))
        metrics = {**metrics, **noise, "critic_loss": critic_loss, "mean_q": self.to_value(state, mean_q)}
        metrics = {name: jnp.where(ok, value, 0.0) for name, value in metrics.items()}
        return self._follow(state, due), {**metrics, "value_skipped": jnp.where(ok, 0.0, 1.0)}

    def _policy_gradient(
        self,
        actor: Actor,
        state: LearnerState,
        features: Float[Array, "batch features"],
        key: Key[Array, ""],
        due: Bool[Array, ""],
    ) -> tuple[tuple[Float[Array, ""], Metrics], Actor]:
        """The policy's loss with its metrics, and its gradient.

        All are zeros where no update of the policy is due. Where one is due, metrics are multiplied by `policy_delay`,
        so that their mean over all updates is right.
        """

        @partial(jax.jit, inline=True)  # traced once, for its shapes and for the conditional
        def learn(*arguments: Any) -> tuple[tuple[Float[Array, ""], Metrics], Actor]:
            (loss, metrics), grads = jax.value_and_grad(self.policy_loss, has_aux=True)(*arguments)
            return (loss, jax.tree.map(lambda value: self.policy_delay * value, metrics)), grads

        arguments = (actor, state, features, key)
        none = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(learn, *arguments))
        return jax.lax.cond(due, learn, lambda *_: none, *arguments)

    def _follow(self, state: LearnerState, due: Bool[Array, ""]) -> LearnerState:
        """The state with its target networks updated for the next update."""
        critics = optax.incremental_update(
            state.critics, state.target_critics, self.target_share(self.target_tau, state, due)
        )
        state = state._replace(target_critics=critics)
        if state.target_policy is None:
            return state
        share = self.target_share(self.policy_target_tau or self.target_tau, state, due)
        return state._replace(target_policy=optax.incremental_update(state.policy, state.target_policy, share))

    def target_share(
        self, tau: float | None, state: LearnerState, due: Bool[Array, ""] | bool = True
    ) -> Float[Array, ""]:
        """By how much of their distance targets move after an update, in which the policy's was due or not."""
        if tau is None:
            return jnp.where((state.updates + 1) % self.target_every == 0, 1.0, 0.0)
        return jnp.where(due, tau, 0.0)

    def to_all(self, a: Float[Array, "*shape"]) -> Float[Array, "critics *shape"]:
        return jnp.broadcast_to(a, (self.critics, *a.shape))
