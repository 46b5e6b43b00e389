"""Runs between whose episodes the agent learns: what happens when, and what is written of it."""

import csv
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from witness import finished

from environments import STEPS
from foretell.keys import Stream, numpy_generator
from foretell.runs.directory import EPISODE_COLUMNS
from foretell.training import learner, stopwatch
from tiny import LINE

SCHEDULE = {"env": LINE, "seed": 1, "trials": 2, "random_episodes": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("loop") / "run", eval_episodes=1, **SCHEDULE)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def kinds_of(run):
    return [row["kind"] for row in run.episodes]


@pytest.mark.long
def test_the_schedule_is_random_then_trials_each_followed_by_evaluation(run):
    assert kinds_of(run) == ["random", "random", "train", "eval", "train", "eval"]


@pytest.mark.long
def test_environment_steps_count_what_is_learned_from(run):
    assert [row["env_steps"] for row in run.episodes] == [5, 10, 15, 15, 20, 20]


@pytest.mark.long
def test_episodes_csv_has_exactly_the_promised_columns(run):
    assert tuple(rows(run.directory.episodes)[0]) == EPISODE_COLUMNS


def test_learning_precedes_each_trial_and_sees_all_steps_so_far(run):
    learned = rows(run.directory.metrics)
    assert [int(row["env_steps"]) for row in learned] == [10, 15]
    assert all(np.isfinite(float(value)) for row in learned for value in row.values())


def test_every_phase_is_timed(monkeypatch, tmp_path):
    """A clock that goes on by one second whenever it is asked; nothing waits for learning."""
    seconds = itertools.count()
    monkeypatch.setattr(stopwatch, "now", lambda: float(next(seconds)))
    monkeypatch.setattr(learner, "now", float)
    second = rows(finished(tmp_path / "run", **SCHEDULE).directory.metrics)[1]
    assert [float(second[f"{phase}_seconds"]) for phase in ("plan", "step", "fit")] == [STEPS, STEPS, 2]


def test_the_clock_never_goes_back(monkeypatch):
    read = iter([1e9, 1e9 - 6e-5, 1e9 + 1])
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter=lambda: next(read)))
    monkeypatch.setattr(stopwatch, "_latest", 0.0)
    assert [stopwatch.now() for _ in range(3)] == [1e9, 1e9, 1e9 + 1]


def test_the_data_of_every_episode_are_on_disk(run):
    for row in run.episodes:
        data = run.data_of(row["episode"])
        assert data["observations"].shape == (STEPS + 1, 2) and data["actions"].shape == (STEPS, 1)
        assert float(data["returns"]) == pytest.approx(row["return"]) == pytest.approx(data["rewards"].sum())
        assert str(data["kind"]) == row["kind"]


@pytest.mark.long
def test_random_actions_are_uniform_over_the_action_range(tmp_path):
    run = finished(tmp_path / "run", env=LINE, trials=1, random_episodes=60, capacity=400)
    actions = np.concatenate([run.data_of(episode)["actions"] for episode in range(60)])
    assert len(actions) == 300 and actions.min() >= -1 and actions.max() <= 1
    assert abs(actions.mean()) < 0.15 and 0.5 < actions.std() < 0.65


@pytest.mark.long
def test_evaluation_episodes_are_not_learned_from(run, tmp_path):
    """And take no part in what comes after them, but for the numbers of episodes."""
    plain = finished(tmp_path / "plain", **SCHEDULE)
    trials = [next(row["return"] for row in one.episodes if row["kind"] == "train") for one in (plain, run)]
    assert trials[0] == trials[1]
    steps = [[int(row["env_steps"]) for row in rows(one.directory.metrics)] for one in (plain, run)]
    assert steps[0] == steps[1]


@pytest.mark.long
def test_random_episodes_go_on_until_there_are_enough_steps(tmp_path):
    run = finished(tmp_path / "run", env=LINE, trials=1, random_steps=11)
    assert kinds_of(run) == ["random"] * 3 + ["train"]


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    """A run with short random episodes and three warm-ups, each longer than the one before."""
    schedule = {"random_steps": 8, "random_horizon": 3, "warmup_episodes": 3, "warmup_horizon": 2}
    out = tmp_path_factory.mktemp("warmed") / "run"
    return finished(out, eval_episodes=1, **{**SCHEDULE, **schedule, "warmup_last_horizon": 4})


@pytest.mark.long
def test_random_episodes_and_warm_ups_may_be_short_and_trials_are_not(warmed):
    kinds = ["random"] * 3 + ["warmup"] * 3 + ["train", "eval"] * 2
    assert kinds_of(warmed) == kinds
    assert [row["length"] for row in warmed.episodes] == [3] * 3 + [2, 3, 4] + [5] * 4
    assert [str(warmed.data_of(row["episode"])["kind"]) for row in warmed.episodes] == kinds


@pytest.mark.long
def test_learning_precedes_each_warm_up_and_sees_those_before(warmed):
    learned = rows(warmed.directory.metrics)
    assert [int(row["episode"]) for row in learned] == [3, 4, 5, 6, 8]
    assert [int(row["env_steps"]) for row in learned] == [9, 11, 14, 18, 23]


@pytest.mark.long
def test_warm_ups_are_not_trials(warmed):
    assert warmed.loop.counters.trials == 2 and warmed.loop.counters.warmups == 3


def test_warm_ups_are_acted_by_the_agent(warmed):
    for row in warmed.episodes:
        actions = warmed.data_of(row["episode"])["actions"]
        random = numpy_generator(1, Stream.RANDOM, row["episode"]).uniform(-1, 1, (STEPS, 1))[: len(actions)]
        assert np.isclose(actions, random).all() == (row["kind"] == "random")
        assert np.isclose(actions, random).mean() in (0, 1)


@pytest.mark.long
def test_only_the_newest_checkpoints_are_kept(tmp_path):
    """There is one at the end of every trial."""
    run = finished(tmp_path / "run", env=LINE, trials=4, checkpoints=2)
    assert sorted(path.name for path in run.directory.checkpoints.iterdir()) == ["3", "4"]


def test_growing_data_recompile_nothing(trained):
    """Of a whole agent, with a model and a planner."""
    learned = rows(trained / "metrics.csv")
    assert len(learned) == 2 and len({row["compile_count"] for row in learned}) == 1


@pytest.mark.long
def test_the_run_directory_is_complete(trained):
    assert (trained / "figures" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert any((trained / "tensorboard").iterdir())
    config = (trained / "config.yaml").read_text()
    assert "provenance" in config and "git_commit" in config and "seed: 0" in config


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.long
def test_the_agent_does_not_learn_from_validation_episodes(rounds, tmp_path):
    """Of the trials between two calls of `learn`, all but the last are in the replay of the second call."""
    schedule = {"environments": 2, "episodes_per_learning": rounds, "trials": 4 * rounds, "validation_episodes": 1}
    run = finished(tmp_path / "run", env=LINE, random_episodes=2, **schedule)
    seen, trials = run.loop.state.agent.seen, 2 * rounds - 1
    assert np.asarray(seen.added[:2]).tolist() == [2 * STEPS, (2 + trials) * STEPS]
    stored = np.asarray(seen.data.action[1, 2 * STEPS : (2 + trials) * STEPS, 0])
    played = [run.data_of(2 + episode)["actions"][:, 0] for episode in range(trials)]
    np.testing.assert_allclose(np.sort(stored), np.sort(np.concatenate(played)), rtol=1e-6)
