"""`WorldModel`: a task seen through an ensemble, and imagination, its rollout."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from pydantic import FiniteFloat, PositiveInt

from foretell.replay import Transitions
from foretell.settings import Settings
from foretell.tasks.base import Follows, Task
from foretell.tasks.waypoints import Progress
from foretell.worldmodel.ensemble import Ensemble, EnsembleState
from foretell.worldmodel.gp import GP
from foretell.worldmodel.prediction import Prediction, Predictor, Rows
from foretell.worldmodel.propagation import (
    PROPAGATIONS,
    Noise,
    Propagation,
    PropagationName,
    Shape,
    everyone,
    normals,
    rematch,
)

_PARTICLES = 20
"""The paper's number of particles."""

Model = Ensemble | GP
Guide = Callable[[Float[Array, "particles candidates obs"]], Float[Array, "particles candidates action"]]
"""A policy, in the environment's units."""


class Imagination(Settings):
    """How trajectories are imagined. The defaults are the paper's."""

    propagation: PropagationName = "TSinf"
    """How particles use the members; see `foretell.worldmodel.propagation`."""
    particles: PositiveInt | None = 20
    """Sampled trajectories per candidate: a multiple of the number of members with TS1 and TSinf, 1 with E. If null,
    the smallest such number from 20 on, or 1 with E."""
    shared_noise: bool = False
    """Give all candidates the same random draws, so that they are compared on equal luck (common random numbers)."""
    optimism: FiniteFloat = 0.0
    """Judge candidates by the mean of their particles' returns plus this many of their deviations: 0 is PETS; more
    seeks what the members disagree about, less avoids it."""
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
    progress: Progress | None = None
    """How far along a path it led, if there is one to follow."""


class WorldState(NamedTuple):
    """What was learned of a task."""

    dynamics: Any
    """State of the model of one step."""
    outcome: EnsembleState | None
    """State of the model of reward and termination; None where the task knows both."""


@dataclass(frozen=True)
class WorldModel:
    """Learned dynamics of a task, and a second, small model of the reward and termination that the task does not know.

    What a step earns and whether it ends the episode are predicted from the observations on both of its sides: mostly
    they are simple functions of where the step has led, which need not be learned together with how it led there.
    """

    task: Task
    model: Model
    imagination: Imagination
    outcome: Ensemble

    @property
    def learns_outcome(self) -> bool:
        return self.task.reward is None or self.task.learns_termination

    def init(self, key: Key[Array, ""]) -> WorldState:
        """The state of fresh models of the right sizes."""
        task = self.task
        in_size = task.feature_size + task.spec.action_size
        if not self.learns_outcome:
            return WorldState(self.model.init(key, in_size, task.target_size, 0), None)
        dynamics = self.model.init(key, in_size, task.target_size, 0)
        sizes = (in_size + task.feature_size, int(task.reward is None), int(task.learns_termination))
        return WorldState(dynamics, self.outcome.init(outcome_key(key), *sizes))

    def rows(self, data: Transitions) -> Rows:
        """The regression problem that the dynamics of transitions pose."""
        y = self.task.target(data.obs, data.next_obs)
        return Rows(self._inputs(data.obs, data.action), y, jnp.zeros((len(y), 0), bool))

    def outcome_rows(self, data: Transitions) -> Rows:
        """The regression problem that unknown rewards and terminations pose."""
        x = jnp.concatenate([self._inputs(data.obs, data.action), self.task.features(data.next_obs)], -1)
        y = data.reward[:, None] if self.task.reward is None else jnp.zeros((len(x), 0))
        return Rows(x, y, data.terminated[:, None] if self.task.learns_termination else jnp.zeros((len(x), 0), bool))

    def returns(
        self,
        key: Key[Array, ""],
        state: WorldState,
        obs: Float[Array, "obs"],
        actions: Float[Array, "candidates horizon action"],
        progress: Progress | None = None,
        guide: Guide | None = None,
    ) -> Float[Array, "candidates"]:
        """Expected undiscounted return of each action sequence from `obs`: the mean over particles.

        After a termination nothing is earned. Chua et al. 2018, section 5. With `progress`, where the task `Follows` a
        path, it is what following that earns. With a `guide`, all actions but the first are the guide's.
        """
        return self._imagine(key, state, obs, actions, lambda step: None, progress, guide)[0]

    def reach(
        self,
        key: Key[Array, ""],
        state: WorldState,
        obs: Float[Array, "obs"],
        actions: Float[Array, "horizon action"],
        progress: Progress,
    ) -> Progress:
        """How far along the path one action sequence leads the first particle."""
        reached = self._imagine(key, state, obs, actions[None], lambda step: step.progress, progress)[1]
        return jax.tree.map(lambda a: a[-1, 0, 0], reached)

    def trajectories(
        self,
        key: Key[Array, ""],
        state: WorldState,
        obs: Float[Array, "obs"],
        actions: Float[Array, "horizon action"],
        guide: Guide | None = None,
    ) -> Float[Array, "times particles obs"]:
        """The imagined observations of every particle under one action sequence, `obs` first.

        With a `guide`, all actions but the first are the guide's.
        """
        later = self._imagine(key, state, obs, actions[None], lambda step: step.next_obs, guide=guide)[1][:, :, 0]
        return jnp.concatenate([jnp.broadcast_to(obs, (1, *later.shape[1:])), later])

    def _imagine(
        self,
        key: Key[Array, ""],
        state: WorldState,
        obs: Float[Array, "obs"],
        actions: Float[Array, "candidates horizon action"],
        keep: Callable[[Step], Any],
        progress: Progress | None = None,
        guide: Guide | None = None,
    ) -> tuple[Float[Array, "candidates"], Any]:
        """Returns, and what `keep` takes of every step."""
        particles, (candidates, horizon, _) = self.imagination.count(self.model), actions.shape
        shape = Shape(horizon, particles, 1 if self.imagination.shared_noise else candidates, self.task.target_size)
        predictor = self.model.predictor(state.dynamics)
        if self.imagination.ignore_variance:
            predictor = _certain(predictor)
        outcome = None if state.outcome is None else self.outcome.predictor(state.outcome)

        def body(carry: tuple, xs: tuple) -> tuple:
            (obs, progress, alive, total), (t, action, chance) = carry, xs
            action = jnp.broadcast_to(action, (particles, *action.shape))
            if guide is not None:
                action = jnp.where(t > 0, guide(obs), action)
            step = self._step(predictor, outcome, obs, progress, action, chance)
            earned = jnp.where(alive > 0, alive * step.reward, 0.0)  # what is imagined after the end may be infinite
            return (step.next_obs, step.progress, alive * step.survival, total + earned), keep(step)

        everywhere = partial(jax.tree.map, lambda a: jnp.broadcast_to(a, (particles, candidates, *jnp.shape(a))))
        start = everywhere((obs, progress, jnp.ones(()), jnp.zeros(())))
        kept: Any
        end, kept = jax.lax.scan(body, start, (jnp.arange(horizon), actions.swapaxes(0, 1), self._chance(key, shape)))
        return self._judged(end[-1]), kept

    def _judged(self, totals: Float[Array, "particles candidates"]) -> Float[Array, "candidates"]:
        """What candidates are worth whose particles earned `totals`."""
        optimism = self.imagination.optimism
        return totals.mean(0) + optimism * totals.std(0) if optimism else totals.mean(0)

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
        outcome: Predictor | None,
        obs: Float[Array, "particles candidates obs"],
        progress: Progress | None,
        action: Float[Array, "particles candidates action"],
        chance: tuple[Noise, Noise],
    ) -> Step:
        """Advance all particles."""
        inputs = self._inputs(obs, action)
        next_obs = self.task.advance(obs, self._propagation.sample(predictor, self.model.members, inputs, chance[0]))
        if self._matches_state:
            next_obs = rematch(next_obs, chance[1])
        step = Step(next_obs, jnp.zeros(obs.shape[:2]), jnp.ones(obs.shape[:2]))
        if outcome is not None:
            x = jnp.concatenate([inputs, self.task.features(next_obs)], -1)
            step = self._learned_outcome(outcome, x, step)
        if progress is not None:
            assert isinstance(self.task, Follows)
            earned, progress = self.task.follow(progress, obs, action, next_obs)
            step = step._replace(reward=earned, progress=progress)
        elif self.task.reward is not None:
            step = step._replace(reward=self.task.reward(obs, action, next_obs))
        if self.task.terminated is not None:
            step = step._replace(survival=1.0 - self.task.terminated(obs, action, next_obs))
        return step

    def _learned_outcome(self, outcome: Predictor, x: Float[Array, "particles candidates in"], step: Step) -> Step:
        """The step with the mean reward and probability of going on that its networks expect."""
        mean, _, logits = everyone(outcome, self.outcome.members, x)
        reward = mean[..., 0].mean(0) if self.task.reward is None else step.reward
        return step._replace(reward=reward, survival=jax.nn.sigmoid(-logits).prod(-1).mean(0))


def outcome_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """A key that is none of those that splitting `key` gives: `fold_in(key, i)` is `split(key, n)[i]` for i < n."""
    return jax.random.fold_in(key, 2**31 - 1)


def noise_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """Another such key."""
    return jax.random.fold_in(key, 2**31 - 2)


def _certain(predictor: Predictor) -> Predictor:
    """The same means, without variance."""

    def means(x: Float[Array, "members rows in"]) -> Prediction:
        prediction = predictor(x)
        return prediction._replace(variance=jnp.zeros_like(prediction.variance))

    return means
