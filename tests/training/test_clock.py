"""The clock, over random schedules and interruption points, without any agent."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.agents import Schedule
from foretell.training.clock import (
    Act,
    Counters,
    Evaluate,
    Learn,
    Save,
    Stop,
    after_evaluation,
    evaluation_numbers,
    going_on,
    is_complete,
    kind_of_episode,
    learned_environments,
    must_log,
    next_activity,
    progress,
    rounds_due,
)


class World:
    """Plays what the clock says, with episodes of random lengths that a seed decides."""

    def __init__(self, schedule: Schedule, horizon: int = 5, seed: int = 0, pretraining: int = 1) -> None:
        self.schedule, self.horizon, self.pretraining = schedule, horizon, pretraining
        self.counters, self.seed = Counters(), seed
        self.lengths: list[int | None] = [None] * schedule.environments  # None: none is under way
        self.ended = [False] * schedule.environments
        self.log: list[tuple] = []

    def length_of(self, episode: int) -> int:
        return random.Random(self.seed * 1000 + episode).randint(1, self.horizon)

    def count(self, **increments: int) -> None:
        self.counters = self.counters.plus(**increments)

    def next(self, **options):
        return next_activity(self.schedule, self.counters, pretraining=self.pretraining, **options)

    def do(self, activity) -> None:
        self.log.append((type(activity).__name__, getattr(activity, "kind", None), self.counters.env_steps))
        match activity:
            case Save():
                self.counters = self.counters._replace(unsaved=0, unsaved_trials=0).plus(saved=1)
                return
            case Learn():
                self.counters = self.counters._replace(new_steps=0).plus(learned=1)
            case Evaluate():
                self.count(begun=1, episodes=1, evaluated=1)
                self.counters = after_evaluation(self.schedule, self.counters)
            case Act():
                self.act(activity)
        self.count(unsaved=1)

    def act(self, activity: Act) -> None:
        environments = range(self.schedule.environments)
        for row in environments:
            if self.lengths[row] is None:
                self.lengths[row], self.ended[row] = 0, False
                setattr(self, f"number{row}", self.counters.begun)
                self.count(begun=1, under_way=1)
        for row in environments:
            if self.ended[row]:
                continue
            self.lengths[row] += 1
            self.count(env_steps=1, new_steps=1, under_way_steps=1)
            limit = min(self.length_of(getattr(self, f"number{row}")), activity.limit or self.horizon)
            self.ended[row] = activity.cut or self.lengths[row] >= limit
        if self.schedule.steps_per_learning is None and not all(self.ended):
            return
        for row in environments:
            if self.ended[row]:
                self.close(row, activity.kind)

    def close(self, row: int, kind: str) -> None:
        counted = {"warmup": {"warmups": 1}, "train": {"trials": 1, "unsaved_trials": 1}}.get(kind, {})
        self.count(under_way=-1, under_way_steps=-self.lengths[row], episodes=1, **counted)
        self.lengths[row] = None

    def advance(self, count: int) -> None:
        """So many activities, or all there are."""
        for _ in range(count):
            if isinstance(activity := self.next(), Stop):
                return
            self.do(activity)

    def resume(self, schedule: Schedule) -> int:
        """Go on with a schedule; the number of evaluation episodes that are dropped."""
        before, self.schedule = self.counters.episodes, schedule
        self.counters = going_on(schedule, self.counters)
        dropped = before - self.counters.episodes
        for _ in range(dropped):
            del self.log[max(i for i, entry in enumerate(self.log) if entry[0] == "Evaluate")]
        return dropped

    def run(self, most: int = 5000) -> list[tuple]:
        for _ in range(most):
            activity = self.next()
            if isinstance(activity, Stop):
                return self.log
            self.do(activity)
        raise AssertionError("the run does not end")


@st.composite
def episodic(draw):
    environments = draw(st.integers(1, 3))
    return Schedule(
        trials=environments * draw(st.integers(1, 4)),
        environments=environments,
        random_episodes=draw(st.integers(1, 3)),
        random_steps=draw(st.integers(0, 12)),
        random_horizon=draw(st.none() | st.integers(1, 5)),
        warmup_episodes=draw(st.integers(0, 3)),
        warmup_horizon=draw(st.integers(1, 5)),
        eval_episodes=draw(st.integers(0, 2)),
        episodes_per_learning=draw(st.integers(1, 2)),
    )


@st.composite
def stepwise(draw):
    environments = draw(st.integers(1, 3))
    return Schedule(
        steps=draw(st.integers(5, 60)),
        environments=environments,
        steps_per_learning=environments * draw(st.integers(1, 4)),
        random_episodes=0,
        random_steps=draw(st.integers(0, 15)),
        eval_episodes=draw(st.integers(0, 2)),
        eval_every=draw(st.none() | st.integers(3, 20)),
    )


schedules = st.one_of(episodic(), stepwise())


@given(schedules, st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
@pytest.mark.long
def test_every_run_ends_where_its_schedule_says_and_is_saved(schedule, seed, pretraining):
    world = World(schedule, seed=seed, pretraining=pretraining)
    log = world.run()
    done, end = progress(schedule, world.counters)
    assert done >= end and done - end < schedule.environments
    assert log[-1][0] == "Save" and world.counters.unsaved == 0
    assert world.counters.rounds >= rounds_due(schedule, world.counters)


@given(schedules, st.integers(0, 5), st.data())
@settings(max_examples=80, deadline=None)
@pytest.mark.long
def test_saving_at_any_moment_changes_nothing_else(schedule, seed, data):
    """Checkpoints for reasons of time, and interruptions, leave the sequence of all other activities as it is."""
    plain = [entry for entry in World(schedule, seed=seed).run() if entry[0] != "Save"]
    world = World(schedule, seed=seed)
    moments = data.draw(st.sets(st.integers(0, len(plain)), max_size=5))
    for i in range(5000):
        activity = world.next(overdue=i in moments)
        if isinstance(activity, Stop):
            break
        world.do(activity)
    assert [entry for entry in world.log if entry[0] != "Save"] == plain


@given(schedules, st.integers(0, 5), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_run_asked_to_stop_evaluates_its_agent_saves_and_stops(schedule, seed, moment):
    world = World(schedule, seed=seed)
    world.advance(moment)
    begun, before = world.counters.evaluated, len(world.log)
    while not isinstance(activity := world.next(stopping=True), Stop):
        world.do(activity)
    kinds = [entry[0] for entry in world.log[before:]]
    evaluated = kinds.count("Evaluate")
    assert {*kinds} <= {"Evaluate", "Save"} and kinds.count("Save") <= 2
    assert evaluated in (0, schedule.eval_episodes - begun) and world.counters.unsaved == 0
    assert is_evaluated(world) or (not evaluated and (rounds_of(world) or [0])[-1] == world.counters.env_steps)


@given(schedules, st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_the_final_agent_is_evaluated_once(schedule, seed, pretraining):
    """Beside the rounds that are due there is at most one, at the end, and only if the agent has learned meanwhile."""
    world, added = World(schedule, seed=seed, pretraining=pretraining), []
    while not isinstance(activity := world.next(), Stop):
        counters = world.counters
        if (
            isinstance(activity, Evaluate)
            and not counters.evaluated
            and counters.rounds == rounds_due(schedule, counters)
        ):
            added.append(counters)
            assert is_complete(schedule, counters) and not is_evaluated(world)
        world.do(activity)
    assert is_evaluated(world) and len(added) <= 1
    assert len({*rounds_of(world)}) == len(rounds_of(world))  # no two at the same step


@given(schedules, st.integers(0, 5), st.integers(1, 40), st.integers(0, 4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_run_that_is_lengthened_or_resumed_after_a_stop_is_one_that_was_not(schedule, seed, more, left, stop):
    """Wherever it ended, within its last round of evaluation too: only what was evaluated at that end is added."""
    length = {"steps": schedule.steps + more} if schedule.steps else {"trials": schedule.trials + 6 * more}
    longer, world = (World(schedule.model_copy(update=length), seed=seed) for _ in range(2))
    if not stop:
        world.schedule = schedule
    world.advance(len(World(schedule, seed=seed).run()) - left)
    for _ in range(left * stop):
        if not isinstance(activity := world.next(stopping=True), Stop):
            world.do(activity)
    assert world.resume(longer.schedule) <= schedule.eval_episodes
    world.run(), longer.run()
    assert world.counters._replace(saved=0) == longer.counters._replace(saved=0)
    found, expected = ([entry for entry in one.log if entry[0] != "Save"] for one in (world, longer))
    assert found == expected


@pytest.mark.parametrize(
    ("steps", "every", "learning", "rounds"),
    [
        (100, 30, 1, [40, 70, 100]),
        (90, 30, 1, [40, 70, 90]),
        (90, 30, 50, [40, 70]),  # it learns at 10 and 60
        (79, 30, 30, [40, 70, 79]),  # it learns at 10, 40 and 70, after the rounds there
        (70, 30, 30, [40, 70]),
        (5, 30, 1, []),  # all steps are random: nothing is learned
    ],
)
def test_a_length_that_is_no_multiple_of_eval_every(steps, every, learning, rounds):
    schedule = Schedule(
        steps=steps, random_steps=10, steps_per_learning=learning, eval_every=every, eval_episodes=2, random_episodes=0
    )
    world = World(schedule)
    world.run()
    assert rounds_of(world) == rounds


def is_evaluated(world):
    """Whether no call of `learn` came after the last round of evaluation, or there is none."""
    order = [entry[0] for entry in world.log if entry[0] in ("Learn", "Evaluate")]
    return not world.schedule.eval_episodes or "Learn" not in order or order[-1] == "Evaluate"


def rounds_of(world):
    """Environment steps at the rounds of evaluation."""
    steps = [entry[2] for entry in world.log if entry[0] == "Evaluate"]
    return steps[:: world.schedule.eval_episodes or 1]


@given(episodic(), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
@pytest.mark.long
def test_an_episodic_run_learns_from_new_data_between_episodes(schedule, seed):
    world = World(schedule, seed=seed)
    kinds = []
    for _ in range(5000):
        activity, counters = world.next(), world.counters
        if isinstance(activity, Stop):
            break
        if isinstance(activity, Learn):
            assert counters.new_steps and not counters.under_way
            assert counters.trials % (schedule.episodes_per_learning * schedule.environments) == 0
        if isinstance(activity, Save):
            assert not counters.under_way
        if isinstance(activity, Act) and not counters.under_way:
            kinds.append(activity.kind)
        world.do(activity)
    rounds = [kind for kind in kinds if kind != "random"]
    warmups = -(-schedule.warmup_episodes // schedule.environments)
    assert rounds == ["warmup"] * warmups + ["train"] * (schedule.trials // schedule.environments)
    assert kinds[: len(kinds) - len(rounds)] == ["random"] * (len(kinds) - len(rounds))
    assert len(kinds) - len(rounds) >= -(-schedule.random_episodes // schedule.environments)


@given(episodic(), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_random_episodes_last_until_there_are_enough_and_no_longer(schedule, seed):
    world = World(schedule, seed=seed)
    while not isinstance(activity := world.next(), Learn):
        before = world.counters
        world.do(activity)
    assert world.counters.episodes >= schedule.random_episodes and world.counters.env_steps >= schedule.random_steps
    assert before.episodes < schedule.random_episodes or before.env_steps < schedule.random_steps or before.under_way


@given(stepwise(), st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
@pytest.mark.long
def test_a_stepwise_run_learns_as_often_as_its_steps_allow(schedule, seed, pretraining):
    world = World(schedule, seed=seed, pretraining=pretraining)
    log = world.run()
    first_random = [entry for entry in log if entry[1] == "random"]
    assert len(first_random) == -(-min(schedule.random_steps, schedule.steps) // schedule.environments)
    acted = [entry for entry in log if entry[1] == "train"]
    before_acting = log[: log.index(acted[0])] if acted else log
    if acted:
        assert sum(entry[0] == "Learn" for entry in before_acting) >= pretraining
        learned = [entry[2] for entry in log[log.index(acted[0]) :] if entry[0] == "Learn"]
        assert all(b - a == schedule.steps_per_learning for a, b in pairwise(learned))


@given(stepwise(), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
@pytest.mark.long
def test_random_episodes_are_cut_where_the_random_steps_end(schedule, seed):
    world = World(schedule, seed=seed)
    for _ in range(5000):
        activity = world.next()
        if isinstance(activity, Stop):
            return
        world.do(activity)
        if isinstance(activity, Act) and activity.kind == "random":
            ends = kind_of_episode(schedule, world.counters) != "random"
            assert activity.cut == ends
            assert not (ends and world.counters.under_way)


@given(schedules, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
@pytest.mark.long
def test_rounds_of_evaluation_are_whole(schedule, seed):
    log = World(schedule, seed=seed).run()
    count = sum(entry[0] == "Evaluate" for entry in log)
    assert count % max(schedule.eval_episodes, 1) == 0
    assert bool(count) <= bool(schedule.eval_episodes)


def test_warm_ups_grow_evenly():
    schedule = Schedule(trials=1, warmup_episodes=3, warmup_horizon=20, warmup_last_horizon=26)
    limits = [schedule.limit("warmup", done) for done in range(3)]
    assert limits == [20, 23, 26]


@pytest.mark.parametrize("stopping", [True, False])
def test_nothing_is_saved_twice(stopping):
    counters = Counters(trials=10, episodes=10, unsaved=0)
    assert next_activity(Schedule(trials=10), counters, overdue=True, stopping=stopping) == Stop()


def test_metrics_are_logged_at_every_call_between_episodes_and_within_them_in_turns():
    assert must_log(Schedule(), Counters(learned=7, env_steps=3, new_steps=1), pretraining=1)
    stepwise = Schedule(steps_per_learning=25, random_episodes=0, random_steps=100, log_every=100)
    logged = [must_log(stepwise, Counters(1, env_steps=n, new_steps=25, learned=n), 1) for n in range(125, 425, 25)]
    assert [n for n, due in zip(range(125, 425, 25), logged, strict=True) if due] == [200, 300, 400]
    assert must_log(stepwise, Counters(env_steps=100, learned=2), pretraining=3)  # each call before it acts


@pytest.mark.parametrize(
    ("environments", "rounds", "validation", "expected"),
    [(10, 1, 1, [9]), (5, 2, 1, [5, 4]), (5, 2, 7, [3, 0]), (1, 3, 1, [1, 1, 0]), (4, 1, 0, [4])],
)
@pytest.mark.long
def test_the_last_trials_before_learning_are_for_validation(environments, rounds, validation, expected):
    schedule = Schedule(
        trials=4 * environments * rounds,
        environments=environments,
        episodes_per_learning=rounds,
        validation_episodes=validation,
        random_episodes=2,
    )
    random = learned_environments(schedule, Counters(episodes=1))
    kept = [
        learned_environments(schedule, Counters(episodes=2 + trials, trials=trials))
        for trials in range(0, schedule.trials, environments)
    ]
    assert random == environments and kept == 4 * expected


@pytest.mark.parametrize("change", [{"validation_episodes": 1}, {"validation_episodes": 1, "steps_per_learning": 5}])
@pytest.mark.long
def test_something_must_be_learned_from(change):
    with pytest.raises(ValueError, match=r"validation_episodes \(1\) must be at most 0: the agent has to learn from"):
        Schedule(**{"random_episodes": 0, "random_steps": 5, **change})


def test_evaluation_episodes_are_the_next_ones_and_no_more_than_are_left_of_the_round():
    schedule = Schedule(eval_episodes=5, eval_every=100)
    assert evaluation_numbers(schedule, Counters(begun=7), width=3) == [7, 8, 9]
    assert evaluation_numbers(schedule, Counters(begun=10, evaluated=3), width=3) == [10, 11]
