"""`benchmarks/scale.py`: rates from watched runs, costs, the model of growth, and what is stored."""

import importlib
import json
import os
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from foretell.envs.simulators import Simulators, begin_episode, take_step
from foretell.envs.workers import make_simulators
from foretell.errors import UserError
from foretell.tasks import TaskSettings, make_task
from tiny import benchmark

HEAD = "learn,env_steps,gradient_steps\n"


@pytest.fixture(scope="module", autouse=True)
def on_path():
    """Benchmarks stay importable, for the processes that are sent their classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield


@pytest.fixture
def watched(tmp_path):
    """A watch of two runs, whose rows came at 1, 2, 4 and at 2, 3, 5 seconds."""
    watching, runs = benchmark("scaling.watching"), [tmp_path / "a", tmp_path / "b"]
    watch = watching.Watch(runs)
    for run, times in zip(runs, ((1.0, 2.0, 4.0), (2.0, 3.0, 5.0)), strict=True):
        run.mkdir()
        (run / "metrics.csv").write_text(HEAD + "1,100,20\n3,200,50\n5,400,100\n")
        watch.noted[run] = [(at, 2.0 * at) for at in times]
    return watching, watch


def test_rates_are_those_while_all_runs_are_trained(watched):
    watching, watch = watched
    counted = {run: watching.steps_and_updates(run) for run in watch.runs}
    assert counted[watch.runs[0]][1].tolist() == [20, 120, 320]  # calls times updates of a call
    steps, updates = ({run: pair[i] for run, pair in counted.items()} for i in (0, 1))
    found = watch.rates(steps=steps, updates=updates)  # from 3 to 4 seconds: half of a row in each run
    assert watch.start == 3.0
    assert found == {"steps/s": 200.0, "updates/s": 200.0, "updates/CPU s": 100.0}


def test_runs_that_followed_each_other_have_no_common_rate(watched):
    watching, watch = watched
    watch.noted[watch.runs[1]] = [(10.0 + at, at) for at, _ in watch.noted[watch.runs[1]]]
    steps = {run: watching.steps_and_updates(run)[0] for run in watch.runs}
    assert watch.rates(steps=steps, updates=steps) == {"steps/s": None, "updates/s": None, "updates/CPU s": None}


def test_a_watch_notes_when_rows_come(tmp_path):
    run = tmp_path / "run"
    with benchmark("scaling.watching").Watch([run], tick=0.01) as watch:
        run.mkdir()
        for rows in range(3):
            (run / "metrics.csv").write_text(HEAD + "1,1,1\n" * rows + "2")  # the last line is not whole yet
            time.sleep(0.1)
    assert len(watch.noted[run]) == 2
    assert 0.05 < watch.noted[run][1][0] - watch.noted[run][0][0] < 5 and watch.seconds > 0.2


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_processor_time_is_that_of_all_descendants():
    spent = benchmark("scaling.watching").processor_seconds
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    before = spent(os.getpid())
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert spent(os.getpid()) - before > 0.45


def test_overhead_is_what_slots_are_busy_with_beside_processes():
    costs = benchmark("scaling.overhead").costs
    assert costs([1.0, 3.5], [3.0, 6.0], [2.0, 2.0], 1) == {
        "start s": 1.0, "apart s": None, "process s": 2.0, "overhead s": 0.5,
    }  # fmt: skip
    assert costs([1.0, 1.5], [3.0, 4.0], [2.0, 2.0], 2)["apart s"] == 0.5


def test_costs_of_processes_are_busy_time_for_what_was_done():
    head = {"process": "actor 0", "seconds": "1", "done": "50", "per_second": "10", "busy": "1"}
    rows = [{**head, "process": name, "seconds": at} for at in "123" for name in ("actor 0", "values learner")]
    rows[-2] |= {"done": "20", "per_second": "10", "busy": "0.5"}  # 1 of 2 seconds for 20 steps
    rows[-1] |= {"done": "0"}
    rows.append({**head, "process": "values learner", "seconds": "4", "done": "10", "per_second": "5", "busy": "1"})
    assert benchmark("scaling.spread").costs(rows) == {"actor s/step": 0.05, "learner s/update": 0.2}


def test_what_is_sent_is_measured_in_bytes():
    rows = benchmark("scaling.spread").sent("ddpg/default", "Pendulum-v1", ["learner.hidden=[8]"])
    found = {row["what"]: row["bytes"] for row in rows}
    assert 200 < found["policy"] < 5000 and 16 * 30 < found["16 steps"] < found["block with them"] < 50_000


@pytest.fixture
def known():
    return benchmark("scaling.growth").Constants(
        slots=2, ray_start=10.0, apart=0.5, overhead=1.0, run=5.0, act=0.01, update=0.02, policy_bytes=1_000_000,
        block_bytes=16_000, block_steps=16, worker_call=0.001,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "slots", "apart", "expected"), [(1, 1, 0.5, 4), (4, 2, 0.0, 8), (5, 2, 0.0, 12), (100, 100, 0.5, 53.5)]
)
def test_runs_take_the_next_free_slot_one_start_after_the_other(runs, slots, apart, expected):
    assert benchmark("scaling.growth").makespan(runs, slots, 4.0, apart) == pytest.approx(expected)


def test_many_runs_take_the_start_of_ray_and_their_overhead(known):
    row = benchmark("scaling.growth").many_runs(known._replace(apart=0.0), 10, 100, 4.0)  # 5 rounds of 20 runs
    assert row["total s"] == 10 + 5 * 5 and row["share of ideal"] == pytest.approx(20 / 35)


def test_one_run_is_limited_by_acting_and_then_by_learning(known):
    one_run = benchmark("scaling.growth").one_run
    few, many = (one_run(known, actors, 0.1, 2.0) for actors in (1, 100))
    assert few["steps/s"] == pytest.approx(100) and few["limited by"] == "acting"
    assert few["MB/s"] == pytest.approx(2 + 0.1)  # two policies, and 100 steps of 1,000 bytes
    assert many["steps/s"] == pytest.approx(500) and many["limited by"] == "learning"
    assert many["MB/s"] == pytest.approx(200 + 0.5)


def test_workers_lose_the_time_of_their_calls(known):
    with_workers = benchmark("scaling.growth").with_workers
    assert with_workers(known, 4, 0.005, 8)["share of ideal"] == pytest.approx(10 / 14)


def stored(kind):
    """Tables of a kind of row, as if measured."""
    on_ray = {"way": "Ray", "cores": 2, "start s": 9.0, "process s": 5.0, "overhead s": 1.5, "apart s": None}
    free = {"case": "free", "steps/s": 1.0, "actor s/step": 0.01, "learner s/update": 0.02}
    sent = {"policy": 100, "16 steps": 50, "block with them": 60}
    seeds = [{"seeds": 8, "way": way, "steps/s": rate, "updates/s": 20.0} for way, rate in (("Ray", 10.0), ("x", None))]
    return {
        "seeds": {"seeds": [{**seeds[0], "seeds": 1}, *seeds]},
        "overhead": {"overhead": [{**on_ray, "at a time": 1}, {**on_ray, "at a time": 4, "apart s": 0.2}]},
        "async": {"async": [{"case": "one", "steps/s": 1234.5}, free], "sent": [
            {"what": name, "bytes": value} for name, value in sent.items()]},
        "workers": {"workers": [{"call s": None}, {"call s": 0.001}], "evaluation": []},
    }[kind]  # fmt: skip


@pytest.fixture
def scale(monkeypatch):
    scale, machine = benchmark("scale"), {"cores": 2, "matmul": 1e11, "memory": 1e10, "jax": "jax"}
    modelled = scale.kinds
    monkeypatch.setattr(scale, "measured", lambda: machine)
    kinds = {kind: partial(stored, kind) for kind in ("seeds", "overhead", "async", "workers")}
    monkeypatch.setattr(scale, "kinds", lambda args: {**kinds, "model": modelled(args)["model"]})
    return scale


def test_rows_are_stored_and_the_model_takes_its_constants_from_them(scale, tmp_path, capsys):
    out = ["--out", str(tmp_path / "scale")]
    with pytest.raises(UserError, match="--rows seeds overhead async workers model"):
        scale.main(["--rows", "model", *out])
    scale.main(["--rows", "seeds", "overhead", "async", *out])
    scale.main(["--rows", "workers", "model", *out])
    records = json.loads((tmp_path / "scale.json").read_text())["rows"]
    assert list(records) == ["seeds", "overhead", "async", "workers", "model"]
    constants = {row["constant of the model"]: row["value"] for row in records["model"]["tables"]["constants"]}
    assert constants["apart"] == 0.2 and constants["overhead"] == 1.5 and constants["policy_bytes"] == 100
    largest = records["model"]["tables"]["many runs on Ray"][-1]
    assert (largest["nodes"], largest["runs"]) == (100, 1000)
    seeds = records["model"]["tables"]["seeds on nodes"]
    assert len(seeds) == 6 and seeds[2] == {"nodes": 10, "way": "Ray", "seeds": 80, "steps/s": 100, "updates/s": 200}
    text = (tmp_path / "scale.table.md").read_text()
    assert "2 cores, matrix multiply 100 GFLOP/s" in text and "| one | 1,234 | - | - |" in text
    assert "many runs on Ray" in capsys.readouterr().out


@pytest.mark.long
def test_threads_and_processes_return_the_same_as_one_after_the_other():
    workers = importlib.import_module("scaling.workers")
    task, found = make_task(TaskSettings(env="Sleeps-v0")), []
    for make in (Simulators, partial(workers.Threads, workers=2), partial(make_simulators, workers=2)):
        with closing(make(task, 3)) as simulators:
            first = simulators.call(begin_episode, {row: (row, None) for row in range(3)})
            steps = simulators.call(take_step, {row: (np.zeros(6, np.float32),) for row in range(3)})
            found.append(np.stack([*first, *(step.obs for step in steps)]))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


@pytest.mark.long
def test_a_rate_is_that_of_all_environments_together(monkeypatch):
    workers = importlib.import_module("scaling.workers")
    # Processes of AsyncVectorEnv import the script that started them, here that of the tests.
    monkeypatch.setattr(workers, "stepping_vector", partial(workers.stepping, Simulators))
    rows = workers.measure(["Sleeps-v0"], steps=1, rounds=1)
    assert [row["processes or threads"] for row in rows] == [1, 2, 4, 2, 4, 8]
    assert all(0 < row["steps/s"] < row["processes or threads"] / workers.STEP_SECONDS for row in rows)
    assert rows[0]["share of ideal"] == 1.0 and rows[1]["call s"] is None


@pytest.mark.long
def test_a_single_seed_is_measured_in_each_way(monkeypatch):
    seeds, ways = benchmark("scaling.seeds"), importlib.import_module("scaling.ways")
    monkeypatch.setattr(seeds, "ways", lambda jobs: {"processes": ways.ways(jobs)["processes"]})
    settings = ["learner.hidden=[4]", "learner.batch_size=8", "train.random_steps=20", "train.steps=1500"]
    rows = seeds.measure("ddpg/default", "Pendulum-v1", [*settings, "train.log_every=20"], [1])
    assert rows[0]["steps/s"] > 0 and rows[0]["updates/s"] > 0 and rows[0]["start s"] < rows[0]["total s"]
