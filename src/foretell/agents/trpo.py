"""TRPO: a Gaussian policy that learns from batches of its own steps, without any model.

Schulman, Levine, Moritz, Jordan, Abbeel: "Trust region policy optimization", ICML 2015; as in Nagabandi et al. 2018
(arXiv:1708.02596), who compare with it and fine-tune by it.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from pydantic import model_validator

from foretell.agents.base import Metrics, RunSettings, State
from foretell.agents.imitation import ImitatorSettings
from foretell.replay import Replay, newest
from foretell.tasks import Task
from foretell.values.gaussian import GaussianPolicy
from foretell.values.trpo import Batch, TRPOState, TRPOUpdate


class TRPOSettings(RunSettings):
    """Everything a preset of TRPO may set. A batch is `train.steps_per_learning` steps."""

    learns: ClassVar[bool] = False  # it collects its data itself, from the first step on

    agent: Literal["trpo"] = "trpo"
    policy: GaussianPolicy = GaussianPolicy()
    trpo: TRPOUpdate = TRPOUpdate()

    @model_validator(mode="after")
    def _check(self) -> "TRPOSettings":
        if self.train.steps_per_learning is None:
            raise ValueError(f"train.steps_per_learning must be given: it is the batch of '{self.agent}'")
        if self.train.random_steps:
            raise ValueError(f"train.random_steps must be 0: '{self.agent}' learns from its own actions alone")
        return self

    def adopt(self, settings: RunSettings, state: State, own: State) -> State:
        """Go on from a run of TRPO, or begin with the means of a policy that imitated a planner.

        Its deviations are the chosen ones: imitation learns means only (Nagabandi et al. 2018, section V).
        """
        if not isinstance(settings, ImitatorSettings):
            return super().adopt(settings, state, own)
        chosen = self.policy.model_dump(include={"initial_std", "learn_std"})
        self.check_same(settings.model_copy(update={"policy": settings.policy.model_copy(update=chosen)}), "policy")
        return own._replace(policy=own.policy._replace(network=state.policy.network))

    def build(self, task: Task) -> "TRPO":
        assert self.train.steps_per_learning is not None
        times = self.train.steps_per_learning // self.train.environments
        return TRPO(task, self.policy, self.trpo, times, self.train.environments)


@dataclass(frozen=True)
class TRPO:
    """The policy, what it learns by, and the shape of its batches: so many `times` in so many `environments`."""

    task: Task
    policy: GaussianPolicy
    optimizer: TRPOUpdate
    times: int
    environments: int

    @property
    def pretraining(self) -> int:
        """It acts before it has learned."""
        return 0

    def epoch(self, state: TRPOState) -> Int[Array, ""]:
        """Policies there have been after the first."""
        return state.iterations

    def init(self, key: Key[Array, ""]) -> TRPOState:
        policy = self.policy.init(key, self.task.feature_size, self.task.spec.action_size)
        return self.optimizer.init(policy, self.task.feature_size)

    def start(self, batch: int) -> tuple[()]:
        """It remembers nothing within an episode."""
        return ()

    def act(
        self, state: TRPOState, memory: tuple[()], obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], tuple[()]]:
        """Actions drawn from the policy, which may lie beyond the bounds; or its means, brought within them."""
        features = self.task.features(obs)
        if explore:
            return self.task.from_unit(self.policy.sample(state.policy, features, key)), memory
        return self.task.from_unit(jnp.clip(self.policy.mean(state.policy, features), -1.0, 1.0)), memory

    def learn(
        self, state: TRPOState, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[TRPOState, Metrics]:
        """One iteration on the newest transitions, of which `new` must be a whole batch.

        All are the acting policy's: the loop calls this when a batch is complete and at no other time.
        """
        del new, key
        state, metrics = self.optimizer.update(self.policy, state, self._batch(replay))
        return state, {**metrics, "epoch": jnp.float32(state.iterations)}

    def _batch(self, replay: Replay) -> Batch:
        """The newest steps, oldest first. They were stored time by time, and within a time by environment."""
        shape = (self.times, self.environments)
        rows = newest(replay, self.times * self.environments)
        rows = jax.tree.map(lambda a: a[::-1].reshape(*shape, *a.shape[1:]), rows)
        return Batch(
            self.task.features(rows.obs),
            self.task.to_unit(rows.action),
            rows.reward,
            self.task.features(rows.next_obs),
            rows.terminated,
            rows.over,
            rows.time,
        )
