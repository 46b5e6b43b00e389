"""One update of policy and critics: by the gradient of an imagined return, or by the learner's own losses on rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import Field, PositiveInt

from foretell.models import Params, TrainedModel, rollout
from foretell.nn import MLP, Normalizer
from foretell.replay import Transitions
from foretell.settings import Settings
from foretell.tasks import Task
from foretell.values.branches import spread
from foretell.values.expansion import Expansion, imagine
from foretell.values.learners import Learner, LearnerState
from foretell.values.learners.state import Metrics
from foretell.values.learners.steps import step_critics, step_policy
from foretell.values.value_gradient import Path, path_targets, soft_return

_UNROLLED = 8
"""Imagined steps that are compiled as straight code."""


class Improvement(Settings):
    """How policy and critics are improved. The defaults are those of DHMBPO."""

    kind: Literal["gradient", "replay"] = "gradient"
    """By the gradient of an imagined return through the model, and targets along the same rollout (`gradient`: SVG,
    DHMBPO), or by the learner's own losses on transitions (`replay`: MBPO, SAC)."""
    horizon: PositiveInt = 5
    """Steps of the rollout through which gradients flow."""
    real_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the transitions of each minibatch that are real, with `replay`; without branches all are."""


@dataclass(frozen=True)
class Improver:
    """Updates of what a learner has learned.

    `inputs` standardises the features that policy and critics see; `params` is what imagination needs of the model.
    """

    task: Task
    learner: Learner
    model: TrainedModel | None
    horizon: int
    """Steps of the rollout through which gradients flow."""

    def features(self, inputs: Normalizer, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """What policy and critics see of observations."""
        return inputs.normalize(self.task.features(obs))

    def act(self, state: LearnerState, inputs: Normalizer) -> Callable[..., Any]:
        """The policy in imagination; it keeps the action in [-1, 1] and its entropy bonus."""

        def act(key: Key[Array, ""], obs: Array, t: Array) -> tuple[Array, tuple[Array, Array]]:
            del t
            action, bonus = self.learner.propose(state, self.features(inputs, obs), key)
            return self.task.from_unit(action), (action, bonus)

        return act

    def path(
        self,
        policy: MLP,
        state: LearnerState,
        inputs: Normalizer,
        params: Params,
        obs: Float[Array, "rows obs"],
        key: Key[Array, ""],
    ) -> Path:
        """The rollout of a policy from these observations, through which gradients flow."""
        assert self.model is not None
        begin_key, roll_key, last_key = jax.random.split(key, 3)
        act = self.act(state._replace(policy=policy), inputs)
        begin = spread(self.model, params, obs, begin_key, self.model.particles)
        steps = rollout(self.model, params, begin, act, self.horizon, roll_key, unroll=min(self.horizon, _UNROLLED))
        _, last = act(last_key, steps.end.obs, jnp.int32(self.horizon))
        action, bonus = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), steps.extras, last)
        reward = self.learner.reward_scale * steps.reward.mean(1)
        found = Path(self.features(inputs, steps.obs), action, bonus, reward, steps.terminated)
        return jax.tree.map(lambda a: a.reshape(len(a), -1, *a.shape[3:]), found)

    def with_targets(self, state: LearnerState, path: Path) -> tuple[LearnerState, Float[Array, "rows"]]:
        """The scale of values after a rollout, and the targets of its first pairs."""
        ends = path.terminated > 0.5
        over = jnp.cumsum(ends, 0) > ends
        soft = jnp.where(over, jnp.nan, path.reward + path.bonus[:-1])
        state = self.learner.rescaled(state, jax.lax.stop_gradient(soft))
        value = self.learner.target_values(state, path.features[-1], path.action[-1], path.bonus[-1]).mean(0)
        return state, path_targets(path, value, self.learner.discount)

    def update_critics(
        self,
        state: LearnerState,
        inputs: Normalizer,
        params: Params,
        obs: Float[Array, "rows obs"],
        key: Key[Array, ""],
    ) -> tuple[LearnerState, Metrics]:
        """One update of the critics alone, by a rollout from these observations."""
        roll_key, step_key = jax.random.split(key)
        path = self.path(state.policy, state, inputs, params, obs, roll_key)
        state, target = self.with_targets(state, path)
        return step_critics(self.learner, state, step_key, path.features[0], path.action[0], target)

    def update_by_gradient(
        self,
        state: LearnerState,
        inputs: Normalizer,
        params: Params,
        obs: Float[Array, "rows obs"],
        key: Key[Array, ""],
    ) -> tuple[LearnerState, Metrics]:
        """One update of the critics, then one of the policy by the new critics, both by the same rollout."""
        roll_key, step_key = jax.random.split(key)
        path, pull_back = jax.vjp(lambda policy: self.path(policy, state, inputs, params, obs, roll_key), state.policy)
        state, target = self.with_targets(state, path)
        state, metrics = step_critics(self.learner, state, step_key, path.features[0], path.action[0], target)

        def loss_of(path: Path) -> Float[Array, ""]:
            value = self.learner.policy_value(state, path.features[-1], path.action[-1])
            return -soft_return(path, value, self.learner.discount).mean()

        loss, slope = jax.value_and_grad(loss_of)(path)
        (grads,) = pull_back(slope)
        state, found = step_policy(self.learner, state, loss, grads, path.bonus[0])
        skipped = jnp.maximum(metrics["value_skipped"], found.pop("policy_skipped"))
        return state, {**metrics, **found, "value_skipped": skipped}

    def update_by_replay(
        self, state: LearnerState, inputs: Normalizer, batch: Transitions, key: Key[Array, ""]
    ) -> tuple[LearnerState, Metrics]:
        """One update by the learner's own losses, with one-step targets."""
        imagine_key, update_key = jax.random.split(key)

        def value(obs: Array, action: Array, bonus: Array) -> Array:
            return self.learner.target_values(state, self.features(inputs, obs), action, bonus)

        act = self.act(state, inputs)
        frames = imagine(imagine_key, 0, batch, model=None, params=None, particles=1, act=act, value=value)
        found = Expansion(horizon=0).targets(frames, self.learner.discount, self.learner.reward_scale)
        pairs = self.features(inputs, batch.obs)[None, None], self.task.to_unit(batch.action)[None, None]
        return self.learner.update(state, update_key, *pairs, found.target, found.weight)
