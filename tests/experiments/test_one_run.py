"""One run of a study in this process, as a job of a cluster calls it; other jobs call others of the same study."""

import pytest
from filelock import FileLock
from stubs import files, plan, write_run

from foretell import UserError
from foretell.experiments import study as module
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.study import run_of_study


@pytest.fixture(scope="module")
def asked():
    """The plan, which takes longer to make than all else."""
    return plan()


class Trains:
    """Stands in for `foretell train` and `foretell resume`: writes the run that it is asked for, or fails."""

    def __init__(self, asked, folder, code=0):
        self.members, self.code, self.asked = StudyDirectory(folder).members(asked), code, []

    def __call__(self, words):
        self.asked.append(words)
        (member,) = (each for each in self.members if str(each.path) in words)
        write_run(member)
        return self.code


def finished(asked, folder):
    directory = StudyDirectory(folder)
    return [directory.is_finished(member) for member in directory.members(asked)]


@pytest.mark.parametrize("number", [0, 3])
def test_the_run_of_a_number_is_trained_and_noted(number, asked, tmp_path):
    trains = Trains(asked, tmp_path)
    assert run_of_study(asked, tmp_path, number, trains) == 0
    assert [words[0] for words in trains.asked] == ["train"]
    assert finished(asked, tmp_path) == [each == number for each in range(4)]
    assert run_of_study(asked, tmp_path, number, trains) == 0 and len(trains.asked) == 1


def test_a_run_that_fails_is_resumed_by_the_same_call(asked, tmp_path):
    assert run_of_study(asked, tmp_path, 1, Trains(asked, tmp_path, code=1)) == 1 and not any(finished(asked, tmp_path))
    again = Trains(asked, tmp_path)
    assert run_of_study(asked, tmp_path, 1, again) == 0 and again.asked[0][0] == "resume"
    assert finished(asked, tmp_path) == [False, True, False, False]


@pytest.mark.parametrize("number", [-1, 4, 2**31])
def test_a_number_that_no_run_has_is_refused_before_anything_is_written(number, asked, tmp_path):
    trains = Trains(asked, tmp_path)
    with pytest.raises(UserError, match=rf"^run must be .*, not {number}$"):
        run_of_study(asked, tmp_path, number, trains)
    assert files(tmp_path) == {} and trains.asked == []


def test_a_directory_of_another_study_is_refused_and_nothing_is_trained(asked, tmp_path):
    run_of_study(asked, tmp_path, 0, Trains(asked, tmp_path))
    before, trains = files(tmp_path), Trains(asked, tmp_path)
    with pytest.raises(UserError, match=r"holds another study: it has planner.population=6"):
        run_of_study(plan(sets=["planner.population=7"]), tmp_path, 1, trains)
    assert files(tmp_path) == before and trains.asked == []


def test_a_study_that_another_process_keeps_locked_is_refused(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.0)
    trains = Trains(asked, tmp_path)
    with (
        FileLock(tmp_path / ".lock", is_singleton=False),
        pytest.raises(UserError, match=r"^another process is running the study in "),
    ):
        run_of_study(asked, tmp_path, 0, trains)
    assert trains.asked == []
