"""Mean returns of rounds of evaluation, or of trials in a row."""

import random

import pytest

from foretell.agents import Schedule
from foretell.callbacks.scores import Scores, finished_scores
from foretell.training.clock import Counters

ROUNDS, TRIALS = Schedule(eval_episodes=2), Schedule()


def row(kind, value, env_steps=0):
    return {"kind": kind, "return": value, "env_steps": env_steps}


def test_without_evaluation_every_trial_completes_a_score_once_there_are_enough():
    rows = [row("random", 9.0), row("train", 1.0), row("train", 2.0), row("warmup", 9.0), row("train", 6.0)]
    assert finished_scores(TRIALS, Counters(), rows, 2) == [1.5, 4.0]
    assert finished_scores(TRIALS, Counters(), rows, 4) == []
    scores = Scores(TRIALS, Counters(), [], 2)
    assert [scores.add(Counters(), one) for one in rows] == [None, None, 1.5, None, 4.0]


@pytest.mark.long
def test_with_evaluation_only_whole_rounds_count():
    rows = [row("train", 9.0, 5), row("eval", 1.0, 5), row("eval", 3.0, 5), row("train", 9.0, 10), row("eval", 8.0, 10)]
    assert finished_scores(ROUNDS, Counters(evaluated=1), rows, 2) == [2.0]
    scores = Scores(ROUNDS, Counters(evaluated=1), rows, 2)
    assert scores.add(Counters(evaluated=2), row("eval", 4.0, 10)) == 6.0


@pytest.mark.long
def test_rounds_without_an_episode_between_them_differ_in_their_steps():
    rows = [row("eval", value, steps) for steps, value in ((100, 1.0), (100, 2.0), (200, 3.0), (200, 4.0))]
    assert finished_scores(ROUNDS, Counters(), rows, 2) == [1.5, 3.5]


@pytest.mark.parametrize("episodes", [0, 3])
@pytest.mark.long
def test_a_run_resumed_anywhere_has_the_scores_of_its_past(episodes):
    """Those computed as it goes on, from any moment, are the last ones of those computed at its end."""
    schedule, generator, rows = Schedule(eval_episodes=episodes), random.Random(0), []
    for trial in range(12):
        rows += [row("train", generator.random(), trial)]
        rows += [row("eval", generator.random(), trial) for _ in range(episodes)]
    evaluated = [i % (episodes + 1) for i in range(len(rows))]
    expected = finished_scores(schedule, Counters(), rows, 5)
    for start in range(len(rows)):
        under_way = evaluated[start - 1] % max(episodes, 1) if start else 0
        scores = Scores(schedule, Counters(evaluated=under_way), rows[:start], 5)
        found = [scores.add(Counters(evaluated=n), one) for n, one in zip(evaluated[start:], rows[start:], strict=True)]
        found = [score for score in found if score is not None]
        before = finished_scores(schedule, Counters(evaluated=under_way), rows[:start], 5)
        assert before + found == expected
