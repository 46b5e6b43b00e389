"""What `benchmarks/released.py` makes of runs that are there."""

import csv
import sys

import pytest

from tiny import benchmark, written_run


@pytest.mark.long
def test_windows_of_training_episodes_stand_beside_the_originals(tmp_path, monkeypatch, capsys):
    steve = written_run(
        tmp_path / "a", "steve/halfcheetah", "train", [(55_000, 10), (55_000, 20), (55_000, 60), (95_000, 70)]
    )
    mve = written_run(tmp_path / "b", "steve/halfcheetah+mve", "train", [(50_000, 999), (60_000, 5)])
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["released", str(steve), str(mve), "--out", str(out)])
    benchmark("released").main()
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if "original" not in line]
    cells = [[cell.strip() for cell in line[2:7]] for line in lines if "halfcheetah" in "".join(line)]
    assert cells == [
        ["steve/halfcheetah", "3", "30", "20", "60"],
        ["steve/halfcheetah+mve", "3", "5", "5", "5"],
        ["steve/halfcheetah", "3", "70", "70", "70"],
    ]
    with out.with_suffix(".csv").open(newline="") as file:
        returns = [float(row["return"]) for row in csv.DictReader(file)]
    assert returns == [10, 20, 60, 70, 999, 5]
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_each_run_belongs_to_an_arm():
    released = benchmark("released")
    arms = [released.Run(f"steve/halfcheetah{parts}", 0, []).arm for parts in ("", "+mve+released", "+ddpg")]
    assert arms == list(released.COLORS)
