"""What `benchmarks/finetune.py` makes of runs."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import foretell
from foretell.training.directory import RunDirectory


@pytest.fixture(scope="module")
def finetune():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        return importlib.import_module("finetune")


def test_a_curve_has_a_point_for_each_call_of_learn(finetune, trained):
    """Of a run of two trials, each learned from by itself, that goes on from one of 100 steps."""
    found = finetune.curve(RunDirectory(trained), 100)
    trials = [row for row in foretell.load(trained, quiet=True).episodes if row["kind"] == "train"]
    assert found.steps.tolist() == [100 + row["env_steps"] for row in trials]
    assert found.returns.tolist() == [row["return"] for row in trials]
    assert len(finetune.chain(trained)) == 1


def test_steps_to_a_level_are_the_last_stages_and_count_from_the_first_on(finetune):
    stages = [
        finetune.Curve(np.array([10, 20]), np.array([1.0, 3.0])),
        finetune.Curve(np.array([30, 40, 50]), np.array([2.0, 5.0, 4.0])),
    ]
    alone = [finetune.Curve(np.array([100, 120]), np.array([2.0, 3.0]))]
    assert [finetune.reached(stages, level) for level in (1.0, 2.5, 4.0)] == [30, 40, 40]
    assert np.isnan(finetune.reached(stages, 6.0))
    rows = finetune.table([stages, stages], [alone, alone], [2.5, 9.0])
    cells = [list(column.cells) for column in rows.columns]
    assert cells == [["2.5", "9"], ["120, 120", "never, never"], ["40, 40", "never, never"], ["3.0", "-"]]


def test_a_run_that_goes_on_from_no_other_is_refused(finetune, trained, monkeypatch, tmp_path):
    words = ["--tuned", str(trained), "--alone", str(trained), "--out", str(tmp_path / "figure.png")]
    monkeypatch.setattr(sys, "argv", ["finetune.py", *words])
    with pytest.raises(foretell.UserError, match="--tuned takes runs that go on from others"):
        finetune.main()
