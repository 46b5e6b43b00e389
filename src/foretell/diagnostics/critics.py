"""Agents with critics: the values of pairs, and what their policy would earn in imagination."""

from typing import TypeGuard

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell.agents import PolicyOptimization, ValueExpansion
from foretell.agents.base import Agent, State
from foretell.models import TrueModel
from foretell.nn import Normalizer
from foretell.tasks import Task
from foretell.values.improvement import Improver
from foretell.values.value_gradient import soft_return

WithCritics = ValueExpansion | PolicyOptimization


def features_of(
    task: Task, inputs: Normalizer | None, obs: Float[Array, "*rows obs"]
) -> Float[Array, "*rows features"]:
    """What policy and critics see of observations; `inputs` standardises features, if it is not None."""
    features = task.features(obs)
    return features if inputs is None else inputs.normalize(features)


def pair_values(
    agent: WithCritics,
    state: State,
    obs: Float[Array, "e times d"],
    action: Float[Array, "e t a"],
    length: Array,
    key: Key[Array, ""],
) -> tuple[Float[Array, "e t"], Float[Array, "e t"], Float[Array, "e"]]:
    """Values by critics and by target critics, means over the ensemble, and of where each episode has come to.

    The last one is that of the last observation and the action of the policy of targets there, with its entropy bonus.
    All are in the environment's units of reward.
    """
    learner, task, learned = agent.learner, agent.task, state.learner
    features = features_of(task, getattr(state, "inputs", None), jnp.float32(obs))
    unit = task.to_unit(jnp.float32(action))
    critic, target = (
        learner.to_value(learned, learner.values(networks, features[:, :-1], unit).mean(0))
        for networks in (learned.critics, learned.target_critics)
    )
    last = features[jnp.arange(len(features)), length]
    final, bonus = learner.propose(learned, last[None], key)
    tail = learner.to_value(learned, learner.values(learned.target_critics, last, final[0]).mean(0)) + bonus[0]
    return critic / learner.reward_scale, target / learner.reward_scale, tail / learner.reward_scale


def imagines_returns(agent: Agent) -> TypeGuard[PolicyOptimization]:
    """Whether `imagined_returns` are defined: the policy is improved in imagination, and the model is learned."""
    return isinstance(agent, PolicyOptimization) and agent.model is not None and not isinstance(agent.model, TrueModel)


def imagined_returns(
    agent: PolicyOptimization, state: State, obs: Float[Array, "e times d"], key: Key[Array, ""]
) -> Float[Array, "e t"]:
    """The soft return that the policy is improved by, from every observation but the last of each episode.

    It is the return of a rollout in the model, as long as those through which gradients flow, or as branches where
    there are none of these; then come the critics' values. The entropy bonus of the first action is left out, as in
    values of pairs. In the environment's units of reward.

    Args:
        agent: the agent.
        state: what it has learned.
        obs: of episodes.
        key: for the noise of policy and model.
    """
    assert agent.model is not None
    branches, steps = agent.branches, agent.improvement.horizon
    if agent.improvement.kind == "replay" and branches is not None:
        steps = branches.horizon
    learner, learned, rows = agent.learner, state.learner, jnp.float32(obs[:, :-1]).reshape(-1, obs.shape[-1])
    padded = jnp.resize(rows, (-(-len(rows) // agent.model.particles) * agent.model.particles, rows.shape[-1]))
    improver = Improver(agent.task, learner, agent.model, steps)
    path = improver.path(learned.policy, learned, state.inputs, agent.model_params(state), padded, key)
    value = learner.policy_value(learned, path.features[-1], path.action[-1])
    found = soft_return(path, value, learner.discount) - path.bonus[0]
    return (found / learner.reward_scale)[: len(rows)].reshape(obs.shape[0], -1)
