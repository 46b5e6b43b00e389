"""The interface of agents: pure functions for acting and for learning, and the settings that an agent is built from."""

from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from pydantic import FiniteFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from foretell.errors import UserError
from foretell.models import Params, TrainedModel
from foretell.planning import Bounds
from foretell.settings import Settings
from foretell.tasks import Task, TaskSettings

State = Any
"""What an agent has learned, and what its learning carries on: a pytree of arrays."""
PolicyParams = Any
"""The small part of the state that acting needs, here or on another machine: a pytree of arrays."""
Carry = Any
"""What an agent carries through an episode (a warm start, correlated noise): a pytree with a leading batch axis."""
Extras = dict[str, Array | np.ndarray]
"""What acting returns besides the actions, such as the plans: arrays with a leading batch axis."""
Metrics = dict[str, Array]


class Agent:
    """A combination of models, planners and values for one task. Every method is pure and can be compiled."""

    data: ClassVar[Literal["replay", "trajectories"]] = "replay"
    """The data for `learn`: a replay of all transitions so far, or the steps since its last call, in order."""
    pretraining: int = 1
    """Calls of `learn` before an agent that learns within episodes first acts; only the first of them sees new data."""
    model: TrainedModel | None
    """Its world model, for diagnostics; optional for an agent without one."""

    def init(self, key: Key[Array, ""]) -> State:
        """An untrained agent."""
        raise NotImplementedError

    def policy(self, state: State) -> PolicyParams:
        """What acting needs of a state."""
        raise NotImplementedError

    def begin(self, params: PolicyParams, obs: Float[Array, "batch obs"], key: Key[Array, ""]) -> Carry:
        """The carry at the start of episodes that begin with these observations; empty by default."""
        return ()

    def act(
        self, params: PolicyParams, carry: Carry, obs: Float[Array, "batch obs"], key: Key[Array, ""], *, explore: bool
    ) -> tuple[Float[Array, "batch action"], Carry, Extras]:
        """Actions in the environment's units; `explore` asks for the noise used to collect data.

        Without exploration, actions are within the bounds. With it they may lie outside: the environment executes the
        nearest action within the bounds, but `learn` gets the chosen action, whose density a policy gradient needs.
        """
        raise NotImplementedError

    def deployed(self, params: PolicyParams) -> tuple["Agent", PolicyParams]:
        """An agent that acts as this one does with these parameters, and its own: without what only learning needs.

        This method is not compiled, so it may depend on the values of the parameters.
        """
        return self, params

    def learn(self, state: State, data: Any, key: Key[Array, ""]) -> tuple[State, Metrics]:
        """Learn from a `Replay` or from `Trajectories`, see `data`, in one compiled call of many updates."""
        raise NotImplementedError

    def model_params(self, state: State) -> Params:
        """What imagination in `model` needs of a state."""
        return None

    def halves(self) -> "Halves | None":
        """Agents that divide its learning between two processes; None if it cannot be divided."""
        return None


class Halves(NamedTuple):
    """Agents with the same state and random keys. Two train one half each; all count which updates are due.

    Their state has a `model` (or None) with two fields. `online` is the trained model, or the parameters received from
    the process that trains it. `target` is the copy of the parameters with which values are learned.
    """

    values: Agent
    """Trains policy and values, with a model that is trained by `model`."""
    model: Agent | None
    """Trains the world model; None if there is no learned model."""
    counting: Agent
    """Trains nothing, and computes fast which calls publish a policy or a model (`policy_version`, `target`)."""


class Pretrained(NamedTuple):
    """The agent of another run, from which a run starts (`train.pretrained`)."""

    settings: "RunSettings"
    state: State


class Schedule(Settings):
    """How long a run is, and what happens between episodes (section `train` of a preset)."""

    trials: PositiveInt = 10
    """Length of the run in trials. A trial is a training episode in which the agent acts, other than a warm-up."""
    steps: PositiveInt | None = None
    """Length of the run in environment steps, including random ones; null: `trials` decides."""
    environments: PositiveInt = 1
    """Environments that are stepped in parallel; the agent chooses their actions as one batch."""
    workers: PositiveInt = 1
    """Processes that step slow environments; 1: only the main process. They also step the environments of evaluation
    (`eval_environments`) and of diagnostics. Results do not depend on this number."""
    steps_per_learning: PositiveInt | None = None
    """Environment steps between two calls of `learn`, also within episodes; each environment begins its next episode
    immediately (DDPG, STEVE). Null: learn only between episodes, which all environments begin and end together (PETS,
    MB-MPC)."""
    lag: NonNegativeInt = 0
    """Number of calls of `learn` by which the acting policy is behind the newest one. With 1 or more, environments are
    stepped while the agent learns; with 0, acting waits for the newest policy. Evaluation always uses the newest one.
    Must be 0 without `steps_per_learning`."""
    free_running: bool = False
    """With `--runtime ray`, make as many updates as the devices allow, without waiting for steps. Acting waits only if
    learning falls behind `updates.per_step`. The result depends on the speed of the machine. No effect in one
    process."""
    random_episodes: NonNegativeInt = 1
    """Episodes of uniformly random actions before the first trial. It may be 0 if `random_steps` is not, or if the
    agent can act before it has learned."""
    random_steps: NonNegativeInt = 0
    """Minimum number of random steps: random episodes are added until it is reached. With `steps_per_learning` the last
    episodes are cut at this number."""
    random_horizon: PositiveInt | None = None
    """Cut random episodes after this many steps, so that they stay near the initial states; null: no cut."""
    warmup_episodes: NonNegativeInt = 0
    """Short episodes before the first trial, in which the agent acts; it learns before each of them. They show the
    consequences of its first mistakes near the initial states, and need only a fraction of a trial's steps."""
    warmup_horizon: PositiveInt = 100
    """Steps after which the first warm-up episode is cut."""
    warmup_last_horizon: PositiveInt | None = None
    """Steps after which the last warm-up episode is cut; from the first to the last, the length grows linearly. Null:
    `warmup_horizon` for all."""
    time_limit_terminates: bool = False
    """Treat a step that reaches the time limit as a termination (MVE, as released). The value of the next state then
    counts as 0, although the agent cannot observe the time."""
    eval_episodes: NonNegativeInt = 0
    """Number of evaluation episodes after each trial, or every `eval_every` steps. They have no exploration noise, are
    logged, and are not used for learning."""
    eval_every: PositiveInt | None = None
    """Steps between two rounds of evaluation episodes; null: a round after each trial. At the end of the run a round is
    added for the final agent, if it has learned since the latest one."""
    eval_environments: PositiveInt = 1
    """Evaluation episodes that are played in parallel; the agent chooses their actions as one batch."""
    log_every: PositiveInt = 1000
    """Steps between two rows of `metrics.csv`, which hold means over these steps. Only for agents that learn within
    episodes."""
    episodes_per_learning: PositiveInt = 1
    """Trials between two calls of `learn`."""
    validation_episodes: NonNegativeInt = 0
    """Number of trials, the latest before each call of `learn`, that the agent does not learn from (the released MB-MF:
    1, for validation)."""
    validation_errors: bool = False
    """Write the errors of the model's predictions after 1, 5, 10, 50 and 100 steps to `validation.csv`, on episodes
    that the agent has not learned from: on all trials that `validation_episodes` has kept out so far, once after each
    call of `learn`; without these on each trial, before the agent learns from it; with `steps_per_learning` on each
    evaluation episode."""
    stop_at_return: FiniteFloat | None = None
    """End the run early once a round of evaluation episodes reaches this mean return; without evaluation, once five
    trials in a row do. Null: never."""
    keep_best: bool = False
    """Keep the agent of the best round of evaluation episodes in `best/`; without evaluation, the agent of the best
    trial."""
    record: NonNegativeInt = 0
    """Film this many of the trials and evaluation episodes after each call of `learn`."""
    save_all_models: bool = False
    """Keep the agent of every trial in `models/`, for `foretell eval RUN_DIR --trial N`; `foretell inspect` shows the
    replay of that trial too."""
    diagnose_every: PositiveInt | None = None
    """Environment steps between two measurements of the errors of model and values, which are written to
    `diagnostics.csv`; null: never. The measurements are those of `foretell diagnose`."""
    log_predictions: Literal["none", "moments", "particles"] = "none"
    """Keep the predicted trajectories of every plan in `predictions/`: mean and variance over particles (`moments`), or
    every particle (`particles`)."""
    pretrained: str | None = None
    """The run directory or preset with whose agent this run starts, so that it needs no random episodes. A preset is
    trained first, with the same seed."""
    capacity: PositiveInt = 100_000
    """Transitions that the replay can hold. When it is full, the oldest are overwritten."""
    checkpoint_seconds: PositiveFloat = 30.0
    """Seconds between two checkpoints. Agents that learn between episodes also save at the end of every trial."""
    checkpoints: PositiveInt = 3
    """Number of latest checkpoints that are kept."""

    @model_validator(mode="after")
    def _check_environments(self) -> "Schedule":
        for name in ("environments", "eval_environments"):
            if (count := getattr(self, name)) > 1 and self.log_predictions != "none":
                raise ValueError(f"log_predictions needs a single environment, not {name}={count}")
        if self.workers > (most := max(self.environments, self.eval_environments)):
            raise ValueError(
                f"workers ({self.workers}) must be at most {most}: there are environments={self.environments} and "
                f"eval_environments={self.eval_environments}, and each is stepped by one process"
            )
        return self

    @model_validator(mode="after")
    def _check_validation(self) -> "Schedule":
        stepwise, trials = self.steps_per_learning is not None, self.environments * self.episodes_per_learning
        if self.validation_episodes and (stepwise or self.validation_episodes >= trials):
            most = 0 if stepwise else trials - 1
            raise ValueError(
                f"validation_episodes ({self.validation_episodes}) must be at most {most}: the agent has to learn from "
                "some trial between two calls of learn"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> "Schedule":
        every = self.steps_per_learning
        if every is None:
            if self.lag:
                raise ValueError("lag must be 0 without steps_per_learning: the agent learns between episodes")
            if self.free_running:
                raise ValueError("free_running must be false without steps_per_learning")
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

    def room(self, horizon: int, data: Literal["replay", "trajectories"]) -> int:
        """Maximum number of steps per environment that are buffered until the agent learns.

        They are moved to a replay earlier, whenever this buffer is full. An agent that learns from trajectories gets
        all of them at once.
        """
        if self.steps_per_learning is not None:
            most = self.steps_per_learning if data == "replay" else max(self.steps_per_learning, self.random_steps)
            return -(-most // self.environments)
        if data == "replay":
            return horizon
        rounds = max(self.episodes_per_learning, -(-self.random_episodes // self.environments))
        return rounds * horizon + self.random_steps

    def limit(self, kind: str, warmups: int) -> int | None:
        """Steps after which an episode of this kind is cut, besides the task's own limit, after `warmups` warm-ups."""
        if kind != "warmup":
            return self.random_horizon if kind == "random" else None
        last = self.warmup_last_horizon or self.warmup_horizon
        share = warmups / max(self.warmup_episodes - 1, 1)
        return round(self.warmup_horizon + share * (last - self.warmup_horizon))


class RunSettings(Settings):
    """The resolved settings of a run: the sections that all agents share. Each agent adds its own."""

    agent: str
    description: str
    task: TaskSettings
    train: Schedule

    @property
    def needs_data(self) -> bool:
        """Whether the agent has to learn from data before it can act."""
        return True

    @model_validator(mode="after")
    def _check_experience(self) -> "RunSettings":
        knows = not self.needs_data or self.train.pretrained is not None
        if not (knows or self.train.random_episodes or self.train.random_steps):
            raise ValueError(f"train.random_episodes must be at least 1: '{self.agent}' has to learn before it can act")
        return self

    def build(self, task: Task) -> Agent:
        """The agent for `task`. Raises `UserError` if they do not fit."""
        raise NotImplementedError

    def start_from(self, other: Pretrained, own: State) -> State:
        """The initial state of a run with these settings that continues from another run's agent.

        Args:
            other: the other run's agent.
            own: an untrained agent of these settings.

        Raises:
            UserError: if the two do not fit.
        """
        del own
        self.check_same(other.settings, "agent", "model", "reward_model", "learner", "policy")
        return other.state

    def check_same(self, settings: "RunSettings", *sections: str) -> None:
        """Raises `UserError` unless these sections are the same in another run's settings."""
        for section in sections:
            if getattr(self, section, None) != getattr(settings, section, None):
                raise UserError(
                    f"the run in train.pretrained='{self.train.pretrained}' has other settings in '{section}'; "
                    "start with the preset and the settings it was trained with"
                )


def bounds_of(task: Task) -> Bounds:
    """The least and the greatest action, in the environment's units."""
    return Bounds(jnp.array(task.spec.action_low), jnp.array(task.spec.action_high))
