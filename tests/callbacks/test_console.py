import io
import re

from rich.console import Console

import foretell
from foretell.callbacks.console import Display, Pace, sparkline
from tiny import LINE, TINY, interrupted_at

ROOM = {"train": {"capacity": 500}}


def test_without_a_terminal_every_episode_is_one_plain_line(tmp_path, capsys):
    foretell.train("pets/cartpole", out=tmp_path / "run", overrides=[TINY, ROOM])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["random", "trial", "trial", "returns"]
    assert not any("\x1b" in line for line in lines)
    assert re.search(r"trial 2/2 .*return .* best .* ms/step .*model loss .* s$", lines[2])


def test_in_a_terminal_a_bar_shows_trial_step_return_and_pace(tmp_path, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140)
    monkeypatch.setattr("foretell.api.Display", lambda: Display(console))
    foretell.train("pets/cartpole", out=tmp_path / "run", overrides=[TINY, ROOM, {"planner": {"population": 60}}])
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(r"train \d/2 .* step \d+  return -?[\d.]+  [\d.]+ ms/step", text)
    assert "trial 2/2" in text


def test_the_time_left_is_told_by_the_pace_after_learning():
    """What was learned before anything was done is not part of it."""
    pace = Pace()
    assert pace.left(10.0, 0, 8) is None
    pace.learned(20.0, 0)
    pace.learned(50.0, 0)
    assert pace.left(51.0, 0, 8) is None
    assert pace.left(52.0, 0.5, 8) == 30
    pace.learned(90.0, 4)
    assert pace.left(90.0, 4, 8) == 40


def test_environments_in_lock_step_are_told_a_time_left_within_their_first_round(tmp_path, capsys):
    rounds = {"train": {"trials": 4, "environments": 2, "capacity": 1000}}
    foretell.train("pets/cartpole", out=tmp_path / "run", overrides=[TINY, ROOM, rounds])
    trials = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]
    assert [bool(re.search(r"~\d.* left$", line)) for line in trials] == [True, True, True, False]


def test_a_request_to_stop_is_answered_at_once(tmp_path, capsys):
    """Learning, which may take minutes, ends before the run does."""
    with interrupted_at("learn_start", 1):
        foretell.train("pets/default", env=LINE, out=tmp_path / "run", overrides=[TINY])
    assert "stopping once everything can be saved" in capsys.readouterr().out


def test_a_sparkline_spans_lowest_to_highest():
    assert sparkline([0.0, 50.0, 100.0]) == "▁▄█" or sparkline([0.0, 50.0, 100.0]) == "▁▅█"
    assert len(set(sparkline([3.0, 3.0]))) == 1


def test_a_sparkline_of_many_values_is_one_of_their_means():
    row = sparkline([float(i) for i in range(5000)])
    assert len(row) == 80 and row[0] == "▁" and row[-1] == "█"
    assert list(row) == sorted(row)
