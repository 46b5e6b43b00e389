"""`log.txt`: costs and returns of the trials between two calls of `learn`."""

import csv

import numpy as np
import pytest

import foretell
from tiny import LINE, TINY, interrupted_at

COLUMNS = [
    "Iteration",
    *(f"{what}{of}" for of in ("Cost", "Return") for what in ("Average", "Std", "Minimum", "Maximum")),
]


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
def lined(tmp_path_factory):
    return train(tmp_path_factory.mktemp("iterations") / "run")


def test_a_line_for_each_iteration_with_the_homeworks_columns(lined):
    rows = read(lined.directory)
    assert list(rows[0]) == COLUMNS
    assert [row["Iteration"] for row in rows] == ["0", "1", "2"]


def test_costs_are_the_planners_and_returns_the_environments(lined):
    trials = [row for row in lined.episodes if row["kind"] == "train"]
    for i, row in enumerate(read(lined.directory)):
        costs = []
        for trial in trials[2 * i : 2 * i + 2]:
            with np.load(lined.directory / "data" / f"episode_{trial['episode']:04d}.npz") as file:
                obs, actions = file["observations"], file["actions"]
            costs.append(-reward(obs[:-1], actions, obs[1:]).sum())
        for name, values in (("Cost", costs), ("Return", [trial["return"] for trial in trials[2 * i : 2 * i + 2]])):
            expected = [np.mean(values), np.std(values), np.min(values), np.max(values)]
            found = [float(row[f"{what}{name}"]) for what in ("Average", "Std", "Minimum", "Maximum")]
            np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_cost_of_a_learned_reward_is_not_known(tmp_path):
    row = read(train(tmp_path / "run", judge=None, trials=2).directory)[0]
    assert row["AverageCost"] == "nan" and float(row["AverageReturn"]) < 0


@pytest.mark.parametrize("moment", [("step", 17), ("episode_end", 5)])
def test_it_survives_an_interrupt(moment, lined, tmp_path):
    with interrupted_at(*moment):
        train(tmp_path / "run")
    foretell.resume(tmp_path / "run", reward=reward, quiet=True)
    assert (tmp_path / "run" / "log.txt").read_bytes() == (lined.directory / "log.txt").read_bytes()


def test_single_trials_are_no_iterations(trained):
    assert not (trained / "log.txt").exists()
