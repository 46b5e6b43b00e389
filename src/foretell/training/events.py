"""What happens in a run, as frozen records, and `Callback`, what is called with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from traceback import extract_tb
from typing import Any

import numpy as np

from foretell.agents import Agent, Schedule
from foretell.agents.base import Carry, Extras, PolicyParams, State
from foretell.envs import Episodes
from foretell.errors import UserError, brief
from foretell.runs.directory import RunDirectory
from foretell.tasks import Task
from foretell.training.clock import Counters, Kind, progress
from foretell.training.programs import whole


class StopTraining(Exception):
    """Raised by a callback to end the run early, with the reason as one sentence. It is saved as at its normal end."""


class _Whole:
    """A field of a record whose arrays are copied from those of all seeds when they are first read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, event: Any, owner: type | None = None) -> Any:
        if event is None:
            raise AttributeError(self._name)  # so that the field has no default
        event.__dict__[self._name] = found = whole(event.__dict__[self._name])
        return found

    def __set__(self, event: Any, value: Any) -> None:
        event.__dict__[self._name] = value


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What does not change in a run."""

    directory: RunDirectory
    preset: str
    seed: int
    task: Task
    agent: Agent
    schedule: Schedule
    title: str = ""
    """What the run is called in figures."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What every checkpoint says about the run."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every record holds."""

    run: RunInfo
    counters: Counters
    """How far the run is."""
    seconds: float
    """Wall time of the run so far, time before a resume included."""
    step_seconds: float
    """Seconds that one environment step takes to plan and to execute, a mean since the last row of metrics."""

    @property
    def progress(self) -> tuple[int, int]:
        """How far the run is and where it ends, in steps if its length is given in steps, else in trials."""
        return progress(self.run.schedule, self.counters)


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(Event):
    """A run begins or continues."""

    episodes: Episodes
    """Those under way. Arrays of events belong to the run: they are to be read during the call only."""


@dataclass(frozen=True, kw_only=True)
class StepTaken(Event):
    """Every environment has taken one step."""

    kind: Kind
    episodes: Episodes
    policy: PolicyParams = _Whole()
    carry: Carry = _Whole()
    extras: Extras
    """What acting returned beside the actions; empty if they were random."""
    state: State = _Whole()
    """What the agent has learned."""


@dataclass(frozen=True, kw_only=True)
class LearningStarted(Event):
    """The agent is about to learn."""


@dataclass(frozen=True, kw_only=True)
class Learned(Event):
    """A new row of metrics."""

    row: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EpisodeEnded(Event):
    """An episode is over."""

    row: dict[str, Any]
    """Of `episodes.csv`."""
    obs: np.ndarray
    """`[length + 1, obs]`"""
    actions: np.ndarray
    """`[length, action]`"""
    rewards: np.ndarray
    """`[length]`"""
    state: State = _Whole()
    """What the agent has learned."""
    policy_version: int
    """How often the acting policy had been renewed, of agents that say so; else 0."""


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something that the user should know."""

    text: str


@dataclass(frozen=True, kw_only=True)
class InterruptRequested(Event):
    """Ctrl-C was pressed; the run stops soon."""


@dataclass(frozen=True, kw_only=True)
class TrainingEnded(Event):
    """The run is over, or was stopped."""

    reason: str | None
    """Why it ended early; None if it did not, or if it was interrupted."""


class Callback:
    """Called as a run goes on. Watching never changes the run, but `StopTraining` may end it.

    Override what is of interest; everything else does nothing.
    """

    def on_training_start(self, event: TrainingStarted) -> None:
        """Before anything else; also when a run is resumed."""

    def on_step(self, event: StepTaken) -> None:
        """After every step, of training and of evaluation."""

    def on_learn_start(self, event: LearningStarted) -> None:
        """Before every call of the agent's `learn`."""

    def on_learn_end(self, event: Learned) -> None:
        """With every row of metrics."""

    def on_episode_end(self, event: EpisodeEnded) -> None:
        """After every episode, of training and of evaluation."""

    def on_warning(self, event: Warned) -> None:
        """When there is a warning for the user."""

    def on_interrupt(self, event: InterruptRequested) -> None:
        """When the user asks to stop (Ctrl-C)."""

    def on_training_end(self, event: TrainingEnded) -> None:
        """After everything else, however the run ends."""


def check_callbacks(callbacks: object) -> None:
    """Raises `UserError` unless all of them are callbacks."""
    if not isinstance(callbacks, Sequence):
        raise UserError(f"callbacks must be a list of foretell.Callback, not {callbacks!r}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise UserError(f"a callback must be a foretell.Callback, not {callback!r}")


class Callbacks:
    """Calls all callbacks of a run in their order, and makes records only where there is one to receive them."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._listeners: dict[str, list[Callback]] = {
            hook: [call for call in callbacks if getattr(type(call), hook) is not getattr(Callback, hook)]
            for hook in vars(Callback)
            if hook.startswith("on_")
        }

    def call(self, hook: str, make: Callable[[], Event]) -> str | None:
        """Call a hook of all callbacks. The reason, if one of them asks the run to stop.

        Raises:
            UserError: if a callback fails; it names where. At the end of a run the others are called all the same.
        """
        listeners = self._listeners[hook]
        if not listeners:
            return None
        event, reason, failure = make(), None, None
        for callback in listeners:
            try:
                asked = _reason_to_stop(callback, hook, event)
                reason = reason or asked
            except UserError as error:
                if hook != "on_training_end":
                    raise
                failure = failure or error
        if failure is not None:
            raise failure
        return reason


def _reason_to_stop(callback: Callback, hook: str, event: Event) -> str | None:
    """Call a hook of one callback; the reason, if it asks the run to stop. Raises `UserError` if it fails."""
    try:
        getattr(callback, hook)(event)
    except StopTraining as stop:
        return str(stop) or type(callback).__name__
    except UserError:
        raise
    except Exception as error:
        at = extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"the callback {type(callback).__name__} failed in {hook} ({at.filename}, line {at.lineno}: {brief(error)})"
        ) from error
    return None
