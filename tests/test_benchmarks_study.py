"""What `benchmarks/study.py` makes of runs that are there."""

import csv
import sys

import pytest

from tiny import benchmark


@pytest.mark.long
def test_it_tells_of_runs_as_far_as_all_have_come(trained, tmp_path, monkeypatch, capsys):
    words = ["study", "pets/default", "--runs", trained, trained, "--goal", "1e9", "--last", "1", "--by", "2"]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--out", str(tmp_path / "out")])
    benchmark("study").main()
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    returns = [float(row["return"]) for row in rows if row["kind"] == "train"]
    assert returns[:2] == returns[2:] and len(returns) == 4
    assert [row["seed"] for row in rows] == ["0"] * (len(rows) // 2) + ["1"] * (len(rows) // 2)
    out = capsys.readouterr().out
    assert "0/2 reach it" in out
    assert float(out.partition("best return by trial 2: mean ")[2].split(",")[0]) == pytest.approx(
        max(returns), abs=0.1
    )
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
