"""A step of the critics and a step of the policy, apart from each other.

`Learner.update` takes both from the same parameters. Where the policy's gradient comes through a world model, the
critics step first, and the policy's loss is computed with the new ones (Kubo et al. 2025, DHMBPO).
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from foretell.nn import MLP, all_finite, step_if
from foretell.values.learners.base import Learner
from foretell.values.learners.state import Actor, LearnerState, Metrics


def step_critics(
    learner: Learner,
    state: LearnerState,
    key: Key[Array, ""],
    features: Float[Array, "rows features"],
    action: Float[Array, "rows action"],
    target: Float[Array, "rows"],
) -> tuple[LearnerState, Metrics]:
    """One step of the critics towards targets; then the target critics follow.

    A step whose loss is not finite is skipped, and the metric `value_skipped` is 1.

    Args:
        learner: its settings.
        state: what has been learned.
        key: for the assignment of critics.
        features: of the observations.
        action: in [-1, 1].
        target: of every pair, in units of values.
    """
    loss_of = jax.value_and_grad(learner.critic_loss, has_aux=True)
    pairs = features[None, None], action[None, None], learner.to_output(state, target)[None]
    (loss, mean_q), grads = loss_of(state.critics, key, *pairs, jnp.ones_like(target)[None])
    critics, opt = step_if(jnp.isfinite(loss), learner.critic_optimizer, grads, state.critics, state.critic_opt)
    share = learner.target_share(learner.target_tau, state)
    targets = optax.incremental_update(critics, state.target_critics, share)
    skipped = 1.0 - all_finite(loss, grads)
    metrics = {"critic_loss": loss, "mean_q": learner.to_value(state, mean_q)}
    metrics = {name: jnp.where(skipped > 0, 0.0, value) for name, value in metrics.items()}
    state = state._replace(critics=critics, critic_opt=opt, target_critics=targets, updates=state.updates + 1)
    return state, {**metrics, "value_skipped": skipped}


def step_policy(
    learner: Learner, state: LearnerState, loss: Float[Array, ""], grads: MLP, bonus: Float[Array, "rows"]
) -> tuple[LearnerState, Metrics]:
    """One step of the policy along a given gradient, and one of the temperature where there is one.

    Args:
        learner: its settings.
        state: what has been learned.
        loss: the policy's; a step where it is not finite is skipped.
        grads: its gradient.
        bonus: entropy bonuses of the policy's actions.
    """
    metrics = {"policy_loss": loss}
    log_alpha = None
    if state.log_alpha is not None:
        entropy = bonus.mean() / jnp.exp(state.log_alpha)
        size = state.policy.biases[-1].shape[-1] // learner.policy_outputs
        log_alpha = jax.grad(learner.temperature_loss)(state.log_alpha, entropy, size)  # type: ignore[attr-defined]
        metrics |= {"alpha": jnp.exp(state.log_alpha), "entropy": entropy}
    gradient, actor = Actor(grads, log_alpha), Actor(state.policy, state.log_alpha)
    sound = jnp.isfinite(loss)
    actor, opt = step_if(sound, learner.policy_optimizer, gradient, actor, state.policy_opt)
    ok = all_finite(loss, gradient)
    metrics = {name: jnp.where(ok, value, 0.0) for name, value in metrics.items()}
    state = state._replace(policy=actor.policy, log_alpha=actor.log_alpha, policy_opt=opt)
    return state, {**metrics, "policy_skipped": 1.0 - ok}


def fresh_optimizers(learner: Learner, state: LearnerState) -> LearnerState:
    """What has been learned, with new moments of Adam."""
    actor = Actor(state.policy, state.log_alpha)
    policy, critics = learner.policy_optimizer.init(actor), learner.critic_optimizer.init(state.critics)
    return state._replace(policy_opt=policy, critic_opt=critics)
