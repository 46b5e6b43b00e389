"""Which episodes of a run are filmed; `tests/test_cli.py` films some."""

import pytest
from played import Line, Played

from foretell.callbacks import Films


@pytest.fixture
def filmed(monkeypatch):
    numbers = []
    monkeypatch.setattr("foretell.callbacks.video.check_drawable", lambda task: None)
    film = lambda task, directory, seed, number, warn: numbers.append(number)  # noqa: E731
    monkeypatch.setattr("foretell.callbacks.video.film", film)
    return numbers


def play(path, kinds, **schedule):
    run = Played(path / "run", lambda: [Films(Line())], **schedule)
    for kind in kinds:
        run.episode(kind, 0.0)


@pytest.mark.long
def test_of_a_run_that_learns_between_episodes_the_first_ones_after_learning(tmp_path, filmed):
    play(tmp_path, ["random", "train", "eval", "train", "eval"], record=1, eval_episodes=1)
    assert filmed == [1, 3]


@pytest.mark.long
def test_of_a_run_that_learns_within_episodes_the_first_ones_of_a_round_of_evaluation(tmp_path, filmed):
    stepwise = {"steps_per_learning": 1, "random_episodes": 0, "random_steps": 5}
    play(tmp_path, ["random", "train", "eval", "eval", "train", "eval", "eval"], record=1, eval_episodes=2, **stepwise)
    assert filmed == [2, 5]
