"""Runs on Ray, on a cluster of two nodes: equal to those of one process, whatever is killed."""

import csv
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

import foretell
from foretell import Callback, Ray
from foretell.training.interrupt import Interrupted
from tiny import presses_at, results

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:os.fork"),  # of Ray's, which replaces what it has forked
    pytest.mark.skipif(sys.platform != "linux", reason="processes to kill are found in /proc"),
    pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed: pip install 'foretell[ray]'"),
]
RAGGED = "environments:tiny/Ragged-v0"
SMALL = {
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 700, "sync_policy_every": 4, "sync_model_every": 4},
    "train": {
        "steps": 72,
        "environments": 3,
        "steps_per_learning": 6,
        "random_steps": 18,
        "eval_episodes": 3,
        "eval_environments": 2,
        "eval_every": 24,
        "log_every": 12,
        "capacity": 500,
    },
}


@pytest.fixture(scope="module")
def nodes():
    """The address of a cluster of two nodes on this machine."""
    from ray.cluster_utils import Cluster as Nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        try:
            cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
            cluster.add_node(num_cpus=2)
        except Exception as error:  # of many types: no shared memory, no ports
            pytest.skip(f"Ray cannot start here: {error}")
        yield cluster.address
        cluster.shutdown()


def train(out, *changes, **more):
    overrides = [SMALL, *changes]
    return foretell.train("steve/default", out=out, env=RAGGED, overrides=overrides, quiet=True, seed=2, **more)


class Kills(Callback):
    """Kills a process of each kind, with SIGKILL, after so many environment steps."""

    def __init__(self, *moments):
        self._left, self.killed = list(moments), []

    def on_step(self, event):
        while self._left and event.counters.env_steps >= self._left[0][0]:
            _, kind, which = self._left.pop(0)
            pids = processes(kind)
            os.kill(pids[which % len(pids)], signal.SIGKILL)
            self.killed.append(kind)


def processes(kind):
    """The process numbers of Ray's workers of this class."""
    commands = ((path.parent, path.read_bytes()) for path in Path("/proc").glob("[0-9]*/cmdline"))
    return [int(folder.name) for folder, command in commands if command.startswith(f"ray::{kind}".encode())]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def undisturbed(nodes, tmp_path_factory):
    """A run with one process of each kind, of which none is killed; its policy lags behind by a call of `learn`."""
    return train(tmp_path_factory.mktemp("undisturbed") / "run", "train.lag=1", runtime=Ray(nodes)).directory


def test_a_run_equals_that_in_one_process_but_for_rounding(undisturbed, tmp_path):
    alone = train(tmp_path / "alone", "train.lag=1").directory
    for name, loose in (("episodes.csv", {"return"}), ("metrics.csv", None)):
        ours, theirs = rows(undisturbed / name), rows(alone / name)
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            for key, value in mine.items():
                if "seconds" in key or key == "compile_count":
                    continue
                if loose is None or key in loose:
                    assert float(value) == pytest.approx(float(other[key]), rel=1e-2, abs=1e-3), (name, key)
                else:
                    assert value == other[key], (name, key)


def test_the_time_of_a_run_is_that_of_steps_and_of_learning(undisturbed):
    table = rows(undisturbed / "metrics.csv")
    assert all(sum(float(row[name]) for row in table) > 0 for name in ("step_seconds", "fit_seconds"))
    assert all(float(row["plan_seconds"]) == 0 for row in table)  # actors choose and execute in one call


def test_a_run_ends_with_the_same_bytes_though_processes_of_every_kind_are_killed(nodes, undisturbed, tmp_path):
    kills = Kills((21, "InteractorProcess", 0), (30, "LearnerProcess", 0), (42, "InteractorProcess", 1),
                  (48, "LearnerProcess", 1), (54, "InteractorProcess", 2), (60, "InteractorProcess", 3))  # fmt: skip
    runtime = Ray(nodes, actors=2, evaluators=2)
    run = train(tmp_path / "run", "train.lag=1", runtime=runtime, callbacks=[kills])
    assert len(kills.killed) == 6
    assert results(run.directory) == results(undisturbed)
    table = rows(run.directory / "processes.csv")
    names = {"values learner", "model learner", "actor 0", "actor 1", "evaluator 0", "evaluator 1"}
    assert {row["process"] for row in table} == names
    learners = [row for row in table[-6:] if row["process"].endswith("learner")]
    assert [int(row["restarts"]) for row in learners] == [2, 2]  # of two kills, whichever of them was hit
    acting = [row for row in table if row["process"].startswith("actor")]
    assert max(int(row["age_max"]) for row in acting) >= 1
    (again,) = foretell.load(undisturbed, quiet=True).evaluate(1)
    assert foretell.load(run.directory, quiet=True).evaluate(1)[0] == again


@pytest.mark.slow
def test_a_run_is_stopped_and_goes_on_with_the_same_result(nodes, undisturbed, tmp_path):
    with pytest.raises(Interrupted, match="foretell resume"):
        train(tmp_path / "run", "train.lag=1", runtime=Ray(nodes), callbacks=[presses_at("step", 13)])
    run = foretell.resume(tmp_path / "run", runtime=Ray(nodes, actors=3), quiet=True)
    assert results(run.directory) == results(undisturbed)
    with pytest.raises(Interrupted, match="foretell resume"):
        train(tmp_path / "other", "train.lag=1", runtime=Ray(nodes), callbacks=[presses_at("step", 13)])
    rest = foretell.resume(tmp_path / "other", quiet=True)  # in this process
    assert [row["length"] for row in rest.episodes] == [row["length"] for row in run.episodes]


COMMAND = [sys.executable, "-m", "foretell"]


@pytest.mark.slow
def test_a_free_running_run_goes_on_after_its_processes_and_its_driver_are_killed(nodes, tmp_path):
    kills = Kills((24, "FreeInteractorProcess", 0), (34, "FreeLearnerProcess", 0), (44, "FreeLearnerProcess", 1))
    free = {"updates": {"pretraining": 10}, "train": {"free_running": True, "checkpoint_seconds": 0.5, "steps": 150}}
    run = train(tmp_path / "run", free, runtime=Ray(nodes, actors=2), callbacks=[kills])
    assert len(kills.killed) == 3
    table = rows(run.directory / "processes.csv")
    assert {row["process"] for row in table} >= {"values learner", "model learner", "actor 0", "actor 1"}
    episodes = run.episodes
    assert max(row["env_steps"] for row in episodes) <= 152
    assert len({row["episode"] for row in episodes}) == len(episodes)
    assert {row["kind"] for row in episodes} == {"random", "train", "eval"}
    assert sum(row["length"] for row in episodes if row["kind"] == "random") == 18
    assert any(float(row["critic_loss"]) > 0 for row in rows(run.directory / "metrics.csv"))
    assert len(run.evaluate(2)) == 2
    extended = [*COMMAND, "resume", str(run.directory), "--runtime", "ray", "--address", nodes, "--set"]
    driver = subprocess.Popen([*extended, "train.steps=100000"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(rows(run.directory / "episodes.csv")) < len(episodes) + 5 and time.monotonic() < deadline:
        assert driver.poll() is None, driver.stderr.read()
        time.sleep(0.2)
    driver.kill()
    driver.wait()
    saved = foretell.load(run.directory, quiet=True)
    steps = max(row["env_steps"] for row in saved.episodes)
    again = foretell.resume(run.directory, overrides={"train.steps": steps + 30}, runtime=Ray(nodes), quiet=True)
    assert max(row["env_steps"] for row in again.episodes) >= steps
    assert len({row["episode"] for row in again.episodes}) == len(again.episodes)
