"""What a run prints."""

import io
import re
import time

import pytest
import rich.console
from played import Played

import foretell
from foretell.callbacks import Console, StopAtReturn, sparkline
from foretell.callbacks.console import Pace
from foretell.compilation import Waiting, waiting_listeners
from foretell.diagnostics.hints import RunData
from foretell.training.events import LearningStarted
from tiny import TINY, interrupted_at, tiny_run


class Printed(Played):
    """A run played by hand, and what it has printed."""

    def __init__(self, path, more=list, **schedule):
        self._file = io.StringIO()
        screen = rich.console.Console(file=self._file, width=200, highlight=False, markup=False, emoji=False)
        super().__init__(path, lambda: [Console(screen), *more()], **schedule)

    @property
    def lines(self):
        """Without times left."""
        return re.sub(r"  ~\d+ s left", "", self._file.getvalue()).splitlines()


def test_episodic_runs_print_episodes(tmp_path):
    run = Printed(tmp_path / "run", trials=2)
    run.episode("random", 1.0)
    run.learn(train_loss=0.25)
    run.episode("train", 3.0)
    run.episode("train", 2.0)
    run.end()
    assert run.lines == [
        "random       return      1.0     5 steps  0.5 s",
        "trial 1/2    return      3.0  best     3.0     5 steps  2.0 ms/step  model loss 0.25  0.5 s",
        "trial 2/2    return      2.0  best     3.0     5 steps  2.0 ms/step  model loss 0.25  0.5 s",
        "returns      █▁",
    ]


def test_stepwise_runs_print_rows_of_metrics_and_evaluation(tmp_path):
    stepwise = {"steps": 20, "steps_per_learning": 1, "random_episodes": 0, "random_steps": 5}
    run = Printed(tmp_path / "run", **stepwise, eval_episodes=1, eval_every=5)
    run.episode("random", 1.0)
    run.learn(critic_loss=0.5)
    run.episode("train", 3.0)
    run.learn(critic_loss=0.25)
    run.episode("eval", 2.0)
    assert run.lines == [
        "5/20  critic loss 0.50  7200.0 s",
        "10/20  mean of last 1 returns 3.0  critic loss 0.25  7200.0 s",
        "eval         return      2.0     5 steps  2.0 ms/step  0.5 s",
    ]


def test_a_run_ends_with_the_hints_of_its_data(tmp_path, monkeypatch):
    worse = RunData([], [{"new_mse": 0.1 + 0.01 * i} for i in range(6)])
    monkeypatch.setattr("foretell.callbacks.console.read_data", lambda directory, names, learner: worse)
    run = Printed(tmp_path / "run", trials=2)
    for value in (3.0, 2.0):
        run.episode("train", value)
    run.end()
    assert run.lines[-1].startswith("hint: the model's error (new_mse in metrics.csv) does not fall: 0.105 in the")


def test_a_long_compilation_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr("foretell.callbacks.console._SILENT", 4.0)
    run = Printed(tmp_path / "run")
    tell = waiting_listeners[-1]
    for waiting in (Waiting(("learn",), 1.0), Waiting((), 0.0), Waiting(("learn", "act"), 4.2), Waiting(("act",), 9.0)):
        tell(waiting)
    assert run.lines == ["compiling the programs of learning and acting, 4 s so far"]
    run.end()
    assert tell not in waiting_listeners


def test_in_a_terminal_the_live_line_counts_the_seconds_of_compilation(tmp_path):
    screen = io.StringIO()
    run = Played(tmp_path / "run", lambda: [Console(rich.console.Console(file=screen, force_terminal=True, width=140))])
    tell = waiting_listeners[-1]
    run.call("on_learn_start", LearningStarted)
    for waiting in (Waiting(("learn", "mine"), 3.0), Waiting((), 0.0)):
        tell(waiting)
        time.sleep(0.3)  # the line is drawn ten times a second
    run.end()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").splitlines()
    drawn = [line.split() for line in lines if line]
    compiling = next(i for i, words in enumerate(drawn) if words[0] == "compiling")
    assert drawn[compiling][2:] == ["learning", "and", "mine", "3", "s"]
    assert any(words[0] == "learning" for words in drawn[compiling:])


def test_a_run_that_ends_early_prints_why(tmp_path):
    run = Printed(tmp_path / "run", lambda: [StopAtReturn(1.0)], eval_episodes=1)
    run.episode("train", 1.0)
    run.episode("eval", 2.0)
    run.end()
    assert run.lines[-1] == "ended early: a round of evaluation had a mean return of 2, at least the 1 asked for"


def test_an_interrupted_run_draws_no_returns(tmp_path):
    run = Printed(tmp_path / "run", trials=3)
    run.episode("train", 1.0)
    run.episode("train", 2.0)
    run.interrupt()
    run.end()
    assert run.lines[-1] == "stopping once everything can be saved; Ctrl-C again stops at once"


def test_a_resumed_run_says_where_and_knows_its_past(tmp_path):
    run = Printed(tmp_path / "run")
    run.episode("train", 9.0)
    run.resume(run.save())
    run.episode("train", 1.0)
    assert run.lines[1] == "continuing at episode 1, step 0"
    assert "best     9.0" in run.lines[2]


def test_warnings_are_printed_as_they_are(tmp_path):
    run = Printed(tmp_path / "run")
    run.warn("damaged [/tmp/x] [source=1] :smile:")
    assert run.lines == ["warning: damaged [/tmp/x] [source=1] :smile:"]


def test_the_time_left_follows_the_pace_since_learning():
    """What was learned before anything was done does not count."""
    pace = Pace()
    assert pace.left(10.0, 0, 8) is None
    pace.learned(20.0, 0)
    pace.learned(50.0, 0)
    assert pace.left(51.0, 0, 8) is None
    assert pace.left(52.0, 0.5, 8) == 30
    pace.learned(90.0, 4)
    assert pace.left(90.0, 4, 8) == 40


def test_a_sparkline_spans_lowest_to_highest():
    assert sparkline([0.0, 50.0, 100.0]) in ("▁▄█", "▁▅█")
    assert len(set(sparkline([3.0, 3.0]))) == 1


@pytest.mark.long
def test_a_sparkline_of_many_values_is_one_of_their_means():
    row = sparkline([float(i) for i in range(5000)])
    assert len(row) == 80 and row[0] == "▁" and row[-1] == "█"
    assert list(row) == sorted(row)


# Within a real run.


@pytest.mark.long
def test_without_a_terminal_every_episode_is_one_plain_line(tmp_path, capsys):
    tiny_run(tmp_path / "run", quiet=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["random", "trial", "trial", "returns"]
    assert not any("\x1b" in line for line in lines)
    assert re.search(r"trial 2/2 .*return .* best .* ms/step .*model loss .* s$", lines[2])


@pytest.mark.long
def test_in_a_terminal_a_bar_shows_trial_step_return_and_pace(tmp_path, monkeypatch):
    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=True, width=140)
    monkeypatch.setattr("foretell.callbacks.console.plain_console", lambda: console)
    slower = {"planner": {"population": 60}, "train": {"capacity": 500}}
    foretell.train("pets/cartpole", out=tmp_path / "run", overrides=[TINY, slower])
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(r"train \d/2 .* step \d+  return -?[\d.]+  [\d.]+ ms/step", text)
    assert "trial 2/2" in text


@pytest.mark.slow
def test_environments_in_lock_step_show_a_time_left_within_their_first_round(tmp_path, capsys):
    tiny_run(tmp_path / "run", trials=4, environments=2, quiet=False)
    trials = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]
    assert [bool(re.search(r"~\d.* left$", line)) for line in trials] == [True, True, True, False]


@pytest.mark.long
@pytest.mark.parametrize("moment", [("learn_start", 1), ("step", 7)], ids=str)
def test_a_request_to_stop_is_answered_at_once(moment, tmp_path, capsys):
    """Learning, which may take minutes, ends before the run does."""
    with interrupted_at(*moment):
        tiny_run(tmp_path / "run", quiet=False)
    assert "stopping once everything can be saved" in capsys.readouterr().out
