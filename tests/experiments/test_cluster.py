"""Runs on Ray: a sweep on two nodes goes on when one is killed, and results are those of a single run."""

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from threading import Event, Thread
from typing import Any, NamedTuple

import pytest
from stubs import SETS, plan

from foretell import UserError
from foretell.experiments.cluster import Cluster, run_on_ray, scheduler_of
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.sweep_file import Stop
from foretell.experiments.trial import points
from tiny import LINE, results, tiny_run

needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed: pip install 'foretell[ray]'")
TRIALS = 6


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of two nodes on this machine, each for one run at a time."""
    from ray.cluster_utils import Cluster as Nodes

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster, cluster.add_node(num_cpus=1)
    cluster.shutdown()


def members(folder, trials, seeds=2):
    asked = plan("pets/default", seeds=seeds, sets=[f"train.trials={trials}", "train.capacity=300"])
    return StudyDirectory(folder).members(asked)


@needs_ray
@pytest.mark.slow
def test_a_node_is_killed_and_every_run_ends_as_if_nothing_had_happened(nodes, tmp_path):
    cluster, second = nodes
    runs = members(tmp_path / "study", TRIALS)

    def kill():
        while not all(len(list(points(one.path / "episodes.csv"))) >= 2 for one in runs):
            time.sleep(0.1)
        cluster.remove_node(second, allow_graceful=False)

    Thread(target=kill, daemon=True).start()
    words = ["study", "pets/default", "--env", LINE, "--seeds", "2", "--ray", cluster.address]
    words += ["--out", str(tmp_path / "study"), "--set", *SETS, f"train.trials={TRIALS}", "train.capacity=300"]
    done = subprocess.run([sys.executable, "-m", "foretell", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "started again" in done.stdout and "(2 of 2 runs)" in done.stdout
    for one in runs:
        alone = tmp_path / "alone" / str(one.seed)
        tiny_run(alone, seed=one.seed, trials=TRIALS, capacity=300)
        assert results(one.path) == results(alone)


def test_points_are_those_of_evaluations_or_of_trials(tmp_path):
    table = tmp_path / "episodes.csv"
    assert list(points(table)) == []
    head = "episode,env_steps,kind,return,length,wall_seconds\n"
    table.write_text(f"{head}0,5,random,-9,5,1\n1,10,train,1,5,1\n2,15,train,2,5,1\n3,20,tr")
    assert list(points(table)) == [(10, 1.0), (15, 2.0)]
    table.write_text(f"{head}1,10,train,1,5,1\n2,10,eval,4,5,1\n3,10,eval,6,5,1\n4,20,eval,8,5,1\n")
    assert list(points(table)) == [(10, 5.0), (20, 8.0)]


class OfTune(NamedTuple):
    """What the rules read of a trial of Tune."""

    config: Any
    trial_id: str

    def __hash__(self):
        return hash(self.trial_id)


@needs_ray
@pytest.mark.long
def test_a_rule_compares_runs_of_one_environment_alone():
    jobs = [{"group": "a"}] * 4 + [{"group": "b"}]
    scheduler = scheduler_of(Stop(rule="median", after=10, runs=3), jobs)
    trials = [OfTune({"number": i}, str(i)) for i in range(5)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    decisions = [
        scheduler.on_trial_result(None, trial, {"steps": 10, "return": value})
        for trial, value in zip(trials, [5.0, 6.0, 7.0, 1.0, -99.0], strict=True)
    ]
    assert decisions == ["CONTINUE"] * 3 + ["STOP", "CONTINUE"]


@pytest.mark.skipif(bool(find_spec("ray")), reason="Ray is installed")
def test_without_ray_the_option_says_what_to_install(tmp_path):
    with pytest.raises(UserError, match=r"pip install 'foretell\[ray\]'"):
        list(run_on_ray(members(tmp_path, 1, 1), Event(), cluster=Cluster()))
