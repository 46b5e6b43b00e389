"""`Task`: what a world model and a planner may know of an environment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from foretell.tasks.border import Border, Limits
from foretell.tasks.repeat import RepeatedActions
from foretell.tasks.spaces import Spaces
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


QUIET = "without_noise"
"""Option of the `reset` of `NoisyActions`."""


class NoisyActions(gymnasium.Wrapper):
    """Adds normal noise to each action and clips it to the bounds; the agent only knows the action without noise."""

    def __init__(self, env: gymnasium.Env, std: float, spec: TaskSpec) -> None:
        """Wrap an environment.

        Args:
            env: the environment.
            std: standard deviation of the noise, in the units of the actions.
            spec: has the bounds of the actions.
        """
        super().__init__(env)
        self._std, self._spec, self._quiet = std, spec, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode, without noise if the option `QUIET` is true."""
        others = dict(options or {})
        self._quiet = bool(others.pop(QUIET, False))
        return self.env.reset(seed=seed, options=others or None)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        intended = within(self._spec, np.asarray(action))
        noisy = intended + (0.0 if self._quiet else self.np_random.normal(0.0, self._std, np.shape(action)))
        clipped = np.clip(noisy, self._spec.action_low, self._spec.action_high)
        obs, reward, terminated, truncated, info = self.env.step(clipped.astype(self.action_space.dtype))
        return obs, float(reward), terminated, truncated, info


def within(spec: TaskSpec, action: Float[np.ndarray, "action"]) -> Float[np.ndarray, "action"]:
    """The nearest action within the bounds, of the same type."""
    low, high = (np.asarray(bound, action.dtype) for bound in (spec.action_low, spec.action_high))
    return np.clip(action, low, high)


class Task:
    """What is known of an environment. Subclasses set `spec` and `simulator`, and override what they know.

    All functions are pure, run inside compiled programs and accept any leading axes.
    """

    spec: TaskSpec
    reward: RewardFn | None = None
    """Known reward, with which the agent plans, or None: the agent learns it."""
    terminated: TerminatedFn | None = None
    """Known termination (true or false per row), or None: learned if `learns_termination`, else there is none."""
    learns_termination: bool = False
    """Whether an unknown termination is learned."""

    any_horizon: bool = False
    """Whether `task.horizon` may change the number of steps after which episodes are cut."""
    collecting_reset: Mapping[str, Any] | None = None
    """Options of the environment's `reset` for episodes of random actions, if they are reset in another way."""
    restore: Restore | None = None
    """Put a bare simulator into the state of an observation (float64); None if an observation does not determine it."""
    action_repeat: int = 1
    """Steps of the environment for each action; all other numbers of steps, `spec.horizon` too, count actions."""
    action_noise: float = 0.0
    """Standard deviation of the noise on every executed action, in the units of the actions."""
    reward_weights: tuple[float, ...] | None = None
    """Weights of the rewards of an environment that returns several at once."""
    notes: tuple[str, ...] = ()
    """What the user should know of the task before it is trained, one sentence each."""
    random_noise: bool = True
    """Whether random actions have it too."""

    def reset_options(self, *, random: bool) -> dict[str, Any] | None:
        """Options of the environment's `reset`, for random actions or not."""
        options = dict(self.collecting_reset or {}) if random else {}
        if random and self.action_noise and not self.random_noise:
            options[QUIET] = True
        return options or None

    def simulator(self, *, render_mode: str | None = None) -> gymnasium.Env:
        """A new environment, without noise on actions."""
        raise NotImplementedError

    def make(self, *, render_mode: str | None = None, strict: bool = True) -> gymnasium.Env:
        """A new environment behind the border, see `Border`, with noise on actions, and actions that are repeated."""
        border = Border(self.simulator(render_mode=render_mode), self.limits, strict=strict)
        env = NoisyActions(border, self.action_noise, self.spec) if self.action_noise else border
        return RepeatedActions(env, self.action_repeat) if self.action_repeat > 1 else env

    @property
    def limits(self) -> Limits:
        """What the border checks."""
        spec = self.spec
        return Limits(spec.env_id, spec.obs_names, spec.action_low, spec.action_high, self.reward_weights)

    @property
    def spaces(self) -> Spaces:
        """What `foretell.Run.act` takes and returns: vectors, unless overridden."""
        spec = self.spec
        low, high = (np.array(bound, np.float32) for bound in (spec.action_low, spec.action_high))
        observed = gymnasium.spaces.Box(-np.inf, np.inf, (spec.obs_size,), np.float64)
        return Spaces(observed, gymnasium.spaces.Box(low, high), spec.env_id)

    def features(self, obs: Float[Array, "*rows obs"]) -> Float[Array, "*rows features"]:
        """The inputs of networks for an observation; the observation itself unless overridden."""
        return obs

    def target(
        self, obs: Float[Array, "*rows obs"], next_obs: Float[Array, "*rows obs"]
    ) -> Float[Array, "*rows target"]:
        """What networks learn to predict; the change of the observation unless overridden."""
        return next_obs - obs

    def advance(
        self, obs: Float[Array, "*rows obs"], output: Float[Array, "*rows target"]
    ) -> Float[Array, "*rows obs"]:
        """The next observation from a predicted `output`: the inverse of `target`."""
        return obs + output

    def from_unit(self, action: Float[Array, "*rows action"]) -> Float[Array, "*rows action"]:
        """Actions in the environment's units, from actions in units in which the bounds are -1 and 1."""
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
    """A task in which plans follow a path: their objective is `follow` instead of `reward`.

    The objective depends on the `Progress` along the path, of the episode and of every candidate in imagination. An
    episode begins with `start_progress`. All candidates of a plan begin with the `plan_progress` of the episode, and
    each continues with `follow`. The progress of the episode then becomes `waypoints.carry_on(progress, chosen)`, where
    `chosen` is the progress of the chosen candidate at the end of the plan.
    """

    def start_progress(self, obs: Float[Array, "*rows obs"]) -> Progress:
        """The progress of an episode that begins at `obs`."""

    def plan_progress(self, progress: Progress, obs: Float[Array, "*rows obs"]) -> Progress:
        """The initial progress of all candidates of a plan that is made at `obs`, when the episode is at `progress`."""

    def follow(
        self,
        progress: Progress,
        obs: Float[Array, "*rows obs"],
        action: Float[Array, "*rows action"],
        next_obs: Float[Array, "*rows obs"],
    ) -> tuple[Float[Array, "*rows"], Progress]:
        """The reward of a candidate's step, and its progress after it."""
