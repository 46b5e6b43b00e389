"""What every agent is: four pure functions and the settings it is built from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import gymnasium
from jaxtyping import Array, Float, Int, Key
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from foretell.errors import UserError
from foretell.planning import Planner
from foretell.replay import Replay
from foretell.settings import Settings
from foretell.tasks import Task, TaskSettings

State = Any
"""What an agent has learned: a pytree of arrays."""
Memory = Any
"""What an agent remembers within an episode (a warm start, correlated noise): a pytree with a leading batch axis."""
Metrics = dict[str, Array]


@runtime_checkable
class Agent(Protocol):
    """One arrangement of models, planners and values for one task. Every method is pure and can be compiled."""

    def init(self, key: Key[Array, ""]) -> State:
        """An untrained agent."""

    def start(self, batch: int) -> Memory:
        """Memory at the start of `batch` episodes."""

    def act(
        self, state: State, memory: Memory, obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], Memory]:
        """Actions in the environment's units; `explore` asks for the noise used to collect data.

        Without it they are within the bounds. With it they may lie beyond: the environment executes the nearest action
        within, but `learn` sees what was chosen here, whose density a policy gradient needs.
        """

    def learn(self, state: State, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]) -> tuple[State, Metrics]:
        """Learn from `replay`, whose newest `new` transitions this agent has not seen."""


@runtime_checkable
class Imagines(Protocol):
    """An agent that can show what it expects of its latest plan."""

    @property
    def planner(self) -> Planner:
        """What made the plan."""

    def imagine(
        self, state: State, memory: Memory, obs: Float[Array, "batch obs"], key: Key[Array, ""]
    ) -> Float[Array, "batch times particles obs"]:
        """The trajectories it imagines of the plan in `memory`, made at `obs`; `obs` itself comes first."""


@runtime_checkable
class Publishes(Protocol):
    """An agent that learns within episodes, but acts with a policy that it renews now and then."""

    @property
    def pretraining(self) -> int:
        """Calls of `learn` before it acts; only the first of them sees new transitions. 0 if it acts untaught."""

    def epoch(self, state: State) -> Int[Array, ""]:
        """How many policies there have been."""


@runtime_checkable
class Watcher(Protocol):
    """An agent that must see the environment itself, not only what it observes."""

    def watch(self, env: gymnasium.Env | None) -> None:
        """Act in `env` from now on; None: in none."""

    def check(self) -> None:
        """Raises the `UserError` that the last `act` met, if any; a compiled program cannot raise it."""


def watcher(agent: Agent) -> Watcher | None:
    """The agent, if it must see the environment."""
    return agent if isinstance(agent, Watcher) else None


@contextmanager
def watching(watcher: Watcher | None, env: gymnasium.Env) -> Iterator[None]:
    """Let an agent see `env` as long as it acts there."""
    if watcher is None:
        yield
        return
    watcher.watch(env)
    try:
        yield
    finally:
        watcher.watch(None)


class Schedule(Settings):
    """How long a run is, and what happens between episodes (section `train` of a preset)."""

    trials: PositiveInt = 10
    """Episodes acted by the agent, at whose end the run ends; it learns from all data before each of them."""
    steps: PositiveInt | None = None
    """End the run after this many environment steps instead, random ones included."""
    environments: PositiveInt = 1
    """Environments stepped in lock-step, for which the agent acts as one batch."""
    steps_per_learning: PositiveInt | None = None
    """Learn whenever this many steps have been taken, also within episodes, each environment beginning its next episode
    at once (DDPG, STEVE). Null: learn between episodes alone, which begin and end together (PETS, MB-MPC)."""
    random_episodes: NonNegativeInt = 1
    """Episodes of uniformly random actions before the first trial. None only if `random_steps` asks for some, or for an
    agent that has nothing to learn."""
    random_steps: NonNegativeInt = 0
    """Go on with random episodes until there are this many steps; the last ones are cut there if learning does not wait
    for their end."""
    random_horizon: PositiveInt | None = None
    """Cut random episodes after this many steps, so that they stay near the states in which episodes begin."""
    warmup_episodes: NonNegativeInt = 0
    """Short episodes acted by the agent before the first trial; it learns before each of them. They show it what its
    first mistakes lead to from where episodes begin, at a fraction of a trial's cost."""
    warmup_horizon: PositiveInt = 100
    """Steps after which the first of them is cut."""
    warmup_last_horizon: PositiveInt | None = None
    """Steps after which the last of them is cut, those between at evenly growing numbers; null: the same for all."""
    eval_episodes: NonNegativeInt = 0
    """Extra episodes after each trial, or every `eval_every` steps, without exploration: logged, not learned from."""
    eval_every: PositiveInt | None = None
    """Steps from one round of evaluation episodes to the next; null: a round after each trial."""
    log_every: PositiveInt = 1000
    """Steps between two lines of metrics, each their means, for an agent that learns within episodes."""
    episodes_per_learning: PositiveInt = 1
    """Trials between two calls of `learn`."""
    record: NonNegativeInt = 0
    """Film this many of the trials and evaluation episodes after each call of `learn`."""
    save_all_models: bool = False
    """Keep the agent of every trial in `models/`."""
    log_predictions: Literal["none", "moments", "particles"] = "none"
    """Keep what was expected of every plan in `predictions/`: mean and variance over particles, or every particle."""
    pretrained: str | None = None
    """A run directory whose agent this run starts with, so that it needs no random episodes; or a preset, of which such
    a run is made first, with the same seed."""
    capacity: PositiveInt = 100_000
    """Transitions the replay holds; beyond that the oldest are overwritten."""
    checkpoint_seconds: PositiveFloat = 30.0
    """Save when this long has passed since the last time, and at the end of every trial if learning waits for it."""
    checkpoints: PositiveInt = 3
    """Newest checkpoints kept."""

    @model_validator(mode="after")
    def _check(self) -> "Schedule":
        every = self.steps_per_learning
        if self.environments > 1 and self.log_predictions != "none":
            raise ValueError(f"log_predictions needs a single environment, not environments={self.environments}")
        if every is None:
            if self.trials % self.environments:
                nearest = max(1, round(self.trials / self.environments)) * self.environments
                raise ValueError(
                    f"trials ({self.trials}) must be a multiple of environments ({self.environments}), which begin and "
                    f"end their episodes together; the nearest is {nearest}"
                )
            return self
        if every % self.environments:
            nearest = max(1, round(every / self.environments)) * self.environments
            raise ValueError(
                f"steps_per_learning ({every}) must be a multiple of environments ({self.environments}); "
                f"the nearest is {nearest}"
            )
        if self.warmup_episodes:
            raise ValueError("warmup_episodes must be 0 with steps_per_learning: there is no learning between episodes")
        if self.random_episodes:
            raise ValueError("random_episodes must be 0 with steps_per_learning: set random_steps")
        return self

    def room(self, horizon: int) -> int:
        """Transitions that may wait for the replay, into which they go when the agent learns or no more could wait."""
        return self.steps_per_learning or horizon * self.environments

    def limit(self, kind: str, warmups: int) -> int | None:
        """Steps after which an episode of this kind is cut, beside the task's own limit, after so many warm-ups."""
        if kind != "warmup":
            return self.random_horizon if kind == "random" else None
        last = self.warmup_last_horizon or self.warmup_horizon
        share = warmups / max(self.warmup_episodes - 1, 1)
        return round(self.warmup_horizon + share * (last - self.warmup_horizon))


class RunSettings(Settings):
    """A whole run, resolved: the sections that all agents share. Each agent adds its own."""

    learns: ClassVar[bool] = True
    """Whether the agent knows nothing before it has learned from data."""
    agent: str
    description: str
    task: TaskSettings
    train: Schedule

    @model_validator(mode="after")
    def _check_experience(self) -> "RunSettings":
        knows = not self.learns or self.train.pretrained is not None
        if not (knows or self.train.random_episodes or self.train.random_steps):
            raise ValueError(f"train.random_episodes must be at least 1: '{self.agent}' has to learn before it can act")
        return self

    def build(self, task: Task) -> Agent:
        """The agent for `task`. Raises `UserError` if they do not fit."""
        raise NotImplementedError

    def adopt(self, settings: "RunSettings", state: State, own: State) -> State:
        """An agent of these settings that goes on from `state`, that of another run with other `settings`.

        `own` is an untrained one. Raises `UserError` if the two do not fit.
        """
        del own
        self.check_same(settings, "agent", "model", "outcome", "learner", "simulator", "policy")
        return state

    def check_same(self, settings: "RunSettings", *sections: str) -> None:
        """Raises `UserError` unless these sections of another run's settings are as ours."""
        for section in sections:
            if getattr(self, section, None) != getattr(settings, section, None):
                raise UserError(
                    f"the run in train.pretrained='{self.train.pretrained}' has other settings in '{section}'; "
                    "start with the preset and the settings it was trained with"
                )
