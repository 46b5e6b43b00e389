"""A run that is stopped in any way and resumed gives the results of one that was not, to the last bit.

Here with a whole agent; more moments, with an agent that costs nothing, are in `test_stops`.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import foretell
from tiny import LINE, TINY_SET, by_hand, interrupted_at, results, tiny_run

pytestmark = pytest.mark.long

SHORT = {"trials": 3, "eval_episodes": 1}
CARTPOLE = {
    "model": {"hidden": [16, 16], "weight_decay": [1e-4, 1e-4, 1e-4]},
    "fit": {"min_steps": 60},
    "planner": {"horizon": 8, "population": 12, "elites": 3, "kept_elites": 2},
    "train": {"trials": 4, "capacity": 2000, "eval_episodes": 1},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of a run that nobody stops."""
    return tiny_run(tmp_path_factory.mktemp("whole") / "run", **SHORT).directory


@pytest.mark.parametrize("moment", [("step", 8), ("learn_start", 2), ("step", 13)], ids=str)
def test_a_run_interrupted_anywhere_continues_exactly(moment, whole, tmp_path):
    """Within a trial, within learning and within an evaluation."""
    with interrupted_at(*moment):
        tiny_run(tmp_path / "run", **SHORT)
    foretell.resume(tmp_path / "run", quiet=True)
    assert results(tmp_path / "run") == results(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [("training_start", 1), ("step", 77), ("learn_start", 1), ("step", 333), ("step", 555), ("episode_end", 6)],
    ids=str,
)
def test_a_cartpole_interrupted_anywhere_continues_exactly(moment, tmp_path):
    options = {"seed": 3, "overrides": [CARTPOLE], "quiet": True}
    foretell.train("pets/cartpole", out=tmp_path / "whole", **options)
    with interrupted_at(*moment):
        foretell.train("pets/cartpole", out=tmp_path / "run", **options)
    foretell.resume(tmp_path / "run", quiet=True)
    assert results(tmp_path / "run") == results(tmp_path / "whole")


WARMED = {"trials": 1, "random_horizon": 4, "warmup_episodes": 2, "warmup_horizon": 3}
PLANS = {"planner": {"horizon": 4, "replan_every": 3}}


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("warmed") / "run", PLANS, **WARMED).directory


@pytest.mark.parametrize("moment", [("step", 6), ("step", 11), *by_hand(("step", 2), ("learn_end", 2))], ids=str)
def test_a_run_interrupted_in_its_warm_up_or_within_a_plan_continues_exactly(moment, warmed, tmp_path):
    with interrupted_at(*moment):
        tiny_run(tmp_path / "run", PLANS, **WARMED)
    foretell.resume(tmp_path / "run", quiet=True)
    assert results(tmp_path / "run") == results(warmed)


def test_a_run_with_a_gaussian_process_continues_exactly(tmp_path):
    small = {"model": {"inducing": 5}, "fit": {"iterations": 2}, "imagination": {"propagation": "DS", "particles": 2}}
    planner = {"horizon": 2, "population": 4, "iterations": 1, "elites": 2, "kept_elites": 0}
    schedule = {"trials": 2, "random_steps": 0, "capacity": 50}
    tree = {**small, "planner": planner, "train": schedule, "task": {"reward": "environments:reward"}}
    options = {"env": LINE, "terminated": "none", "overrides": tree, "quiet": True}
    foretell.train("pets/default+gp", out=tmp_path / "whole", **options)
    with interrupted_at("learn_end", 1):
        foretell.train("pets/default+gp", out=tmp_path / "run", **options)
    foretell.resume(tmp_path / "run", quiet=True)
    assert results(tmp_path / "run") == results(tmp_path / "whole")


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_continues_exactly(kills, tmp_path):
    """With SIGKILL, in a process of its own, with checkpoints many times a second: some are not finished."""
    out, command, schedule = tmp_path / "run", [sys.executable, "-m", "foretell"], {"trials": 10 * kills}
    sets = [*TINY_SET, f"train.trials={10 * kills}", "train.checkpoint_seconds=0.02"]
    start = [*command, "train", "pets/default", "--env", LINE, "--out", str(out), "--quiet", *sets]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    moments = random.Random(0)
    for kill in range(kills):
        process = subprocess.Popen(
            [*command, "resume", str(out), "--quiet"] if kill else start, env={**os.environ, "PYTHONPATH": paths}
        )
        assert wait_for_activity(process, out), "the run ended before it had been killed so often"
        time.sleep(moments.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    foretell.resume(out, overrides={"train": {"checkpoint_seconds": 30}}, quiet=True)
    assert results(out) == results(tiny_run(tmp_path / "whole", **schedule).directory)


def wait_for_activity(process: subprocess.Popen, out: Path) -> bool:
    """Return once the process has saved something new in the run (True) or has ended (False)."""
    before = newest_change(out / "checkpoints")
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if newest_change(out / "checkpoints") != before:
            return True
        time.sleep(0.01)
    return False


def newest_change(folder: Path) -> float:
    times = [0.0]
    for place, _, files in os.walk(folder):
        for path in (Path(place) / name for name in files):
            if path.exists():
                times.append(path.stat().st_mtime)
    return max(times)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The directory of a run whose last trial has not been asked for."""
    return tiny_run(tmp_path_factory.mktemp("short") / "run", **{**SHORT, "trials": 2}).directory


def test_trials_can_be_added_to_a_finished_run(short, whole, tmp_path):
    out = shutil.copytree(short, tmp_path / "run")
    foretell.resume(out, overrides=[{"train": {"trials": 3}}], quiet=True)
    assert results(out) == results(whole)


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(whole, tmp_path):
    """Nor does it matter how much the replay could hold."""
    again, other = tiny_run(tmp_path / "again", **SHORT), tiny_run(tmp_path / "other", seed=4, **SHORT)
    assert results(again.directory) == results(whole)
    assert not set(again.returns) & set(other.returns)
    assert tiny_run(tmp_path / "wide", **SHORT, capacity=70).returns == again.returns


@pytest.mark.parametrize("harm", ["flip", *by_hand("truncate", "empty")])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(harm, short, whole, tmp_path, capsys):
    out = shutil.copytree(short, tmp_path / "run")
    newest = max((p for p in (out / "checkpoints").iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = largest.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
    largest.write_bytes({"truncate": content[:middle], "empty": b"", "flip": flipped}[harm])

    foretell.resume(out, overrides=[{"train": {"trials": 3}}])

    assert f"checkpoint {newest.name} is damaged, using the one before" in " ".join(capsys.readouterr().out.split())
    assert (out / "checkpoints" / f"damaged-{newest.name}").is_dir()
    assert results(out) == results(whole)
