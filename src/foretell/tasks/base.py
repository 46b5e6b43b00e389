"""`Task`: what a model and a planner may know of an environment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from foretell.tasks.waypoints import Progress

# (obs, action, next_obs) -> one number per row; all arguments share their leading axes.
RewardFn = Callable[[Array, Array, Array], Array]
TerminatedFn = Callable[[Array, Array, Array], Array]
Restore = Callable[[gymnasium.Env, np.ndarray], None]


@dataclass(frozen=True)
class TaskSpec:
    """The numbers that describe a task. Bounds are in the environment's own (physical) units."""

    env_id: str
    obs_names: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    horizon: int
    """Steps after which an episode is cut off (truncation, never termination)."""

    @property
    def obs_size(self) -> int:
        return len(self.obs_names)

    @property
    def action_size(self) -> int:
        return len(self.action_low)


class NoisyActions(gymnasium.Wrapper):
    """Executes each action with normal noise added, clipped to the bounds; the agent knows only what it intended."""

    def __init__(self, env: gymnasium.Env, std: float, spec: TaskSpec) -> None:
        """`std`: in the units of the actions, whose bounds `spec` gives."""
        super().__init__(env)
        self._std, self._spec = std, spec

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        noisy = np.asarray(action) + self.np_random.normal(0.0, self._std, np.shape(action))
        clipped = np.clip(noisy, self._spec.action_low, self._spec.action_high)
        obs, reward, terminated, truncated, info = self.env.step(clipped.astype(self.action_space.dtype))
        return obs, float(reward), terminated, truncated, info


class Task:
    """One environment family. Subclasses set `spec` and `simulator`, and override what they know.

    All functions are pure, run inside compiled programs and accept any leading axes.
    """

    spec: TaskSpec
    reward: RewardFn | None = None
    """Known reward, or None: the agent learns it."""
    terminated: TerminatedFn | None = None
    """Known termination (true or false per row), or None: learned if `learns_termination`, else it never happens."""
    learns_termination: bool = False

    any_horizon: bool = False
    """Whether episodes may also be cut after another number of steps than the `horizon` of `spec`."""
    collecting_reset: Mapping[str, Any] | None = None
    """Options of the environment's `reset` for episodes of random actions, where it knows a difference."""
    restore: Restore | None = None
    """Put a bare simulator into the state that an observation (float64) describes; None where it does not tell."""
    action_noise: float = 0.0
    """Deviation of the noise on every executed action, in the units of the actions."""

    def simulator(self, *, render_mode: str | None = None) -> gymnasium.Env:
        """A fresh environment that executes what it is told."""
        raise NotImplementedError

    def make(self, *, render_mode: str | None = None) -> gymnasium.Env:
        """A fresh environment."""
        env = self.simulator(render_mode=render_mode)
        return NoisyActions(env, self.action_noise, self.spec) if self.action_noise else env

    def features(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """What the network sees of an observation; the observation itself unless overridden."""
        return obs

    def target(
        self, obs: Float[Array, "*rows obs"], next_obs: Float[Array, "*rows obs"]
    ) -> Float[Array, "*rows target"]:
        """What the network learns to predict; the change of the observation unless overridden."""
        return next_obs - obs

    def advance(
        self, obs: Float[Array, "*rows obs"], output: Float[Array, "*rows target"]
    ) -> Float[Array, "*rows obs"]:
        """The next observation that `output` stands for: the inverse of `target`."""
        return obs + output

    def from_unit(self, action: Float[Array, "*rows action"]) -> Float[Array, "*rows action"]:
        """Actions in the environment's units, of actions whose bounds are -1 and 1."""
        low, high = jnp.array(self.spec.action_low), jnp.array(self.spec.action_high)
        return low + 0.5 * (action + 1.0) * (high - low)

    def to_unit(self, action: Float[Array, "*rows action"]) -> Float[Array, "*rows action"]:
        """The inverse of `from_unit`."""
        low, high = jnp.array(self.spec.action_low), jnp.array(self.spec.action_high)
        return 2.0 * (action - low) / (high - low) - 1.0

    @property
    def feature_size(self) -> int:
        return jax.eval_shape(self.features, jnp.zeros(self.spec.obs_size)).shape[-1]

    @property
    def target_size(self) -> int:
        obs = jnp.zeros(self.spec.obs_size)
        return jax.eval_shape(self.target, obs, obs).shape[-1]


@runtime_checkable
class Follows(Protocol):
    """A task whose plans are judged by how well they follow a path, instead of by `reward`.

    That needs to know how far along the path an episode is, and every candidate of a plan in imagination: `Progress`.
    An episode begins with `start_progress`. All candidates of a plan begin with the `plan_progress` of the episode's,
    and each goes on by `follow`. The episode goes on by `waypoints.carry_on(progress, chosen)`, where `chosen` is how
    far the chosen candidate came by the plan's end.
    """

    def start_progress(self, obs: Float[Array, "*rows obs"]) -> Progress:
        """The progress of an episode that begins at `obs`."""

    def plan_progress(self, progress: Progress, obs: Float[Array, "*rows obs"]) -> Progress:
        """Where all candidates of a plan begin that is made at `obs`, after an episode has come to `progress`."""

    def follow(
        self,
        progress: Progress,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> tuple[Float[Array, "*rows"], Progress]:
        """What a step earns a candidate, and its progress after it."""
