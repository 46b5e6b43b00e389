"""Runs on Ray: a sweep on two nodes goes on when one is killed, and results are those of a single run."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from threading import Event, Thread
from typing import Any, NamedTuple

import pytest
import yaml
from filelock import FileLock, Timeout
from stubs import SETS, plan

from foretell import UserError
from foretell.experiments.cluster import Cluster, run_on_ray, scheduler_of
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.sweep_file import Stop
from foretell.experiments.trial import points
from tiny import LINE, results, tiny_run

pytestmark = pytest.mark.filterwarnings("ignore:os.fork")  # of JAX; the fork is replaced by another program
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
@pytest.mark.parametrize("stored", [False, True])
def test_a_node_is_killed_and_every_run_ends_as_if_nothing_had_happened(nodes, tmp_path, stored):
    cluster, second = nodes
    runs = members(tmp_path / "study", TRIALS)

    def kill():
        while not all(len(list(points(one.path / "episodes.csv"))) >= 3 for one in runs):
            time.sleep(0.1)
        cluster.remove_node(second, allow_graceful=False)
        for one in runs if stored else []:  # what the node had on its disk is gone
            with suppress(Timeout), FileLock(one.path / ".lock", timeout=1):
                shutil.rmtree(one.path)

    Thread(target=kill, daemon=True).start()
    words = ["study", "pets/default", "--env", LINE, "--seeds", "2", "--ray", cluster.address]
    words += ["--store", f"{tmp_path}/store"] if stored else []
    words += ["--out", str(tmp_path / "study"), "--set", *SETS, f"train.trials={TRIALS}", "train.capacity=300"]
    done = subprocess.run([sys.executable, "-m", "foretell", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started") == 3 and "(2 of 2 runs)" in done.stdout
    assert any("continuing at" in one.log.read_text() for one in runs)
    for one in runs:
        alone = tmp_path / "alone" / str(one.seed)
        tiny_run(alone, seed=one.seed, trials=TRIALS, capacity=300)
        assert results(one.path) == results(alone)


@needs_ray
@pytest.mark.long
def test_a_sweep_on_two_nodes_is_kept_in_a_store_and_continued_elsewhere(nodes, tmp_path):
    cluster, _ = nodes
    settings = {key: yaml.safe_load(value) for key, value in (text.split("=", 1) for text in SETS)}
    settings |= {"task.env": LINE, "train.trials": 2, "train.capacity": 300}

    def run(out, horizons):
        experiment = {"preset": "pets/default", "vary": {"planner.horizon": horizons}}
        sweep = {"seeds": 1, "set": settings, "experiments": {"pets": experiment}}
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
        words = ["sweep", str(tmp_path / "sweep.yaml"), "--ray", cluster.address, "--store", f"{tmp_path}/store"]
        command = [sys.executable, "-m", "foretell", *words, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return {path.parent.name: path for path in out.glob("*/0")}

    here = run(tmp_path / "here", [2, 3])
    there = run(tmp_path / "there", [2, 3, 4])
    assert len(there) == 3 > len(here) == 2
    for name, run in here.items():  # the times are equal too, so none was trained again
        assert (there[name] / "episodes.csv").read_bytes() == (run / "episodes.csv").read_bytes()
    kept = {path.name for path in (tmp_path / "store").iterdir()}
    assert {*there, "logs", "study.yaml", "trials.yaml", "trials.csv", "summary.md"} <= kept and ".tune" not in kept


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
