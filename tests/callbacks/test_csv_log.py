"""What every run writes, and what of it is undone when a run continues from a checkpoint."""

import csv

import numpy as np
import pytest
from played import Line, Played

from foretell.envs import empty_episodes
from foretell.training.events import TrainingStarted


def test_episodes_and_metrics_are_written_as_they_happen(tmp_path):
    run = Played(tmp_path / "run", list)
    run.episode("random", 1.0)
    run.learn(train_loss=0.5)
    assert [row["return"] for row in run.directory.read_episodes()] == [1.0]
    assert run.directory.read_episode(0)["observations"].shape == (6, 2)
    with run.directory.metrics.open(newline="") as file:
        assert [row["train_loss"] for row in csv.DictReader(file)] == ["0.5"]


@pytest.mark.long
def test_what_came_after_the_checkpoint_is_removed(tmp_path):
    run = Played(tmp_path / "run", list)
    run.episode("random", 1.0)
    run.learn(train_loss=0.5)
    checkpoint = run.save()
    run.episode("train", 2.0)
    run.learn(train_loss=0.25)
    run.resume(checkpoint)
    assert [row["episode"] for row in run.directory.read_episodes()] == [0]
    assert len(run.directory.metrics.read_text().splitlines()) == 2
    assert [path.name for path in run.directory.data.iterdir()] == ["episode_0000.npz"]


@pytest.mark.long
def test_data_of_an_episode_that_is_under_way_again_are_removed(tmp_path):
    """It may have ended before one that began earlier."""
    run = Played(tmp_path / "run", list)
    for value in range(3):
        run.episode("train", value)
    episodes = empty_episodes(Line.spec, 1)
    episodes.number[0] = 1
    run.call("on_training_start", TrainingStarted, episodes=episodes)
    assert sorted(path.name for path in run.directory.data.iterdir()) == ["episode_0000.npz", "episode_0002.npz"]
    assert np.load(run.directory.data / "episode_0002.npz")["kind"] == "train"
