"""`WorldModel`: a task seen through an ensemble, and imagination, its rollout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import PositiveInt

from foretell.nn.mlp import fold_normalizer
from foretell.replay import Transitions
from foretell.settings import Settings
from foretell.tasks.base import Task
from foretell.worldmodel.ensemble import Ensemble, EnsembleParams, EnsembleState, Prediction, predict
from foretell.worldmodel.fit import Rows
from foretell.worldmodel.propagation import PROPAGATIONS


class Imagination(Settings):
    """How trajectories are imagined. The defaults are the paper's."""

    propagation: Literal["TSinf"] = "TSinf"
    """How particles use the members; with TSinf a particle stays with one member for the whole trajectory."""
    particles: PositiveInt = 20
    """Sampled trajectories per candidate; a multiple of the number of members."""
    shared_noise: bool = False
    """Give all candidates the same random draws, so that they are compared on equal luck (common random numbers)."""


class Step(NamedTuple):
    """One imagined step of every particle of every candidate."""

    next_obs: Float[Array, "particles candidates obs"]
    reward: Float[Array, "particles candidates"]
    survival: Float[Array, "particles candidates"]
    """Probability that the episode goes on."""


@dataclass(frozen=True)
class WorldModel:
    """Learned dynamics of a task. Rewards and terminations that the task does not know are learned with them."""

    task: Task
    ensemble: Ensemble
    imagination: Imagination

    @property
    def learns_reward(self) -> bool:
        return self.task.reward is None

    @property
    def out_size(self) -> int:
        """Gaussian outputs: the task's targets, and the reward if it is learned."""
        return self.task.target_size + self.learns_reward

    def init(self, key: Key[Array, ""]) -> EnsembleState:
        """A fresh ensemble of the right sizes."""
        in_size = self.task.feature_size + self.task.spec.action_size
        return self.ensemble.init(key, in_size, self.out_size, int(self.task.learns_termination))

    def rows(self, data: Transitions) -> Rows:
        """The regression problem that transitions pose."""
        y = self.task.target(data.obs, data.next_obs)
        if self.learns_reward:
            y = jnp.concatenate([y, data.reward[:, None]], -1)
        flags = data.terminated[:, None] if self.task.learns_termination else jnp.zeros((len(y), 0), bool)
        return Rows(self._inputs(data.obs, data.action), y, flags)

    def returns(
        self,
        key: Key[Array, ""],
        state: EnsembleState,
        obs: Float[Array, "obs"],
        actions: Float[Array, "candidates horizon action"],
    ) -> Float[Array, "candidates"]:
        """Expected undiscounted return of each action sequence from `obs`: the mean over particles.

        After a termination nothing is earned. Chua et al. 2018, section 5.
        """
        particles, (candidates, horizon, _) = self.imagination.particles, actions.shape
        draws = 1 if self.imagination.shared_noise else candidates
        noise = jax.random.normal(key, (horizon, particles, draws, self.out_size))
        predictor = self._predictor(state)

        def body(carry: tuple, xs: tuple) -> tuple:
            obs, alive, total = carry
            step = self._step(predictor, obs, *xs)
            earned = jnp.where(alive > 0, alive * step.reward, 0.0)  # what is imagined after the end may be infinite
            return (step.next_obs, alive * step.survival, total + earned), None

        start = (
            jnp.broadcast_to(obs, (particles, candidates, obs.shape[-1])),
            jnp.ones((particles, candidates)),
            jnp.zeros((particles, candidates)),
        )
        (_, _, total), _ = jax.lax.scan(body, start, (actions.swapaxes(0, 1), noise))
        return total.mean(0)

    def _inputs(self, obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"]) -> Float[Array, "*rows in"]:
        return jnp.concatenate([self.task.features(obs), action], -1)

    def _predictor(self, state: EnsembleState) -> Callable[[Array], Prediction]:
        """From raw inputs to Gaussians over raw targets, the input normaliser folded into the network."""
        network = fold_normalizer(state.params.network, state.inputs)
        params = EnsembleParams(network, state.params.max_logvar, state.params.min_logvar)

        def raw(x: Float[Array, "members rows in"]) -> Prediction:
            mean, logvar, logits = predict(params, x)
            return Prediction(state.targets.denormalize(mean), logvar + 2.0 * jnp.log(state.targets.std), logits)

        return raw

    def _step(
        self,
        predictor: Callable[[Array], Prediction],
        obs: Float[Array, "particles candidates obs"],
        action: Float[Array, "candidates action"],
        noise: Float[Array, "particles draws out"],
    ) -> Step:
        """Advance all particles; those of one candidate share its action."""
        action = jnp.broadcast_to(action, (obs.shape[0], *action.shape))
        propagate = PROPAGATIONS[self.imagination.propagation]
        out, logits = propagate(predictor, self.ensemble.members, self._inputs(obs, action), noise)
        next_obs = self.task.advance(obs, out[..., : self.task.target_size])
        reward = out[..., -1] if self.task.reward is None else self.task.reward(obs, action, next_obs)
        if self.task.terminated is None:
            survival = jax.nn.sigmoid(-logits).prod(-1)
        else:
            survival = 1.0 - self.task.terminated(obs, action, next_obs)
        return Step(next_obs, reward, survival)
