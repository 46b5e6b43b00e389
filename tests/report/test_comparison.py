"""Learning curves of several runs in one figure."""

import numpy as np
import pytest

from foretell.cli import main
from foretell.report.comparison import Curve, curve_of, mean_curve, read_groups, read_lines, smoothed
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from tiny import LINE


def run_in(folder, returns, preset="ddpg/default", kind="eval", **changes):
    """A run directory whose episodes of this kind had these returns, two each 1000 steps."""
    folder.mkdir(parents=True)
    directory = RunDirectory(folder)
    directory.write_config(resolve(preset, [{"task": {"env": LINE}}, changes]), preset, 0)
    lines = ["episode,env_steps,kind,return,length,wall_seconds", "0,1000,random,-1,1000,1.0"]
    lines += [f"{i},{1000 * (i // 2 + 1)},{kind},{value},1000,2.0" for i, value in enumerate(returns)]
    (folder / "episodes.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_smoothing_is_a_mean_over_the_last_points():
    values = np.array([1.0, 3.0, 8.0, 0.0])
    assert smoothed(values, 1).tolist() == [1, 3, 8, 0]
    assert smoothed(values, 2).tolist() == [1, 2, 5.5, 4]
    assert smoothed(values, 100).tolist() == [1, 2, 4, 3]


def test_a_point_is_the_mean_of_a_round():
    found = [("train", 5, 9.0), ("eval", 10, 1.0), ("eval", 10, 2.0), ("eval", 20, 5.0)]
    rows = [{"kind": kind, "env_steps": at, "return": value} for kind, at, value in found]
    curve = curve_of(rows, 1)
    assert curve.steps.tolist() == [10, 20] and curve.mean.tolist() == [1.5, 5.0]
    assert curve_of(rows[:1], 1).mean.tolist() == [9.0]


def test_the_mean_goes_as_far_as_all_runs_and_interpolates_between():
    zeros = np.zeros(3)
    first = Curve(np.array([0, 10, 20]), np.array([0.0, 10.0, 20.0]), zeros)
    second = Curve(np.array([5, 15, 25]), np.array([0.0, 0.0, 0.0]), zeros)
    found = mean_curve([first, second])
    assert found.steps.tolist() == [5, 10, 15, 20]
    assert found.mean.tolist() == [2.5, 5.0, 7.5, 10.0] and found.std.tolist() == [2.5, 5.0, 7.5, 10.0]


@pytest.mark.long
def test_runs_of_a_preset_are_one_curve(tmp_path):
    runs = [run_in(tmp_path / "a" / str(i), [1, 3, i, i]) for i in range(3)]
    other = run_in(tmp_path / "b", [7, 7], preset="sac/default")
    groups = read_groups([*runs, other], 1)
    assert [(group.label, len(group.curves)) for group in groups] == [
        (f"ddpg/default, {LINE}", 3),
        (f"sac/default, {LINE}", 1),
    ]
    assert mean_curve(groups[0].curves).mean.tolist() == [2.0, 1.0]


@pytest.mark.long
def test_runs_with_other_settings_are_another_curve_but_a_longer_run_is_not(tmp_path):
    runs = [run_in(tmp_path / "0", [1, 1]), run_in(tmp_path / "1", [2, 2], train={"steps": 9000})]
    runs.append(run_in(tmp_path / "2", [3, 3], learner={"discount": 0.5}))
    labels = [group.label for group in read_groups(runs, 1)]
    assert labels == [f"ddpg/default, {LINE} ({runs[0]})", f"ddpg/default, {LINE} ({runs[2]})"]


@pytest.mark.long
def test_lines_are_numbers_or_the_last_values_of_runs(tmp_path):
    runs = [run_in(tmp_path / str(i), [0, 0, 4 * i, 4 * i]) for i in range(2)]
    lines = read_lines(["-150", *runs], 1)
    assert [line.value for line in lines] == [-150.0, 2.0]


@pytest.mark.long
def test_the_command_draws_and_prints(tmp_path, capsys):
    runs = [run_in(tmp_path / str(i), [0, 0, 4 * i, 4 * i]) for i in range(2)]
    out = tmp_path / "figures" / "curves.png"
    assert main(["plot", *runs, "--smooth", "1", "--hline", "3", "--out", str(out)]) == 0
    assert f"ddpg/default, {LINE}: 2.0 +- 2.0 at 2000 steps" in capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_mistakes(tmp_path, refused):
    run, empty = run_in(tmp_path / "run", [1, 1]), run_in(tmp_path / "empty", [])
    assert refused("plot", run, "--smooth", "0") == "smooth must be at least 1, not 0"
    assert refused("plot", run, "--smooth", 10**30) == f"smooth must be at most {2**31 - 1}, not {10**30}"
    assert refused("plot", run, "--hline", "nan") == "a horizontal line must be a finite number, not nan"
    assert refused("plot", tmp_path / "nowhere").startswith("no run directory")
    assert "neither an evaluation episode nor a trial" in refused("plot", empty)
    assert "must end in .png or .pdf or .svg, not 'x.doc'" in refused("plot", run, "--out", tmp_path / "x.doc")
