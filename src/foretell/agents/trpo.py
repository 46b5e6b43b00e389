"""TRPO: a Gaussian policy that learns from batches of its own steps, without any model.

Schulman, Levine, Moritz, Jordan, Abbeel: "Trust region policy optimization", ICML 2015; as in Nagabandi et al. 2018
(arXiv:1708.02596), who compare with it and fine-tune by it.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from pydantic import model_validator

from foretell.agents.base import Agent, Extras, Metrics, Pretrained, RunSettings, State
from foretell.agents.imitation import ImitatorSettings
from foretell.registry import register
from foretell.replay import Trajectories
from foretell.tasks import Task
from foretell.values.gaussian import GaussianPolicy, GaussianState
from foretell.values.trpo import Batch, TRPOState, TRPOUpdate


@register("agent", "trpo")
class TRPOSettings(RunSettings):
    """Everything a preset of TRPO may set. A batch is `train.steps_per_learning` steps."""

    agent: str = "trpo"
    policy: GaussianPolicy = GaussianPolicy()
    trpo: TRPOUpdate = TRPOUpdate()

    @property
    def needs_data(self) -> bool:
        return False  # it collects its data itself, from the first step on

    @model_validator(mode="after")
    def _check(self) -> "TRPOSettings":
        if self.train.steps_per_learning is None:
            raise ValueError(f"train.steps_per_learning must be given: it is the batch of '{self.agent}'")
        if self.train.random_steps:
            raise ValueError(f"train.random_steps must be 0: '{self.agent}' learns from its own actions alone")
        return self

    def start_from(self, other: Pretrained, own: State) -> State:
        """Go on from a run of TRPO, or begin with the means of a policy that imitated a planner.

        Its standard deviations are the chosen ones: imitation learns means only (Nagabandi et al. 2018, section V).
        """
        theirs = other.settings
        if not isinstance(theirs, ImitatorSettings):
            return super().start_from(other, own)
        chosen = self.policy.model_dump(include={"initial_std", "learn_std"})
        self.check_same(theirs.model_copy(update={"policy": theirs.policy.model_copy(update=chosen)}), "policy")
        return own._replace(policy=own.policy._replace(network=other.state.policy.network))

    def build(self, task: Task) -> "TRPO":
        return TRPO(task, self.policy, self.trpo)


class TRPOPolicy(NamedTuple):
    """What acting needs: the policy, and the number of iterations it has learned in."""

    policy: GaussianState
    version: Int[Array, ""]


@dataclass(frozen=True)
class TRPO(Agent):
    """The policy, and what it learns by. A batch are the steps between two calls of `learn`."""

    data: ClassVar[Literal["replay", "trajectories"]] = "trajectories"
    pretraining: ClassVar[int] = 0  # type: ignore[misc]

    task: Task
    gaussian: GaussianPolicy
    optimizer: TRPOUpdate

    def init(self, key: Key[Array, ""]) -> TRPOState:
        policy = self.gaussian.init(key, self.task.feature_size, self.task.spec.action_size)
        return self.optimizer.init(policy, self.task.feature_size)

    def policy(self, state: TRPOState) -> TRPOPolicy:
        return TRPOPolicy(state.policy, state.iterations)

    def act(
        self,
        params: TRPOPolicy,
        carry: tuple[()],
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], tuple[()], Extras]:
        """Actions drawn from the policy, which may lie beyond the bounds; or its means, brought within them."""
        features = self.task.features(obs)
        if explore:
            action = self.gaussian.sample(params.policy, features, key)
        else:
            action = jnp.clip(self.gaussian.mean(params.policy, features), -1.0, 1.0)
        return self.task.from_unit(action), carry, {"policy_version": jnp.broadcast_to(params.version, len(obs))}

    def learn(self, state: TRPOState, data: Trajectories, key: Key[Array, ""]) -> tuple[TRPOState, Metrics]:
        """One iteration on a whole batch of the acting policy's own steps."""
        del key
        batch = Batch(
            self.task.features(data.obs),
            self.task.to_unit(data.action),
            data.reward,
            self.task.features(data.next_obs),
            data.terminated,
            data.over,
            data.time,
        )
        state, metrics = self.optimizer.update(self.gaussian, state, batch)
        return state, {**metrics, "policy_version": jnp.float32(state.iterations)}
