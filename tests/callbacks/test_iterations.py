"""`log.txt`: costs and returns of the trials between two calls of `learn`."""

import csv

import numpy as np
import pytest

import foretell
from tiny import LINE, TINY, by_hand, interrupted_at

STATISTICS = {"Average": np.mean, "Std": np.std, "Minimum": np.min, "Maximum": np.max}


def reward(obs, action, next_obs):
    """Not what the environment pays."""
    return 3.0 - next_obs[..., 0] - obs[..., 1] + action[..., 0]


def train(out, judge=reward, **schedule):
    iterations = {"environments": 2, "trials": 6, "random_episodes": 2, **schedule}
    changes = [TINY, {"train": iterations}]
    return foretell.train("pets/default", out=out, env=LINE, reward=judge, overrides=changes, quiet=True)


def read(run):
    with (run / "log.txt").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    return train(tmp_path_factory.mktemp("iterations") / "run")


@pytest.mark.long
def test_each_iteration_has_a_line_with_the_homeworks_columns(logged):
    rows = read(logged.directory)
    assert list(rows[0]) == ["Iteration", *(f"{what}{of}" for of in ("Cost", "Return") for what in STATISTICS)]
    assert [row["Iteration"] for row in rows] == ["0", "1", "2"]


def cost(run, number):
    with np.load(run / "data" / f"episode_{number:04d}.npz") as file:
        obs, actions = file["observations"], file["actions"]
    return -reward(obs[:-1], actions, obs[1:]).sum()


@pytest.mark.long
def test_costs_are_the_planners_and_returns_the_environments(logged):
    trials = [row for row in logged.episodes if row["kind"] == "train"]
    for i, row in enumerate(read(logged.directory)):
        pair = trials[2 * i : 2 * i + 2]
        values = {"Cost": [cost(logged.directory, trial["episode"]) for trial in pair]}
        values["Return"] = [trial["return"] for trial in pair]
        for name in values:
            expected = [function(values[name]) for function in STATISTICS.values()]
            found = [float(row[f"{what}{name}"]) for what in STATISTICS]
            np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.long
def test_the_cost_of_a_learned_reward_is_not_a_number(tmp_path):
    row = read(train(tmp_path / "run", judge=None, trials=2).directory)[0]
    assert row["AverageCost"] == "nan" and float(row["AverageReturn"]) < 0


@pytest.mark.long
@pytest.mark.parametrize("moment", [("step", 17), *by_hand(("episode_end", 5))])
def test_an_interrupted_run_writes_the_same(moment, logged, tmp_path):
    with interrupted_at(*moment):
        train(tmp_path / "run")
    foretell.resume(tmp_path / "run", reward=reward, quiet=True)
    assert (tmp_path / "run" / "log.txt").read_bytes() == (logged.directory / "log.txt").read_bytes()


@pytest.mark.long
def test_single_trials_are_no_iterations(trained):
    assert not (trained / "log.txt").exists()
