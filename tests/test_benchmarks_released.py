"""What `benchmarks/released.py` makes of runs that are there."""

import csv
import sys

import yaml

from tiny import benchmark


def a_run(folder, preset, returns):
    """A run directory with a random episode, and training episodes that end after 55,000 and 95,000 steps."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"preset": preset, "seed": 3}))
    lines = ["episode,env_steps,kind,return,length,wall_seconds", "0,1000,random,-1,1000,1.0"]
    lines += [f"{i + 1},{steps},train,{value},1000,2.0" for i, (steps, value) in enumerate(returns)]
    (folder / "episodes.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_windows_of_training_episodes_stand_beside_the_originals(tmp_path, monkeypatch, capsys):
    steve = a_run(tmp_path / "a", "steve/halfcheetah", [(55_000, 10), (55_000, 20), (55_000, 60), (95_000, 70)])
    mve = a_run(tmp_path / "b", "steve/halfcheetah+mve", [(50_000, 999), (60_000, 5)])
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


def test_each_run_belongs_to_an_arm():
    released = benchmark("released")
    arms = [released.Run(f"steve/halfcheetah{parts}", 0, []).arm for parts in ("", "+mve+released", "+ddpg")]
    assert arms == list(released.COLORS)
