"""A study from plan to summary, with runs that are written instead of trained."""

import csv
import io
from inspect import unwrap

import pytest
import rich.console
import yaml
from stubs import Runner, files, plan, write_run

from foretell import UserError
from foretell.experiments import study as module
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.executor import Ended
from foretell.experiments.progress import Status, time_left
from foretell.experiments.study import StudyFailed, StudyStopped, run_study
from foretell.experiments.summary import summarise

ALL = [("pets/default", 0), ("pets/default+ds", 0), ("pets/default", 1), ("pets/default+ds", 1)]


@pytest.fixture
def drawn():
    """A test whose figures are drawn."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Draw no figure in any other test."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("foretell.experiments.summary.draw_panels", lambda *_: None)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(folder, runner=None, asked=None, **options):
    runner = runner or Runner()
    run_study(asked or plan(), folder, executor=runner.executor, **{"quiet": True, **options})
    return runner.ran


@pytest.mark.long
def test_every_variant_runs_with_every_seed_and_is_summarised(tmp_path, capsys, drawn):
    assert run(tmp_path, quiet=False, asked=plan(goal=1.5)) == ALL
    out = capsys.readouterr().out
    assert "started       pets/default, seed 0 on core 0" in out and "(4 of 4 runs)" in out
    assert "finished      pets/default+ds, seed 1  last return 2.0  8 s" in out
    runs, summary = rows(tmp_path / "runs.csv"), rows(tmp_path / "summary.csv")
    assert [(row["variant"], row["seed"]) for row in runs] == sorted((label, str(seed)) for label, seed in ALL)
    assert [row["best"] for row in runs] == ["1.0", "2.0"] * 2 and [row["passed"] for row in runs] == ["", "15"] * 2
    assert [row["final_iqm"] for row in summary] == ["1.0", "1.0"]  # the mean of 0.5 and 1.5
    assert summary[0]["passed"] == "1" and summary[0]["passed_at_iqm"] == "" and summary[0]["steps"] == "15"
    page = (tmp_path / "summary.md").read_text()
    assert (
        "4 of 4 runs are finished" in page and "| pets/default | 2 | 1 [0.5, 1.5] |" in page and "1 of 2 runs" in page
    )
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_a_finished_run_is_not_run_again_unless_it_is_removed(tmp_path):
    run(tmp_path)
    assert run(tmp_path) == []
    (tmp_path / "pets-default" / "1" / "config.yaml").unlink()
    assert run(tmp_path) == [("pets/default", 1)]


@pytest.mark.long
def test_more_seeds_extend_a_study_and_leave_its_runs_alone(tmp_path):
    run(tmp_path, asked=plan(seeds=1))
    before = files(tmp_path / "pets-default" / "0")
    assert run(tmp_path) == ALL[2:]
    assert files(tmp_path / "pets-default" / "0") == before
    assert yaml.safe_load((tmp_path / "study.yaml").read_text())["seeds"] == 2


@pytest.mark.long
def test_a_failure_leaves_the_other_runs_alone_and_is_tried_again(tmp_path, capsys):
    with pytest.raises(
        StudyFailed, match=r"^1 run failed, the first of them pets/default\+ds, seed 0: ValueError: it div"
    ):
        run(tmp_path, Runner(fails=[("pets/default+ds", 0)]), quiet=False)
    assert "failed        pets/default+ds, seed 0: ValueError: it diverged" in capsys.readouterr().out
    assert "3 of 4 runs are finished" in (tmp_path / "summary.md").read_text()
    assert run(tmp_path) == [("pets/default+ds", 0)]


@pytest.mark.long
def test_ctrl_c_stops_all_runs_and_the_same_call_goes_on(tmp_path):
    stopped = Runner(interrupts_at=2)
    with pytest.raises(StudyStopped, match="stopped and saved"):
        run(tmp_path / "stopped", stopped)
    assert stopped.ran == ALL[:2]
    assert run(tmp_path / "stopped") == ALL[1:]
    run(tmp_path / "undisturbed")
    names = ("runs.csv", "summary.csv", "summary.md", "finished.csv")
    assert all(
        (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes() for name in names
    )


@pytest.mark.long
def test_a_study_ends_in_a_terminal(tmp_path, terminal):
    with terminal() as shown:
        assert run(tmp_path, quiet=False) == ALL
    assert "(4 of 4 runs)" in "".join(shown)


@pytest.mark.long
def test_the_table_in_a_terminal(tmp_path, monkeypatch):
    screen = rich.console.Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(module, "console", lambda *, quiet: screen)
    with pytest.raises(StudyFailed):
        run(tmp_path, Runner(fails=[("pets/default", 1)]))
    last = screen.file.getvalue().rpartition("study  (")[2]
    assert last.startswith("3 of 4 runs") and "started" not in last
    assert [line.split() for line in last.splitlines()[2:4]] == [
        ["pets/default", "1/2", "1.0", "seed", "1", "failed:", "ValueError:", "it", "diverged"],
        ["pets/default+ds", "2/2", "1.5"],
    ]


@pytest.mark.long
def test_steps_of_earlier_stages_count(tmp_path):
    """The stage was trained elsewhere, and the study was moved: it lies beside the run."""
    found = plan("pets/default", seeds=1)
    member = StudyDirectory(tmp_path).members(found)[0]
    write_run(member)
    stage = member._replace(path=member.path.with_name("0-stage"))
    write_run(stage, [1.0] * 20)
    settings = member.arm.settings
    changed = settings.model_copy(update={"train": settings.train.model_copy(update={"pretrained": "old/0-stage"})})
    write_run(member._replace(arm=member.arm._replace(settings=changed)))
    assert summarise(StudyDirectory(tmp_path), found).results[0].curve.steps.tolist() == [115, 120]


@pytest.mark.long
def test_time_left_by_the_pace_of_each_variant(tmp_path):
    found = plan()
    first, second = found.arms

    def status(arm, state, share, seconds):
        member = StudyDirectory(tmp_path).members(found)[0]
        return Status(member._replace(arm=arm), state, share, seconds)

    assert time_left([status(first, "waiting", 0.0, 0.0)], 1) is None
    done = status(first, "finished", 1.0, 10.0)
    assert time_left([done, status(first, "running", 0.5, 5.0)], 2) == 5.0
    assert time_left([done, status(second, "waiting", 0.0, 0.0), status(first, "waiting", 0.0, 0.0)], 2) == 10.0
    assert time_left([done], 1) == 0.0


def refusal(folder, asked):
    with pytest.raises(UserError) as error:
        run(folder, asked=asked)
    return str(error.value)


@pytest.mark.long
def test_another_study_in_the_same_place_is_refused_and_nothing_is_changed(tmp_path):
    run(tmp_path)
    before, end = files(tmp_path), "; choose another --out"
    start = f"'{tmp_path}' holds another study: "
    assert refusal(tmp_path, plan(seeds=1)) == f"{start}it has 2 seeds, not 1{end}"
    assert refusal(tmp_path, plan("pets/default")) == f"{start}it also has the variant 'pets/default+ds'{end}"
    more = plan("pets/default", "pets/default+ds", "pets/default+tsinf")
    assert refusal(tmp_path, more) == f"{start}it has no variant 'pets/default+tsinf'{end}"
    other = refusal(tmp_path, plan(sets=["planner.population=7"]))
    assert other == f"{start}it has planner.population=6 in 'pets/default', not 7{end}"
    assert files(tmp_path) == before


@pytest.mark.long
def test_what_lies_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file", plan()) == f"'{tmp_path / 'file'}' is a file; choose another --out"
    assert "is not empty and is not the directory of a study" in refusal(tmp_path, plan())
    run(tmp_path / "study")
    inside = tmp_path / "study" / "pets-default" / "0"
    assert f"'{inside}' is a run directory, not the directory of a study" in refusal(inside, plan())
    (tmp_path / "study" / "study.yaml").write_text("seeds: 2\n")
    assert "is damaged: 'variants' is missing" in refusal(tmp_path / "study", plan())


@pytest.mark.long
def test_two_processes_do_not_run_one_study(tmp_path):
    run(tmp_path)
    with StudyDirectory(tmp_path).lock():
        assert refusal(tmp_path, plan()) == f"another process is running the study in '{tmp_path}'"


def fails_at_once(members, stop):
    raise KeyError("no machine")


def fails_later(members, stop):
    yield Ended(members[0], 1, "it diverged")
    raise OSError("connection lost")


@pytest.mark.long
@pytest.mark.parametrize(
    ("executor", "reason"),
    [
        (fails_at_once, "KeyError: 'no machine', at .*test_study.py, line"),
        (fails_later, "OSError: connection lost, at .*test_study.py, line"),
        (len, "TypeError: len.. takes exactly one argument"),
        (lambda: None, "TypeError: .*takes 0 positional arguments"),
    ],
)
def test_an_executor_that_fails_is_one_sentence(executor, reason, tmp_path):
    with pytest.raises(UserError, match=rf"^the executor failed \({reason}"):
        unwrap(run_study)(plan(), tmp_path, executor=executor, quiet=True)
    assert run(tmp_path) == ALL  # the same study goes on
