"""The published results: their environments exist, and they are those of the benchmarks' tables."""

import csv
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from pydantic import ValidationError

import foretell.tasks  # registers the tasks
from foretell import registry
from foretell.page.references import Reference, references

TABLES = Path(__file__).parents[2] / "benchmarks" / "references"
assert foretell.tasks


def rows(name):
    with (TABLES / name).open() as file:
        return list(csv.DictReader(file))


def test_all_are_of_environments_that_there_are_and_have_a_source():
    found = references()
    assert len(found) >= 15
    for one in found:
        assert one.env in registry.kinds("task") or one.env in gymnasium.registry, one.env
        assert len(one.source) > 20 and list(one.steps) == sorted(one.steps)


@pytest.mark.parametrize(
    ("label", "column"), [("MB-MPC, blog post", "blog"), ("MB-MPC, independent solution", "student")]
)
def test_the_curves_of_the_homework(label, column):
    """Ten random paths of 1,000 steps come first, then ten in each iteration."""
    (one,) = [one for one in references() if one.label == label]
    table = rows("homework.csv")
    assert list(one.returns) == [float(row[column]) for row in table]
    assert list(one.steps) == [10_000 * (int(row["iteration"]) + 2) for row in table]


@pytest.mark.parametrize("arm", ["STEVE", "MVE", "DDPG"])
def test_the_points_of_steve_s_code_are_means_over_its_runs(arm):
    (one,) = [one for one in references() if one.label.startswith(f"{arm}, fork")]
    for steps, value in zip(one.steps, one.returns, strict=True):
        means = [float(row["mean"]) for row in rows("released.csv") if row["arm"] == arm and int(row["to"]) == steps]
        assert value == pytest.approx(np.mean(means), abs=1)


def test_steps_and_returns_belong_together():
    with pytest.raises(ValidationError, match="x has 2 steps and 1 returns"):
        Reference(label="x", env="e", source="s", statistic="t", steps=(1, 2), returns=(1.0,))
