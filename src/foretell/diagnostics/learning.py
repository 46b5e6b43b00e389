"""How a learner is doing: gradients of its losses on a batch, noise of exploration, sizes of its weights."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from foretell.agents import ValueExpansion
from foretell.agents.base import Agent, Metrics, PolicyParams, State
from foretell.replay import Transitions
from foretell.tasks import Task
from foretell.values.learners import Actor


def norms(tree: PyTree) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`sqrt(sum_n g_n^2)` and `max_n |g_n|` over all numbers `g_n` of a tree."""
    leaves = jax.tree.leaves(tree)
    square = sum(jnp.square(leaf).sum() for leaf in leaves)
    return jnp.sqrt(square), jnp.stack([jnp.abs(leaf).max() for leaf in leaves]).max()


def losses(agent: ValueExpansion, state: Any, batch: Transitions, key: Key[Array, ""]) -> Metrics:
    """The losses of policy and critics on a batch, and the 2-norm and the infinity norm of their gradients.

    Targets are computed as in training, imagined pairs of the TD-k trick included. Each gradient is that of its own
    parameters, before the optimiser.

    Args:
        agent: the agent.
        state: what it has learned.
        batch: transitions, as many as `learner.batch_size` (a multiple of `learner.critics`).
        key: for noise in targets and losses.
    """
    target_key, critic_key, policy_key = jax.random.split(key, 3)
    learned, learner = state.learner, agent.learner
    features, action, targets, _ = agent.critic_data(state, batch, target_key)
    (critic_loss, _), critic_grads = jax.value_and_grad(learner.critic_loss, has_aux=True)(
        learned.critics, critic_key, features, action, targets.target, targets.weight
    )
    (policy_loss, _), policy_grads = jax.value_and_grad(learner.policy_loss, has_aux=True)(
        Actor(learned.policy, learned.log_alpha), learned, features[0, 0], policy_key
    )
    found = {"policy": norms(policy_grads.policy), "critic": norms(critic_grads)}
    named = {f"{name}_grad_{kind}": value for name, pair in found.items() for kind, value in zip(("2", "inf"), pair)}  # noqa: B905
    return {"policy_loss": policy_loss, "critic_loss": critic_loss, **named}


def action_noise(
    agent: Agent, task: Task, policy: PolicyParams, obs: Float[Array, "batch obs"], key: Key[Array, ""]
) -> Float[Array, ""]:
    """`sqrt(mean_ba (u_ba - v_ba)^2)`: exploring actions `u` against greedy ones `v`, as shares of the action range."""
    begin_key, act_key = jax.random.split(key)

    def act(explore: bool) -> Float[Array, "batch action"]:
        carry = agent.begin(policy, obs, begin_key)
        return task.to_unit(agent.act(policy, carry, obs, act_key, explore=explore)[0])

    return 0.5 * jnp.sqrt(jnp.square(act(True) - act(False)).mean())


def mean_absolute(tree: PyTree) -> Metrics:
    """`mean_n |w_n|` of every array of weights in a tree, by its path, such as `weights_0`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"_".join(_word(step) for step in path): jnp.abs(leaf).mean() for path, leaf in leaves}


def weights(state: State) -> Metrics:
    """`mean_absolute` of what is trained of the policy and of the critics of a learner."""
    networks = {"policy": state.learner.policy, "critic": state.learner.critics}
    parts = {part: replace(network, input_mean=None, input_std=None) for part, network in networks.items()}
    return {f"{part}_{name}": value for part, tree in parts.items() for name, value in mean_absolute(tree).items()}


def _word(step: Any) -> str:
    return str(getattr(step, "name", getattr(step, "idx", getattr(step, "key", step))))
