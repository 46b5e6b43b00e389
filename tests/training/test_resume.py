"""A run that is stopped in any way and resumed gives the results of one that was not, to the last bit."""

import csv
import gc
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import foretell
from tiny import LINE, interrupted_at
from tiny import TINY as LINE_TINY

pytestmark = pytest.mark.long

TINY = {
    "model": {"hidden": [16, 16], "weight_decay": [1e-4, 1e-4, 1e-4]},
    "fit": {"min_steps": 60},
    "planner": {"horizon": 8, "population": 12, "elites": 3, "kept_elites": 2},
    "train": {"trials": 4, "capacity": 2000, "eval_episodes": 1},
}


def results(run: Path) -> list[tuple]:
    """Everything a run has produced except its wall times."""
    with (run / "episodes.csv").open() as file:
        episodes = [tuple(v for k, v in row.items() if k != "wall_seconds") for row in csv.DictReader(file)]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    learned = [tuple(v for k, v in row.items() if "seconds" not in k and k != "compile_count") for row in rows]
    data = [(path.name, path.read_bytes()) for path in sorted((run / "data").iterdir())]
    return episodes + learned + data


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> list[tuple]:
    out = tmp_path_factory.mktemp("whole") / "run"
    foretell.train("pets/cartpole", seed=3, out=out, overrides=[TINY], quiet=True)
    return results(out)


def stopped_at(moment, out, overrides):
    """Train until that moment, then interrupt."""
    with interrupted_at(*moment):
        foretell.train("pets/cartpole", seed=3, out=out, overrides=overrides, quiet=True)


@pytest.mark.parametrize(
    "moment",
    [("training_start", 1), ("step", 77), ("learn_start", 1), ("step", 333), ("step", 555), ("episode_end", 6)],
    ids=str,
)
def test_a_run_interrupted_anywhere_continues_exactly(moment, uninterrupted, tmp_path):
    out = tmp_path / "run"
    stopped_at(moment, out, [TINY])
    foretell.resume(out, quiet=True)
    assert results(out) == uninterrupted


WARMED = {
    **TINY,
    "planner": {**TINY["planner"], "replan_every": 3},
    "train": {"trials": 1, "capacity": 2000, "random_horizon": 30, "warmup_episodes": 2, "warmup_horizon": 20},
}


@pytest.fixture(scope="module")
def warmed(tmp_path_factory) -> list[tuple]:
    out = tmp_path_factory.mktemp("warmed") / "run"
    foretell.train("pets/cartpole", seed=3, out=out, overrides=[WARMED], quiet=True)
    return results(out)


@pytest.mark.parametrize(
    "moment",
    [("step", 11), ("step", 37), ("learn_end", 2), ("step", 74)],
    ids=str,
)
def test_a_run_interrupted_in_its_warm_up_or_within_a_plan_continues_exactly(moment, warmed, tmp_path):
    out = tmp_path / "run"
    stopped_at(moment, out, [WARMED])
    foretell.resume(out, quiet=True)
    assert results(out) == warmed


def test_a_run_with_a_gaussian_process_continues_exactly(tmp_path):
    tree = {**LINE_TINY, "model": {"inducing": 10}, "fit": {"iterations": 5}, "imagination": {"propagation": "DS"}}
    options = {"env": LINE, "overrides": tree, "quiet": True}
    foretell.train("pets/default+gp", out=tmp_path / "whole", **options)
    with interrupted_at("learn_end", 1):
        foretell.train("pets/default+gp", out=tmp_path / "run", **options)
    foretell.resume(tmp_path / "run", quiet=True)
    assert results(tmp_path / "run") == results(tmp_path / "whole")


def test_a_run_killed_ten_times_at_random_moments_continues_exactly(uninterrupted, tmp_path):
    out = tmp_path / "run"
    # Checkpoints many times a second: some kills fall into the writing of one.
    sets = ["model.hidden=[16,16]", "model.weight_decay=[1.0e-4,1.0e-4,1.0e-4]", "fit.min_steps=60"]
    sets += ["planner.horizon=8", "planner.population=12", "planner.elites=3", "planner.kept_elites=2"]
    sets += ["train.trials=4", "train.capacity=2000", "train.eval_episodes=1", "train.checkpoint_seconds=0.02"]
    command = [sys.executable, "-m", "foretell"]
    start = [*command, "train", "pets/cartpole", "--seed", "3", "--out", str(out), "--quiet", "--set", *sets]
    moments = random.Random(0)
    for kill in range(10):
        process = subprocess.Popen([*command, "resume", str(out), "--quiet"] if kill else start)
        assert wait_for_activity(process, out), "the run ended before it had been killed ten times"
        time.sleep(moments.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.wait()
    rarely = ["--set", "train.checkpoint_seconds=30"]  # the rest need not be saved many times a second
    subprocess.run([*command, "resume", str(out), "--quiet", *rarely], check=True)
    assert results(out) == uninterrupted


def wait_for_activity(process: subprocess.Popen, out: Path) -> bool:
    """Return once the process has written something new into the run (True) or has ended (False)."""
    before = newest_change(out)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if newest_change(out) != before:
            return True
        time.sleep(0.01)
    return False


def newest_change(out: Path) -> float:
    times = [0.0]
    for folder, _, files in os.walk(out):
        for name in files:
            path = Path(folder) / name
            if path.name not in (".lock", "config.yaml") and path.exists():
                times.append(path.stat().st_mtime)
    return max(times)


def test_trials_can_be_added_to_a_finished_run(uninterrupted, tmp_path):
    out = tmp_path / "run"
    short = {**TINY, "train": {**TINY["train"], "trials": 1}}
    foretell.train("pets/cartpole", seed=3, out=out, overrides=[short], quiet=True)
    foretell.resume(out, overrides=[{"train": {"trials": 4}}], quiet=True)
    assert results(out) == uninterrupted


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(uninterrupted, tmp_path):
    again = foretell.train("pets/cartpole", seed=3, out=tmp_path / "again", overrides=[TINY], quiet=True)
    other = foretell.train("pets/cartpole", seed=4, out=tmp_path / "other", overrides=[TINY], quiet=True)
    assert results(again.directory) == uninterrupted
    assert not set(again.returns) & set(other.returns)


def test_the_replay_capacity_does_not_change_results(uninterrupted, tmp_path):
    wide = {**TINY, "train": {**TINY["train"], "capacity": 5000}}
    run = foretell.train("pets/cartpole", seed=3, out=tmp_path / "wide", overrides=[wide], quiet=True)
    returns = [float(row[3]) for row in uninterrupted if len(row) == 5 and row[2] == "train"]
    np.testing.assert_array_equal(run.returns, returns)


@pytest.mark.filterwarnings("ignore:(?s).*Event loop is closed:pytest.PytestUnraisableExceptionWarning")  # of Orbax
@pytest.mark.parametrize("harm", ["truncate", "empty", "flip"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(harm, uninterrupted, tmp_path, capsys):
    out = tmp_path / "run"
    short = {**TINY, "train": {**TINY["train"], "trials": 2}}
    foretell.train("pets/cartpole", seed=3, out=out, overrides=[short], quiet=True)
    newest = max((p for p in (out / "checkpoints").iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = largest.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
    largest.write_bytes({"truncate": content[:middle], "empty": b"", "flip": flipped}[harm])

    foretell.resume(out, overrides=[{"train": {"trials": 4}}])

    assert f"checkpoint {newest.name} is damaged, using the one before" in " ".join(capsys.readouterr().out.split())
    assert (out / "checkpoints" / f"damaged-{newest.name}").is_dir()
    assert results(out) == uninterrupted
    gc.collect()  # else what Orbax leaves of reading damaged files warns of it in another test
