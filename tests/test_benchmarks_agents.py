"""What `benchmarks/agents.py` makes of runs that are there."""

import csv
import sys

import pytest

from tiny import benchmark, written_run


@pytest.mark.long
def test_it_tells_of_runs_that_are_there(tmp_path, monkeypatch, capsys):
    """Rounds of two episodes; the goal is first reached after 2,000 steps by one seed, never by the other."""
    for seed, last in enumerate((30, 10)):
        rounds = [(1000, 0), (1000, 2), (2000, last), (2000, last)]
        written_run(tmp_path / "runs" / "steve-default" / str(seed), "steve/default", "eval", rounds)
    words = ["agents", "steve/default", "--seeds", "2", "--goal", "20", "--runs", tmp_path / "runs"]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--out", str(tmp_path / "out")])
    benchmark("agents").main()
    out = capsys.readouterr().out
    assert all(text in out for text in ("2000, never", "30, 10", "16, 6", "10 +- 5"))  # the means are 15.5 and 5.5
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [float(row["return"]) for row in csv.DictReader(file)] == [0, 2, 30, 30, 0, 2, 10, 10]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
