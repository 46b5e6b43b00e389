"""Tiny Gymnasium environments for the tests: one that works, and one for each way an environment can be wrong."""

from dataclasses import replace
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from foretell.tasks import Task, TaskSpec
from foretell.tasks.cartpole import Cartpole

STEPS = 5
SPEC = TaskSpec("tiny/Line-v0", ("position", "speed"), (-1.0,), (1.0,), STEPS)


class Line(gymnasium.Env):
    """A point on a line that the action pushes; nearer to zero is better."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space: gymnasium.Space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space: gymnasium.Space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.resets = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.resets += 1
        self.state = self.np_random.normal(size=2)
        return self.state.copy(), {}

    def step(self, action: np.ndarray) -> Any:
        self.state = self.state + 0.1 * np.array([self.state[1], float(action[0])])
        return self.state.copy(), float(-(self.state[0] ** 2)), False, False, {}

    def render(self) -> np.ndarray:
        return np.full((32, 32, 3), 128, np.uint8)


class Ends(Line):
    """Terminates after three steps."""

    def step(self, action: np.ndarray) -> Any:
        self.steps = getattr(self, "steps", 0) + 1
        return *super().step(action)[:2], self.steps % 3 == 0, False, {}


class Truncates(Line):
    """Ends its episodes after 30 steps by itself."""

    def reset(self, **options):
        self._left = 30
        return super().reset(**options)

    def step(self, action):
        self._left -= 1
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, self._left == 0, info


class Ragged(Line):
    """Terminates after two to four steps, as its seed decides. Refuses actions beyond its bounds."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        found = super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 5))
        return found

    def step(self, action: np.ndarray) -> Any:
        if not self.action_space.contains(action):
            raise ValueError(f"the action {action} is beyond the bounds")
        self.left -= 1
        return *super().step(action)[:2], self.left == 0, False, {}


class DiscreteActions(Line):
    action_space = Discrete(2)


class WholeActions(Line):
    action_space = Box(-1, 1, (1,), np.int8)


class Unbounded(Line):
    action_space = Box(-np.inf, np.inf, (1,), np.float32)


class Image(Line):
    observation_space = Box(0, 255, (8, 8, 3), np.uint8)


class Grid(Line):
    observation_space = Box(-1.0, 1.0, (2, 2), np.float32)


class Nothing(Line):
    observation_space = Box(-1.0, 1.0, (0,), np.float32)


class DictObservations(Line):
    observation_space = Dict({"x": Box(-1.0, 1.0, (2,), np.float32)})


class Unrenderable(Line):
    """Knows no way to be drawn."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()


class Blank(Line):
    """Says it can be drawn, and draws nothing."""

    def render(self) -> Any:
        return None


class NoScreen(Line):
    def render(self) -> Any:
        raise RuntimeError("no display name and no $DISPLAY environment variable")


class NanObservation(Line):
    """Breaks in its third episode, as a simulator that blows up."""

    def step(self, action: np.ndarray) -> Any:
        obs, *rest = super().step(action)
        return obs * (np.nan if self.resets > 2 else 1.0), *rest


class NanReward(Line):
    def step(self, action: np.ndarray) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, reward * (np.nan if self.resets > 2 else 1.0), *rest


class NanStart(Line):
    def reset(self, **kwargs: Any) -> Any:
        obs, info = super().reset(**kwargs)
        return obs * np.nan, info


class Crashes(Line):
    def step(self, action: np.ndarray) -> Any:
        raise RuntimeError("the gripper is jammed")


class OldInterface(Line):
    """Steps as environments did before Gymnasium: four values."""

    def step(self, action: np.ndarray) -> Any:
        return super().step(action)[:4]


class OldReset(Line):
    """Resets as environments did before Gymnasium: no second value."""

    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0][:1]


class OldSeed(Line):
    """Resets without a seed, as environments did before Gymnasium."""

    def reset(self) -> Any:
        return super().reset()


class TextObservation(Line):
    def step(self, action: np.ndarray) -> Any:
        return "left", *super().step(action)[1:]


class WrongShape(Line):
    """Says it has two numbers, gives three."""

    def step(self, action: np.ndarray) -> Any:
        obs, *rest = super().step(action)
        return np.append(obs, 0.0), *rest


class RewardVector(Line):
    def step(self, action: np.ndarray) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, np.array([reward, reward]), *rest


class Unmakeable(Line):
    def __init__(self, **kwargs: Any) -> None:
        raise ValueError("no robot is connected")


for _class in (Line, *Line.__subclasses__()):
    gymnasium.register(f"tiny/{_class.__name__}-v0", entry_point=_class, max_episode_steps=STEPS)
gymnasium.register("tiny/Endless-v0", entry_point=Line)


class ShortCartpole(Cartpole):
    """The swing-up, cut before there is anything to see."""

    spec = replace(Cartpole.spec, horizon=12)


class WithoutSpec(Task):
    """Says nothing of sizes and bounds."""


class NeedsArgument(Task):
    """Cannot be made from nothing."""

    spec = SPEC

    def __init__(self, robot: str) -> None:
        self.robot = robot


class Tunable(Task):
    """Has options of several types."""

    spec = SPEC

    def __init__(self, links: int = 1, length: float = 0.5, count: int | None = None, names: "list[str]" = ()) -> None:
        self.links, self.length, self.count, self.names = links, length, count, names


def reward(obs, action, next_obs):
    return -jnp.square(next_obs[..., 0])


def other_reward(obs, action, next_obs):
    return 5.0 - jnp.abs(next_obs[..., 0])


def never(obs, action, next_obs):
    return jnp.zeros(obs.shape[:-1], bool)


def raises(obs, action, next_obs):
    return obs["position"]


def branches(obs, action, next_obs):
    return 1.0 if next_obs[0, 0, 0] > 0 else 0.0


def uses_numpy(obs, action, next_obs):
    return np.asarray(next_obs)[..., 0]


def one_number(obs, action, next_obs):
    return next_obs.sum()


def constant(obs, action, next_obs):
    return 0.0


def nowhere(obs, action, next_obs):
    """Is a number nowhere, as the logarithm of what cannot be positive."""
    return jnp.log(-1.0 - jnp.square(next_obs[..., 0]))


def infinite(obs, action, next_obs):
    return 1.0 / (0.0 * next_obs[..., 0])


def imagined(obs, action, next_obs):
    return 1j * next_obs[..., 0]


not_a_function = 3


def nothing(obs, action, next_obs):
    return None


def too_few(obs):
    return obs[..., 0]
