"""The learning curve is drawn however a run ends; a disk that refuses it takes nothing else away."""

import errno

import pytest
from played import Played

from foretell.callbacks import LearningCurve, curve
from foretell.errors import UserError


@pytest.fixture
def drawn(monkeypatch):
    """The returns of each figure that was drawn."""
    figures = []
    monkeypatch.setattr(curve, "prepare_to_draw", lambda: None)
    monkeypatch.setattr(
        curve, "draw_learning_curve", lambda rows, path, title: figures.append([row["return"] for row in rows])
    )
    return figures


@pytest.mark.parametrize("reason", ["finished", "interrupted"])
def test_it_is_drawn_from_all_episodes_however_the_run_ends(reason, drawn, tmp_path):
    run = Played(tmp_path / "run", lambda: [LearningCurve()])
    run.episode("random", 1.0)
    run.episode("train", 2.0)
    run.reason = reason
    run.end()
    assert drawn == [[1.0, 2.0]]


def test_a_run_without_an_episode_has_none(drawn, tmp_path):
    Played(tmp_path / "run", lambda: [LearningCurve()]).end()
    assert drawn == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_is_one_sentence_and_the_tables_remain(code, drawn, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(code, "no")

    monkeypatch.setattr(curve, "draw_learning_curve", refuse)
    run = Played(tmp_path / "run", lambda: [LearningCurve()])
    run.episode("train", 2.0)
    with pytest.raises(UserError, match=r"^cannot write '.*learning_curve.png': no$"):
        run.end()
    assert [row["return"] for row in run.directory.read_episodes()] == [2.0]
