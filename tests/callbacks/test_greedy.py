"""`greedy.csv`: a line for each evaluation episode."""

import pytest
from played import Played

from foretell.callbacks import Greedy


def lines(run):
    return run.directory.greedy.read_text().splitlines()


@pytest.mark.long
def test_a_line_holds_hours_policy_version_steps_and_return(tmp_path):
    run = Played(tmp_path / "run", lambda: [Greedy()])
    run.episode("train", 1.0, version=6)
    run.episode("eval", 0.5, version=7)
    assert lines(run) == ["2.000000,7,5,0.500000"]


@pytest.mark.long
def test_what_came_after_the_checkpoint_is_removed(tmp_path):
    run = Played(tmp_path / "run", lambda: [Greedy()])
    run.episode("eval", 1.0)
    checkpoint = run.save()
    run.episode("eval", 2.0)
    run.resume(checkpoint)
    assert lines(run) == ["2.000000,0,0,1.000000"]
    run.episode("eval", 3.0)
    assert [line.split(",")[3] for line in lines(run)] == ["1.000000", "3.000000"]
