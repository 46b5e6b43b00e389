"""What `benchmarks/kills.py` makes of processes: their moments, and the differences that it must find."""

import csv
import random
import subprocess
import sys
import time
from functools import partial

import pytest

from tiny import benchmark

pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning", "ignore:.*multi-threaded:DeprecationWarning")
kills = benchmark("kills")


def counts(folder, saving, *, skips=False, leaves=False):
    """Write five rows, or go on from those that are there; maybe skip one then, or leave what was unfinished."""
    checkpoints, table = folder / "run" / "checkpoints", folder / "run" / "episodes.csv"
    checkpoints.mkdir(parents=True, exist_ok=True)
    for unfinished in () if leaves else checkpoints.iterdir():
        unfinished.unlink()
    if not table.exists():
        table.write_text("episode,return,wall_seconds\n")
    rows = table.read_text().count("\n") - 1
    for number in range(rows + (skips and rows > 0), 5):
        saving()
        (aside := checkpoints / f"{number}.orbax-checkpoint-tmp-{time.monotonic()}").touch()
        time.sleep(0.1)
        aside.unlink()
        with table.open("a") as file:
            file.write(f"{number},{number**2},{time.monotonic()}\n")


def killed(folder, moments, **faults):
    kills.execute(counts, folder / "whole", None)
    return kills.run_killed("", 0, partial(counts, **faults), folder / "whole", folder / "run", moments)


WRITES = [kills.Moment(2, 0.01), kills.Moment(2, 0.01)]


@pytest.mark.long
def test_a_run_that_continues_exactly_is_the_same(tmp_path):
    run = killed(tmp_path, WRITES)
    assert (run.kills, run.differences) == (2, "")
    assert run.in_writes >= 1 and run.before_saves == 0


@pytest.mark.long
@pytest.mark.parametrize(("fault", "path"), [("skips", "run/episodes.csv"), ("leaves", "orbax-checkpoint-tmp")])
def test_a_run_that_does_not_differs(fault, path, tmp_path):
    assert path in killed(tmp_path, WRITES, **{fault: True}).differences


@pytest.mark.long
def test_a_process_that_ends_before_is_not_killed(tmp_path):
    run = killed(tmp_path, [kills.Moment(0, 60.0)])
    assert (run.kills, run.differences) == (0, "")


def test_a_process_that_fails_is_no_result(tmp_path):
    def fails(folder, saving):
        raise ValueError("no such preset")

    with pytest.raises(RuntimeError, match=r"a process ended with 1: (?s:.*)ValueError: no such preset"):
        kills.execute(fails, tmp_path, None)


def test_moments_are_of_both_kinds_and_follow_from_the_seed():
    first, again = ([kills.random_moment(random.Random(seed), 3.0) for seed in range(100)] for _ in range(2))
    assert first == again and 30 < sum(not moment.saves for moment in first) < 70
    assert all(moment.seconds <= (kills.WRITE_SECONDS if moment.saves else 3.0) for moment in first)


def test_a_table_has_a_line_per_agent_and_one_for_all():
    runs = [kills.Killed("a", 0, 2, 1, 0, "", 1.0), kills.Killed("b", 0, 3, 0, 1, "run/episodes.csv", 1.0)]
    columns = [[*column.cells] for column in kills.summarise(runs).columns]
    assert [*zip(*columns, strict=True)] == [
        ("a", "2", "1", "0", "1", "0"),
        ("b", "3", "0", "1", "1", "1"),
        ("all", "5", "1", "1", "2", "1"),
    ]


def test_the_agent_with_the_fewest_kills_is_next():
    runs = [kills.Killed("a", 0, 2, 1, 0, "", 1.0), kills.Killed("b", 0, 3, 0, 1, "", 1.0)]
    assert kills.following([], "ab") == ("a", 0) and kills.following(runs, "ab") == ("a", 1)
    assert kills.following(runs, "abc") == ("c", 0) and kills.following(runs, "b") == ("b", 1)
    assert kills.following([*runs, kills.Killed("c", 0, 0, 0, 0, "", 1.0)], "cd") == ("d", 0)


@pytest.mark.long
def test_runs_go_on_from_those_in_the_table(tmp_path):
    (tmp_path / "kills.csv").write_text(
        "agent,number,kills,in_writes,before_saves,differences,seconds\na,0,2,1,0,,1.5\nb,0,1,0,1,run/episodes.csv,1\n"
    )
    before = kills.read_runs(tmp_path / "kills.csv")
    assert before == [
        kills.Killed("a", 0, 2, 1, 0, "", 1.5),
        kills.Killed("b", 0, 1, 0, 1, "run/episodes.csv", 1.0),
    ]
    run = next(kills.kill_runs({"a": counts, "b": counts}, 4, 4, 60.0, tmp_path, 0, before))
    assert (run.agent, run.number, run.differences) == ("b", 1, "") and run.kills <= 1


@pytest.mark.slow
def test_real_runs(tmp_path, monkeypatch):
    """In a process that does not use JAX."""
    words = ["--kills", "3", "--per-run", "3", "--agents", "sac", "--out", str(tmp_path / "kills")]
    subprocess.run([sys.executable, kills.__file__, *words], check=True)
    with (tmp_path / "kills.csv").open() as file:
        assert [row["differences"] for row in csv.DictReader(file)] == [""]


def test_two_runs_on_ray_are_compared_without_their_times(tmp_path):
    on_ray = benchmark("kills_on_ray")
    for name, value, seconds in (("a", 1, 2), ("b", 1, 3), ("c", 5, 2)):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "0.npz").write_bytes(bytes([value]))
        for table in ("episodes.csv", "metrics.csv"):
            (tmp_path / name / table).write_text(f"return,wall_seconds,compile_count\n{value},{seconds},{seconds}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_ray, "learned", lambda run: run.name == "c")
        assert on_ray.differences(tmp_path / "a", tmp_path / "b") == []
        found = on_ray.differences(tmp_path / "a", tmp_path / "c")
    assert found == ["data/0.npz", "episodes.csv", "metrics.csv", "agent"]
