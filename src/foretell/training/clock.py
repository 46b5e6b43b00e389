"""The clock: what a run does next, decided by its schedule and its counters alone.

There are two kinds of schedules. *Episodic* (PETS, MB-MPC): environments begin and end their episodes together, and the
agent learns between them. *Stepwise* (DDPG, STEVE, TRPO): the agent learns whenever so many steps have been taken, and
each environment begins its next episode at once.
"""

from typing import Literal, NamedTuple

from foretell.agents.base import Schedule

Kind = Literal["random", "warmup", "train", "eval"]
"""What an episode is for."""


class Counters(NamedTuple):
    """How far a run is. All are whole numbers but `seconds`; an episode is counted as begun from its reset on."""

    begun: int = 0
    """Episodes begun: the number of the next one."""
    under_way: int = 0
    """Of these, episodes to learn from that have not been closed yet."""
    under_way_steps: int = 0
    """Steps in them so far."""
    episodes: int = 0
    """Episodes finished: rows of `episodes.csv`."""
    warmups: int = 0
    """Of those finished, warm-up episodes."""
    trials: int = 0
    """Of those finished, trials: training episodes acted by the agent."""
    rounds: int = 0
    """Rounds of evaluation finished, or passed over."""
    evaluated: int = 0
    """Evaluation episodes in the round under way."""
    env_steps: int = 0
    """Environment steps in all episodes but those of evaluation."""
    new_steps: int = 0
    """Of these, steps since the last call of `learn`."""
    learned: int = 0
    """Calls of `learn`."""
    logged: int = 0
    """Rows of `metrics.csv`."""
    unlogged: int = 0
    """Calls of `learn` since then."""
    saved: int = 0
    """Checkpoints written."""
    unsaved: int = 0
    """Activities since then."""
    unsaved_trials: int = 0
    """Trials finished since then."""
    seconds: float = 0.0
    """Wall time up to the last checkpoint."""
    evaluated_at: int = 0
    """Environment steps at the latest finished round of evaluation that was due."""
    added: int = 0
    """Episodes of the round that was added at the end, for the final agent."""

    def plus(self, **increments: int) -> "Counters":
        """With these counters increased."""
        return self._replace(**{name: getattr(self, name) + by for name, by in increments.items()})


class Act(NamedTuple):
    """Take one step in every environment, in a new episode where none is under way."""

    kind: Kind
    limit: int | None = None
    """Steps after which episodes are cut, beside the task's own limit."""
    cut: bool = False
    """Whether all episodes are cut after this step."""


class Learn(NamedTuple):
    """Call the agent's `learn` once."""


class Evaluate(NamedTuple):
    """Play one evaluation episode."""


class Save(NamedTuple):
    """Write a checkpoint."""


class Stop(NamedTuple):
    """The run is over."""


Activity = Act | Learn | Evaluate | Save | Stop


def next_activity(
    schedule: Schedule, counters: Counters, *, pretraining: int = 1, overdue: bool = False, stopping: bool = False
) -> Activity:
    """What to do next.

    Args:
        schedule: the section `train` of the settings.
        counters: how far the run is.
        pretraining: calls of `learn` before a stepwise agent first acts, see `Agent.pretraining`.
        overdue: whether the last checkpoint is too long ago.
        stopping: whether something asked the run to end early.
    """
    if counters.unsaved and (overdue or _trial_is_over(schedule, counters)):
        return Save()
    if must_evaluate(schedule, counters, stopping=stopping):
        return Evaluate()
    if stopping or is_complete(schedule, counters):
        return Save() if counters.unsaved else Stop()
    kind = kind_of_episode(schedule, counters)
    if _may_learn(schedule, counters, kind, pretraining):
        return Learn()
    cut = kind == "random" and _is_stepwise(schedule) and _random_steps_end(schedule, counters)
    return Act(kind, schedule.limit(kind, counters.warmups), cut)


COUNTED = {"warmup": {"warmups": 1}, "train": {"trials": 1, "unsaved_trials": 1}, "eval": {"evaluated": 1}}
"""What is counted when an episode of each kind is finished."""


def evaluation_numbers(schedule: Schedule, counters: Counters, width: int) -> list[int]:
    """The numbers of the next evaluation episodes: as many as are left of this round, at most `width` side by side."""
    left = schedule.eval_episodes - counters.evaluated
    return [counters.begun + i for i in range(max(1, min(width, left)))]


def after_evaluation(schedule: Schedule, counters: Counters) -> Counters:
    """The counters after an evaluation episode: if it was the last of its round, all rounds that were due are over."""
    if counters.evaluated < schedule.eval_episodes:
        return counters
    if _is_added(schedule, counters):
        return counters._replace(evaluated=0, added=counters.evaluated)
    return counters._replace(evaluated=0, rounds=rounds_due(schedule, counters), evaluated_at=counters.env_steps)


def going_on(schedule: Schedule, counters: Counters) -> Counters:
    """The counters of a resumed run: if it goes on beyond its end, it does so as if no round had been added there."""
    if is_complete(schedule, counters):
        return counters
    begun = counters.evaluated if _is_added(schedule, counters) else 0
    added = counters.added + begun
    return counters.plus(begun=-added, episodes=-added, added=-counters.added, evaluated=-begun)


def must_log(schedule: Schedule, counters: Counters, pretraining: int) -> bool:
    """Whether metrics are logged after the call of `learn` that was made at these counters."""
    if not _is_stepwise(schedule) or counters.learned < pretraining:
        return True
    every = schedule.log_every
    return counters.env_steps // every > (counters.env_steps - counters.new_steps) // every


def progress(schedule: Schedule, counters: Counters) -> tuple[int, int]:
    """How far the run is and where it ends: in steps if its length is given in steps, else in trials."""
    if schedule.steps is not None:
        return counters.env_steps, schedule.steps
    return counters.trials, schedule.trials


def is_complete(schedule: Schedule, counters: Counters) -> bool:
    """Whether all steps or trials are done; a round of evaluation may be left."""
    done, end = progress(schedule, counters)
    return done >= end


def must_evaluate(schedule: Schedule, counters: Counters, *, stopping: bool = False) -> bool:
    """Whether an evaluation episode is next: of a round that has begun or is due, or of the final agent's.

    At its end, a round is added if the agent has learned since the latest one, and steps were taken: two rounds are
    never at the same step.
    """
    if not schedule.eval_episodes:
        return False
    if counters.evaluated or (not stopping and counters.rounds < rounds_due(schedule, counters)):
        return True
    if counters.added or not counters.learned or not (stopping or is_complete(schedule, counters)):
        return False
    learned_at = counters.env_steps - counters.new_steps  # after a round at the same step
    return counters.evaluated_at <= learned_at and counters.evaluated_at < counters.env_steps


def kind_of_episode(schedule: Schedule, counters: Counters) -> Kind:
    """What the episodes under way are for, or the next ones."""
    if _is_stepwise(schedule):
        return "random" if counters.env_steps < schedule.random_steps else "train"
    finished_steps = counters.env_steps - counters.under_way_steps
    if not (counters.trials or counters.warmups) and (
        counters.episodes < schedule.random_episodes or finished_steps < schedule.random_steps
    ):
        return "random"
    return "warmup" if counters.warmups < schedule.warmup_episodes else "train"


def learned_environments(schedule: Schedule, counters: Counters) -> int:
    """From how many environments, the first ones, the steps under way are learned from."""
    count = schedule.environments
    if not schedule.validation_episodes or kind_of_episode(schedule, counters) != "train":
        return count
    trials = count * schedule.episodes_per_learning
    return max(0, min(count, trials - schedule.validation_episodes - counters.trials % trials))


def rounds_due(schedule: Schedule, counters: Counters) -> int:
    """Rounds of evaluation that should have been played by now."""
    if not schedule.eval_episodes:
        return 0
    if schedule.eval_every is None:
        return counters.trials // schedule.environments
    return max(0, counters.env_steps - schedule.random_steps) // schedule.eval_every


def _is_added(schedule: Schedule, counters: Counters) -> bool:
    """Whether a round of evaluation that is under way was not due."""
    return counters.rounds >= rounds_due(schedule, counters)


def _is_stepwise(schedule: Schedule) -> bool:
    return schedule.steps_per_learning is not None


def _trial_is_over(schedule: Schedule, counters: Counters) -> bool:
    """Whether an episodic run has come to the end of a trial, where it always saves."""
    return not _is_stepwise(schedule) and bool(counters.unsaved_trials) and not counters.under_way


def _may_learn(schedule: Schedule, counters: Counters, kind: Kind, pretraining: int) -> bool:
    """Whether there are enough new data, and this is a moment to learn."""
    if kind == "random":
        return False
    if schedule.steps_per_learning is not None:
        return counters.new_steps >= schedule.steps_per_learning or counters.learned < pretraining
    every = schedule.episodes_per_learning * schedule.environments
    return not counters.under_way and bool(counters.new_steps) and counters.trials % every == 0


def _random_steps_end(schedule: Schedule, counters: Counters) -> bool:
    """Whether a step in every environment completes the random steps."""
    return counters.env_steps + schedule.environments >= schedule.random_steps
