"""A sweep from its file to its ranking, with runs that are written instead of trained."""

import csv
from functools import partial
from importlib.util import find_spec

import pytest
import yaml
from stubs import write_run

from foretell import UserError
from foretell.cli import main
from foretell.experiments import study as module
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.executor import Ended, run_locally
from foretell.experiments.search import next_values
from foretell.experiments.study import StudyFailed
from foretell.experiments.sweep import open_sweep, run_sweep
from foretell.experiments.sweep_file import Experiment, Search
from tiny import LINE

HORIZON = {"preset": "pets/default", "vary": {"planner.horizon": [2, 3, 4]}}
SWEEP = {"set": {"task.env": LINE}, "experiments": {"pets": HORIZON}}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr("foretell.experiments.summary.draw_panels", lambda *_: None)
    monkeypatch.setattr("foretell.experiments.ranking.draw_scores", lambda *_: None)


class Trains:
    """Stands in for the processes: a run's returns are its horizon; some fail."""

    def __init__(self, fails=()):
        self.fails, self.ran = fails, []

    def __call__(self, member, cores, stop):
        horizon = member.arm.settings.planner.horizon
        self.ran.append((horizon, member.seed))
        if horizon in self.fails:
            return Ended(member, 1, "ValueError: it diverged")
        write_run(member, [horizon, horizon + member.seed])
        return Ended(member, 0)

    @property
    def executor(self):
        return partial(run_locally, slots=[(0,)], run=self, tick=0.01)


def written(path, **change):
    path.write_text(yaml.safe_dump({**SWEEP, **change}))
    return open_sweep(path)


def run(folder, trains, **change):
    run_sweep(written(folder / "sweep.yaml", **change), folder / "out", quiet=True, executor=trains.executor)
    with (folder / "out" / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_trials_are_ranked_and_the_same_sweep_goes_on(tmp_path):
    trains = Trains(fails=[3])
    with pytest.raises(StudyFailed, match="1 run failed"):
        run(tmp_path, trains)
    assert trains.ran == [(2, 0), (3, 0), (4, 0)]
    again = Trains()
    rows = run(tmp_path, again, seeds=2)
    assert again.ran == [(3, 0), (2, 1), (3, 1), (4, 1)]
    assert [(row["trial"], row["final"], row["planner.horizon"]) for row in rows] == [
        ("2 horizon=4", "4.25", "4"), ("1 horizon=3", "3.25", "3"), ("0 horizon=2", "2.25", "2"),
    ]  # fmt: skip
    assert "| pets | 2 horizon=4 | 4.25 | 4 |" in (tmp_path / "out" / "trials.md").read_text()
    wider = {"pets": {**HORIZON, "vary": {"planner.horizon": [2, 3, 4, 6]}}}
    more = Trains()
    assert len(run(tmp_path, more, seeds=2, experiments=wider)) == 4 and more.ran == [(6, 0), (6, 1)]


def test_another_sweep_in_its_directory_is_refused(tmp_path):
    run(tmp_path, Trains())
    for vary, said in (
        ({"planner.horizon": [2, 4]}, "it has planner.horizon=3 in 'pets'"),
        ({"planner.population": [9]}, "it varies planner.horizon in 'pets'"),
    ):
        with pytest.raises(UserError, match=f"holds another sweep: {said}; choose another --out"):
            run(tmp_path, Trains(), experiments={"pets": {**HORIZON, "vary": vary}})
    with pytest.raises(UserError, match="it also has the experiment 'pets'"):
        run(tmp_path, Trains(), experiments={"other": HORIZON})


def test_several_experiments_have_separate_trials_and_labels(tmp_path):
    second = {"preset": "pets/default", "vary": {"planner.horizon": {"integers": [7, 9]}}}
    sweep = {"experiments": {"a": HORIZON, "b": second}, "search": {"method": "random", "samples": 2}}
    rows = run(tmp_path, Trains(), **sweep)
    assert [row["experiment"] for row in rows] == ["a", "a", "b", "b"]
    assert {row["trial"].split()[0] for row in rows} == {"a", "b"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vary": {"planer.horizon": [2]}}, "no setting 'planer'; did you mean 'planner'"),
        ({"vary": {"planner.horizn": [2]}}, "no setting 'planner.horizn'.*; did you mean 'planner.horizon'"),
        ({"vary": {"planner.horizon": [-2]}}, "planner.horizon=-2: input should be greater than"),
        ({"preset": "pets/defalt"}, "experiment 'pets': no preset 'pets/defalt'; did you mean 'pets/default'"),
        ({"derive": {"planner.elites": "planner.horizn + 1"}}, "no setting 'planner.horizn' to compute it from; did"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_written(change, said, tmp_path):
    with pytest.raises(UserError, match=said):
        run(tmp_path, Trains(), experiments={"pets": {**HORIZON, **change}})
    assert not (tmp_path / "out").exists()


def test_the_command_runs_plans_and_refuses(tmp_path, monkeypatch, capsys, refused):
    monkeypatch.setattr(module, "run_locally", partial(run_locally, run=Trains(), tick=0.01))
    path = tmp_path / "sweep.yaml"
    written(path)
    words = ["sweep", str(path), "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 0
    assert "3 trials, 1 seed each" in capsys.readouterr().out and not (tmp_path / "out").exists()
    assert main(words) == 0 and "trials.md" in capsys.readouterr().out
    assert refused(*words, "--gpus", 0.5) == "--gpus is for runs on Ray; add --ray"
    assert refused(*words, "--ray", "--jobs", 2).startswith("--jobs is for runs without Ray")
    assert refused(*words, "--ray", "--cpus", -1) == "--cpus must be a number above 0, not -1"
    path.write_text(yaml.safe_dump({**SWEEP, "stop": {"rule": "asha", "after": 10}}))
    assert refused(*words) == "stop.rule asha needs Ray: add --ray, or leave out stop"


@pytest.mark.skipif(not find_spec("optuna"), reason="Optuna is not installed: pip install 'foretell[ray]'")
@pytest.mark.long
def test_optuna_comes_closer_than_it_began():
    experiment = Experiment(
        preset="x", vary={"a": {"range": (0.0, 1.0)}, "b": [[1], [2, 2]], "c": {"integers": (1, 9)}}
    )
    search, known, scores = Search(method="tpe", samples=40, batch=4), [], []
    while batch := next_values(experiment, search, known, scores):
        assert batch == next_values(experiment, search, known, scores) and len(batch) == 4
        known += batch
        scores = [-((one["a"] - 0.3) ** 2) - 0.1 * abs(one["c"] - 4) - (len(one["b"]) == 1) for one in known]
    assert len(known) == 40 and sum(scores[-12:]) > sum(scores[:12])
    assert all(experiment.vary[path].holds(value) for one in known for path, value in one.items())


@pytest.mark.long
def test_a_failed_trial_has_no_score_and_a_later_one_is_still_suggested(tmp_path):
    if not find_spec("optuna"):
        pytest.skip("Optuna is not installed: pip install 'foretell[ray]'")
    trains = Trains(fails=[2])
    with pytest.raises(StudyFailed):
        run(tmp_path, trains, search={"method": "tpe", "samples": 5, "batch": 2})
    assert len(StudyDirectory(tmp_path / "out").finished.read_text().splitlines()) >= 3 and len(trains.ran) >= 5
