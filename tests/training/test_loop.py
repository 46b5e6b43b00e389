"""Runs between whose episodes the agent learns: what happens when, and what is written of it."""

import csv

import numpy as np
import pytest

import foretell
from foretell.keys import Stream, numpy_generator
from foretell.runs.directory import EPISODE_COLUMNS

TINY = {
    "model": {"hidden": [8], "weight_decay": [0.0, 0.0]},
    "fit": {"min_steps": 5, "epochs": 1},
    "planner": {"horizon": 4, "population": 6, "elites": 2, "kept_elites": 1},
    "train": {"trials": 2, "capacity": 2000},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    schedule = {**TINY, "train": {"trials": 2, "random_episodes": 2, "eval_episodes": 1, "capacity": 2000}}
    out = tmp_path_factory.mktemp("loop") / "run"
    return foretell.train("pets/cartpole", seed=1, out=out, overrides=[schedule], quiet=True)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_schedule_is_random_then_trials_each_followed_by_evaluation(run):
    kinds = [row["kind"] for row in run.episodes]
    assert kinds == ["random", "random", "train", "eval", "train", "eval"]


def test_environment_steps_count_what_is_learned_from(run):
    assert [row["env_steps"] for row in run.episodes] == [200, 400, 600, 600, 800, 800]


def test_episodes_csv_has_exactly_the_promised_columns(run):
    assert tuple(rows(run.directory / "episodes.csv")[0]) == EPISODE_COLUMNS


def test_learning_precedes_each_trial_and_sees_all_steps_so_far(run):
    learned = rows(run.directory / "metrics.csv")
    assert [int(row["env_steps"]) for row in learned] == [400, 600]
    assert all(np.isfinite(float(value)) for row in learned for value in row.values())


def test_every_phase_is_timed(run):
    _, second = rows(run.directory / "metrics.csv")
    assert float(second["plan_seconds"]) > 0 and float(second["step_seconds"]) > 0 and float(second["fit_seconds"]) > 0


def test_the_data_of_every_episode_are_on_disk(run):
    for row in run.episodes:
        data = np.load(run.directory / "data" / f"episode_{row['episode']:04d}.npz")
        assert data["observations"].shape == (201, 4) and data["actions"].shape == (200, 1)
        assert float(data["returns"]) == pytest.approx(row["return"]) == pytest.approx(data["rewards"].sum())
        assert str(data["kind"]) == row["kind"]


def test_random_episodes_are_uniform_over_the_action_range(run):
    actions = np.load(run.directory / "data" / "episode_0000.npz")["actions"]
    assert actions.min() >= -3 and actions.max() <= 3
    assert abs(actions.mean()) < 0.5 and 1.4 < actions.std() < 2.1


@pytest.mark.long
def test_evaluation_episodes_are_not_learned_from(run, tmp_path):
    without = {**TINY, "train": {"trials": 2, "random_episodes": 2, "capacity": 2000}}
    plain = foretell.train("pets/cartpole", seed=1, out=tmp_path / "plain", overrides=[without], quiet=True)
    assert plain.returns[0] == run.returns[0]
    steps = [int(row["env_steps"]) for row in rows(plain.directory / "metrics.csv")]
    assert steps == [int(row["env_steps"]) for row in rows(run.directory / "metrics.csv")]


@pytest.mark.long
def test_random_episodes_go_on_until_there_are_enough_steps(tmp_path):
    schedule = {**TINY, "train": {"trials": 1, "random_steps": 450, "capacity": 2000}}
    run = foretell.train("pets/cartpole", out=tmp_path / "run", overrides=[schedule], quiet=True)
    assert [row["kind"] for row in run.episodes] == ["random"] * 3 + ["train"]


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    """A run with short random episodes and three warm-ups, each longer than the one before."""
    schedule = {"trials": 2, "random_steps": 70, "random_horizon": 30}
    schedule |= {"warmup_episodes": 3, "warmup_horizon": 20, "warmup_last_horizon": 26}
    out = tmp_path_factory.mktemp("warmed") / "run"
    overrides = [{**TINY, "train": {**schedule, "capacity": 2000, "eval_episodes": 1}}]
    return foretell.train("pets/cartpole", seed=1, out=out, overrides=overrides, quiet=True)


@pytest.mark.long
def test_random_episodes_and_warm_ups_may_be_short_and_trials_are_not(warmed):
    kinds = ["random"] * 3 + ["warmup"] * 3 + ["train", "eval"] * 2
    assert [row["kind"] for row in warmed.episodes] == kinds
    assert [row["length"] for row in warmed.episodes] == [30] * 3 + [20, 23, 26] + [200] * 4
    kinds_on_disk = [np.load(path)["kind"] for path in sorted((warmed.directory / "data").iterdir())]
    assert [str(kind) for kind in kinds_on_disk] == kinds


@pytest.mark.long
def test_learning_precedes_each_warm_up_and_sees_those_before(warmed):
    learned = rows(warmed.directory / "metrics.csv")
    assert [int(row["episode"]) for row in learned] == [3, 4, 5, 6, 8]
    assert [int(row["env_steps"]) for row in learned] == [90, 110, 133, 159, 359]


@pytest.mark.long
def test_warm_ups_are_not_trials(warmed):
    assert len(warmed.returns) == 2
    assert list(warmed.returns) == [row["return"] for row in warmed.episodes if row["kind"] == "train"]


@pytest.mark.long
def test_warm_ups_are_acted_by_the_agent(warmed):
    for episode, row in enumerate(warmed.episodes):
        actions = np.load(warmed.directory / "data" / f"episode_{episode:04d}.npz")["actions"]
        random = numpy_generator(1, Stream.RANDOM, episode).uniform(-3, 3, (200, 1))[: len(actions)]
        assert np.isclose(actions, random).all() == (row["kind"] == "random")
        assert np.isclose(actions, random).mean() in (0, 1)


@pytest.mark.long
def test_growing_data_recompile_nothing_and_only_the_newest_checkpoints_are_kept(tmp_path):
    schedule = {**TINY, "train": {"trials": 4, "checkpoints": 2, "capacity": 2000}}
    run = foretell.train("pets/cartpole", out=tmp_path / "run", overrides=[schedule], quiet=True)
    assert sorted(path.name for path in (run.directory / "checkpoints").iterdir()) == ["3", "4"]
    assert len({row["compile_count"] for row in rows(run.directory / "metrics.csv")}) == 1


def test_the_run_directory_is_complete(run):
    assert (run.directory / "figures" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert any((run.directory / "tensorboard").iterdir())
    config = (run.directory / "config.yaml").read_text()
    assert "provenance" in config and "git_commit" in config and "seed: 1" in config
