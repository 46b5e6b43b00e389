"""Studies whose seeds are trained together, with runs that are written instead of trained."""

from threading import Event

import pytest
from stubs import plan

from foretell import seeds
from foretell.errors import UserError
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.executor import Ended, Started
from foretell.experiments.study import StudyFailed, run_study
from foretell.seeds import vectorised
from foretell.training.interrupt import Interrupted
from tiny import written_run


@pytest.fixture
def calls(monkeypatch):
    """The runs that were asked for, as (preset, seed); a seed in `calls.fails` fails."""

    class Calls(list):
        fails = ()

    def train(preset, seed, path, env, overrides, callbacks):
        made.append((preset, seed))
        if seed in made.fails:
            raise UserError("the gripper is jammed")
        if made.stop.is_set():
            raise Interrupted("episode 1, step 2", path)
        if not path.exists():
            written_run(path, preset, "train", [(5, 1.0), (10, 2.0), (15, 3.0)])

    made = Calls()
    made.stop = Event()
    monkeypatch.setattr(seeds, "_train", train)
    monkeypatch.setattr(seeds, "check_together", lambda settings: None)
    return made


@pytest.mark.long
def test_all_seeds_of_a_variant_are_trained_together(calls, tmp_path):
    """A seed that failed is tried again by the same command; finished ones are not."""
    calls.fails = [1]
    with pytest.raises(
        StudyFailed, match=r"2 runs failed, the first of them pets/default.*, seed 1: the gripper is jam"
    ):
        run_study(plan(), tmp_path / "study", executor=vectorised, quiet=True)
    assert calls == [("pets/default", 0), ("pets/default", 1), ("pets/default+ds", 0), ("pets/default+ds", 1)]
    calls.clear()
    calls.fails = []
    run_study(plan(), tmp_path / "study", executor=vectorised, quiet=True)
    assert calls == [("pets/default", 1), ("pets/default+ds", 1)]


@pytest.mark.long
def test_a_study_that_is_stopped_starts_no_further_variant(calls, tmp_path):
    calls.stop.set()
    stop, events = Event(), []
    for event in vectorised(StudyDirectory(tmp_path).members(plan()), stop, tick=0.01):
        stop.set()
        events += [] if event is None else [event]
    assert [type(event) for event in events] == [Started, Started, Ended, Ended]
    assert all(event.is_stopped for event in events[2:])


def test_what_fails_before_training_fails_every_seed(calls, tmp_path, monkeypatch):
    def refuse(settings):
        raise UserError("the true model cannot")

    monkeypatch.setattr(seeds, "check_together", refuse)
    with pytest.raises(
        StudyFailed, match="4 runs failed, the first of them pets/default, seed 0: the true model cannot"
    ):
        run_study(plan(), tmp_path / "study", executor=vectorised, quiet=True)
