"""`WorldModel`: a task seen through an ensemble, and imagination, its rollout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import PositiveInt

from foretell.replay import Transitions
from foretell.settings import Settings
from foretell.tasks.base import Task
from foretell.worldmodel.ensemble import Ensemble
from foretell.worldmodel.prediction import Prediction, Predictor, Rows
from foretell.worldmodel.propagation import (
    PROPAGATIONS,
    Noise,
    Propagation,
    PropagationName,
    Shape,
    normals,
    rematch,
)

_PARTICLES = 20
"""The paper's number of particles."""

Model = Ensemble


class Imagination(Settings):
    """How trajectories are imagined. The defaults are the paper's."""

    propagation: PropagationName = "TSinf"
    """How particles use the members; see `foretell.worldmodel.propagation`."""
    particles: PositiveInt | None = 20
    """Sampled trajectories per candidate: a multiple of the number of members with TS1 and TSinf, 1 with E. If null,
    the smallest such number from 20 on, or 1 with E."""
    shared_noise: bool = False
    """Give all candidates the same random draws, so that they are compared on equal luck (common random numbers)."""
    ignore_variance: bool = False
    """Take every predicted mean for certain: TS1 and TSinf then differ between members alone, and DS and MM are E with
    many equal particles."""
    moment_matching: Literal["increments", "state"] = "increments"
    """What MM matches: the model's outputs, which each particle adds to its own state (the released code), or the
    states themselves."""

    def check(self, model: Model) -> None:
        """Raises `ValueError` where the model does not go with the propagation (the released code's rules)."""
        name, members = self.propagation, model.members
        if name.startswith("TS") and members < 2:
            raise ValueError(
                f"imagination.propagation={name} needs a model of several networks, not {model.name}; "
                f"choose one of: {'E' if model.name == 'D' else 'E, DS, MM'}"
            )
        if model.name == "D" and name != "E":
            raise ValueError(f"imagination.propagation={name} needs an uncertain model, which D is not; choose E")
        if name == "E" and self.particles not in (1, None):
            raise ValueError(
                f"imagination.propagation=E has one particle, not {self.particles}; set imagination.particles=1"
            )
        if name in ("TS1", "TSinf") and self.count(model) % members:
            near = max(1, round(self.count(model) / members)) * members
            raise ValueError(
                f"imagination.particles ({self.particles}) must be a multiple of model.members ({members}) "
                f"with {name}; the nearest is {near}"
            )

    def count(self, model: Model) -> int:
        """Particles per candidate."""
        if self.particles is not None:
            return self.particles
        return 1 if self.propagation == "E" else -(-_PARTICLES // model.members) * model.members


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
    model: Model
    imagination: Imagination

    @property
    def learns_reward(self) -> bool:
        return self.task.reward is None

    @property
    def out_size(self) -> int:
        """Gaussian outputs: the task's targets, and the reward if it is learned."""
        return self.task.target_size + self.learns_reward

    def init(self, key: Key[Array, ""]) -> Any:
        """The state of a fresh model of the right sizes."""
        in_size = self.task.feature_size + self.task.spec.action_size
        return self.model.init(key, in_size, self.out_size, int(self.task.learns_termination))

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
        state: Any,
        obs: Float[Array, "obs"],
        actions: Float[Array, "candidates horizon action"],
    ) -> Float[Array, "candidates"]:
        """Expected undiscounted return of each action sequence from `obs`: the mean over particles.

        After a termination nothing is earned. Chua et al. 2018, section 5.
        """
        return self._imagine(key, state, obs, actions, lambda step: None)[0]

    def trajectories(
        self, key: Key[Array, ""], state: Any, obs: Float[Array, "obs"], actions: Float[Array, "horizon action"]
    ) -> Float[Array, "times particles obs"]:
        """The imagined observations of every particle under one action sequence, `obs` first."""
        later = self._imagine(key, state, obs, actions[None], lambda step: step.next_obs)[1][:, :, 0]
        return jnp.concatenate([jnp.broadcast_to(obs, (1, *later.shape[1:])), later])

    def _imagine(
        self,
        key: Key[Array, ""],
        state: Any,
        obs: Float[Array, "obs"],
        actions: Float[Array, "candidates horizon action"],
        keep: Callable[[Step], Any],
    ) -> tuple[Float[Array, "candidates"], Any]:
        """Returns, and what `keep` takes of every step."""
        particles, (candidates, horizon, _) = self.imagination.count(self.model), actions.shape
        shape = Shape(horizon, particles, 1 if self.imagination.shared_noise else candidates, self.out_size)
        predictor = self.model.predictor(state)
        if self.imagination.ignore_variance:
            predictor = _certain(predictor)

        def body(carry: tuple, xs: tuple) -> tuple:
            obs, alive, total = carry
            step = self._step(predictor, obs, *xs)
            earned = jnp.where(alive > 0, alive * step.reward, 0.0)  # what is imagined after the end may be infinite
            return (step.next_obs, alive * step.survival, total + earned), keep(step)

        start = (
            jnp.broadcast_to(obs, (particles, candidates, obs.shape[-1])),
            jnp.ones((particles, candidates)),
            jnp.zeros((particles, candidates)),
        )
        end, kept = jax.lax.scan(body, start, (actions.swapaxes(0, 1), self._chance(key, shape)))
        return end[2].mean(0), kept

    @property
    def _propagation(self) -> Propagation:
        name, ignored = self.imagination.propagation, self.imagination.ignore_variance
        return PROPAGATIONS["E" if ignored and name in ("DS", "MM") else "DS" if self._matches_state else name]

    @property
    def _matches_state(self) -> bool:
        wanted = self.imagination.propagation == "MM" and self.imagination.moment_matching == "state"
        return wanted and not self.imagination.ignore_variance

    def _chance(self, key: Key[Array, ""], shape: Shape) -> tuple[Noise, Noise]:
        """For a whole rollout, what the propagation draws, and what the matching of states draws."""
        state_noise = None
        if self._matches_state:
            key, again = jax.random.split(key)
            state_noise = normals(again, shape._replace(out=self.task.spec.obs_size))
        return self._propagation.draw(key, shape, self.model.members), state_noise

    def _inputs(self, obs: Float[Array, "*rows obs"], action: Float[Array, "*rows action"]) -> Float[Array, "*rows in"]:
        return jnp.concatenate([self.task.features(obs), action], -1)

    def _step(
        self,
        predictor: Predictor,
        obs: Float[Array, "particles candidates obs"],
        action: Float[Array, "candidates action"],
        chance: tuple[Noise, Noise],
    ) -> Step:
        """Advance all particles; those of one candidate share its action."""
        action = jnp.broadcast_to(action, (obs.shape[0], *action.shape))
        out, logits = self._propagation.sample(predictor, self.model.members, self._inputs(obs, action), chance[0])
        next_obs = self.task.advance(obs, out[..., : self.task.target_size])
        if self._matches_state:
            next_obs = rematch(next_obs, chance[1])
        reward = out[..., -1] if self.task.reward is None else self.task.reward(obs, action, next_obs)
        if self.task.terminated is None:
            survival = jax.nn.sigmoid(-logits).prod(-1)
        else:
            survival = 1.0 - self.task.terminated(obs, action, next_obs)
        return Step(next_obs, reward, survival)


def _certain(predictor: Predictor) -> Predictor:
    """The same means, without variance."""

    def means(x: Float[Array, "members rows in"]) -> Prediction:
        prediction = predictor(x)
        return prediction._replace(logvar=jnp.full_like(prediction.logvar, -jnp.inf))

    return means
