"""`benchmarks/device.sh`: its order, its table, that it ends in time, and that a second call goes on."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import LINE, TINY_SET

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "device.sh"
STUB = """#!/bin/bash
# In place of Python: `-m foretell` writes one episode at each call, or waits until it is ended.
[ "$1 $2" = "-m foretell" ] || exec {python} "$@"
shift 2
echo "$@" >>{calls}
case "$1" in train) dir=$6 ;; resume) dir=$2 ;; esac
mkdir -p "$dir/checkpoints/1"
[ -f "$dir/episodes.csv" ] || echo "episode,env_steps,kind,return,length,wall_seconds,success" >"$dir/episodes.csv"
echo "0,5,train,1.5,5,0.1," >>"$dir/episodes.csv"
[ -z "${{WAITS:-}}" ] || exec sleep 60
"""


@pytest.fixture
def script(tmp_path):
    """Calls it with a stub in place of Python; the result, and what the stub was called with."""
    stub, calls = tmp_path / "python", tmp_path / "calls"
    stub.write_text(STUB.format(python=sys.executable, calls=calls))
    stub.chmod(0o755)
    names = {"PRESETS": "a/b", "SEEDS": "0 1", "STEVE": "c/d", "STEVE_SEEDS": "1", "SCALING": "1 2", "SET": "x.y=1"}

    def run(**changed):
        calls.write_text("")
        own = {"OUT": tmp_path / "out", "RUNS": tmp_path / "runs", "PYTHON": stub, "SECONDS_LEFT": 30}
        env = {**os.environ, **{name: str(value) for name, value in {**own, **names, **changed}.items()}}
        found = subprocess.run(["bash", SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=True)
        return found.stdout, sorted(calls.read_text().replace(str(tmp_path), "").splitlines())

    return run


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_its_syntax_is_right():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


@pytest.mark.long
def test_a_second_call_goes_on_with_all_runs(script, tmp_path):
    out, calls = script()
    assert [line.split(",")[0] for line in out.splitlines()] == ["a/b", "c/d", "done"]
    assert calls[0] == "train a/b --seed 0 --out /runs/a-b/0 --overwrite --quiet --set train.steps=50000 x.y=1"
    assert len(calls) == 6 and all(call.startswith("train ") for call in calls)
    assert [row["processes"] for row in rows(tmp_path / "out" / "scaling.csv")] == ["1", "2"]
    again = script()[1]
    assert again == [f"resume /runs/{run} --quiet" for run in ("a-b/0", "a-b/1", "c-d/1")]
    found = rows(tmp_path / "out" / "episodes.csv")
    assert [row["run"] for row in found[:4]] == ["a-b/0", "a-b/0", "a-b/1", "a-b/1"]
    assert found[0]["return"] == "1.5" and len(found) == 9


def test_when_time_is_up_it_ends_what_runs_and_begins_nothing_more(script):
    out, calls = script(WAITS=1, SECONDS_LEFT=2)
    assert "time is up before: c/d" in out and len(calls) == 2


@pytest.mark.slow
def test_real_runs_on_this_machine(tmp_path):
    """Two seeds, stopped after 12 seconds and continued."""
    setting = " ".join([*TINY_SET[1:], f"task.env={LINE}"]).replace(", ", ",")
    env = {**os.environ, "OUT": str(tmp_path / "out"), "RUNS": str(tmp_path / "runs"), "PYTHON": sys.executable}
    env |= {"PRESETS": "pets/default", "SEEDS": "0 1", "STEPS": "2000", "STEVE": "", "SCALING": "", "SET": setting}
    env["PYTHONPATH"] = f"{ROOT / 'tests'}:{env.get('PYTHONPATH', ROOT / 'src')}"
    counts = []
    for _ in range(2):
        subprocess.run(["bash", SCRIPT], env=env | {"SECONDS_LEFT": "25"}, check=True, timeout=120)
        counts.append(len(rows(tmp_path / "out" / "episodes.csv")))
    assert 0 < counts[0] < counts[1], (tmp_path / "out" / "log.txt").read_text()
