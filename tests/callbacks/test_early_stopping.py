"""Runs end early once they are good enough, however often they are interrupted."""

import pytest
from played import Played

import foretell
from foretell.callbacks import StopAtReturn
from tiny import by_hand, interrupted_at, results, tiny_run


def stopping(threshold):
    return lambda: [StopAtReturn(threshold)]


def test_five_trials_in_a_row_have_to_reach_the_threshold(tmp_path):
    run = Played(tmp_path / "run", stopping(3.0))
    for value in (9.0, 9.0, 1.0, 1.0):
        run.episode("train", value)
    assert run.reason is None, "there are only four"
    for value in (-9.0, 1.0, 6.0):
        run.episode("train", value)
        assert run.reason is None
    run.episode("train", 16.0)
    assert run.reason == "five trials in a row had a mean return of 3, at least the 3 asked for"


def test_with_evaluation_trials_do_not_count(tmp_path):
    run = Played(tmp_path / "run", stopping(10.0), eval_episodes=2)
    for _ in range(6):
        run.episode("train", 99.0)
        run.episode("eval", 12.0)
        assert run.reason is None, "the round is not over"
        run.episode("eval", 7.0)
        assert run.reason is None
    run.episode("eval", 12.5)
    run.episode("eval", 8.0)
    assert run.reason == "a round of evaluation had a mean return of 10.25, at least the 10 asked for"


@pytest.mark.parametrize("episodes", [0, 2])
@pytest.mark.long
def test_a_run_that_has_reached_it_stops_at_once_when_resumed(episodes, tmp_path):
    run = Played(tmp_path / "run", stopping(1.0), eval_episodes=episodes)
    for _ in range(5):
        run.episode("train", 1.0)
        for _ in range(episodes):
            run.episode("eval", 1.0)
    reason, checkpoint = run.reason, run.save()
    run.episode("train", -9.0)  # as if it had gone on
    run.resume(checkpoint)
    assert reason is not None and run.reason == reason


@pytest.mark.long
def test_what_came_after_the_checkpoint_does_not_count(tmp_path):
    run = Played(tmp_path / "run", stopping(1.0))
    for _ in range(4):
        run.episode("train", 1.0)
    checkpoint = run.save()
    run.episode("train", 1.0)
    assert run.reason is not None
    run.resume(checkpoint)
    assert run.reason is None
    run.episode("train", 1.0)
    assert run.reason is not None


# Within a real run, whose returns are never positive.


def train(out, **schedule):
    return tiny_run(out, **{"trials": 9, "stop_at_return": -1000.0, **schedule})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole") / "run", eval_episodes=2)


@pytest.mark.long
def test_a_run_ends_with_the_first_score_that_is_good_enough(whole, tmp_path):
    """Of five trials, or of a round of evaluation."""
    for run, trials, episodes in ((whole, 1, 2), (train(tmp_path / "run"), 5, 0)):
        assert len(run.returns) == trials and len(run.episodes) == 1 + trials + episodes
    assert foretell.load(whole.directory, quiet=True).evaluate(1)


@pytest.mark.long
@pytest.mark.parametrize("moment", [("episode_end", 3), *by_hand(("step", 8), ("episode_end", 2))], ids=str)
def test_it_ends_at_the_same_place_if_interrupted_before(moment, whole, tmp_path):
    with interrupted_at(*moment):
        train(tmp_path / "run", eval_episodes=2)
    foretell.resume(tmp_path / "run", quiet=True)
    assert results(tmp_path / "run") == results(whole.directory)


@pytest.mark.slow
def test_a_resumed_run_that_has_reached_it_changes_nothing_unless_more_is_asked(tmp_path, capsys):
    out = train(tmp_path / "run", eval_episodes=2, trials=2).directory
    before = results(out)
    foretell.resume(out)
    assert "ended early: a round of evaluation had a mean return of" in capsys.readouterr().out
    assert results(out) == before
    foretell.resume(out, overrides={"train": {"stop_at_return": None}}, quiet=True)
    whole = train(tmp_path / "whole", eval_episodes=2, trials=2, stop_at_return=None).directory
    assert results(out) == results(whole)
