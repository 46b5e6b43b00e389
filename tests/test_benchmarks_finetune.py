"""What `benchmarks/finetune.py` makes of runs."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import foretell
from foretell.runs.directory import RunDirectory
from tiny import benchmark


@pytest.fixture(scope="module")
def finetune():
    return benchmark("finetune")


@pytest.mark.long
def test_a_curve_has_a_point_for_each_call_of_learn(finetune, trained):
    """Of a run of two trials, each learned from by itself, that goes on from one of 100 steps."""
    found = finetune.curve(RunDirectory(trained), 100)
    trials = [row for row in foretell.load(trained, quiet=True).episodes if row["kind"] == "train"]
    assert found.steps.tolist() == [100 + row["env_steps"] for row in trials]
    assert found.returns.tolist() == [row["return"] for row in trials]
    assert len(finetune.chain(trained)) == 1


def test_an_episode_that_ends_with_a_batch_is_of_that_batch(finetune):
    """Batches of 20 steps; the planner's kind of run knows none."""
    ends = [(10, 1.0), (20, 3.0), (21, 5.0), (40, 7.0)]
    rows = [{"kind": "train", "env_steps": steps, "return": value} for steps, value in ends]
    train = SimpleNamespace(steps_per_learning=20)
    run = SimpleNamespace(read_config=lambda: [SimpleNamespace(train=train)], read_episodes=lambda: rows)
    found = finetune.curve(run, 0)
    assert found.steps.tolist() == [20, 40] and found.returns.tolist() == [2.0, 6.0]


@pytest.mark.long
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


@pytest.mark.long
def test_a_run_that_goes_on_from_no_other_is_refused(finetune, trained, monkeypatch, tmp_path):
    words = ["--tuned", str(trained), "--alone", str(trained), "--out", str(tmp_path / "figure.png")]
    monkeypatch.setattr(sys, "argv", ["finetune.py", *words])
    with pytest.raises(foretell.UserError, match="--tuned takes runs that go on from others"):
        finetune.main()
