"""`logs.mat`: what is in it, and what of shorter episodes is not."""

import numpy as np
import pytest
from scipy.io import loadmat

from foretell.cli import main
from foretell.errors import UserError
from foretell.report.mat import export_mat, export_predictions
from foretell.runs.directory import RunDirectory

EPISODES = [("random", 3), ("warmup", 2), ("train", 5), ("eval", 7), ("train", 4)]
LEARNED = [0, 1, 2, 4]


@pytest.fixture
def run(tmp_path):
    """Finished episodes of different lengths, by no agent."""
    directory, rng = RunDirectory.create(tmp_path / "run", overwrite=False), np.random.default_rng(0)
    directory.data.mkdir()
    directory.config.write_text("")
    for number, (kind, length) in enumerate(EPISODES):
        row = {"episode": number, "env_steps": 0, "kind": kind, "return": 0.0, "length": length, "wall_seconds": 0.0}
        obs, actions, rewards = rng.normal(size=(length + 1, 3)), rng.normal(size=(length, 2)), rng.normal(size=length)
        directory.write_episode({**row, "return": float(rewards.sum())}, obs, actions, rewards, number=0)
    return directory


def test_it_has_the_released_codes_arrays(run, tmp_path):
    shapes = export_mat(run, tmp_path / "logs.mat")
    found = {name: array for name, array in loadmat(tmp_path / "logs.mat").items() if not name.startswith("__")}
    assert shapes == {name: array.shape for name, array in found.items()}
    assert shapes == {"observations": (4, 6, 3), "actions": (4, 5, 2), "rewards": (4, 5), "returns": (1, 3)}


def test_it_has_every_episode_that_was_learned_from_and_pads_the_shorter(run, tmp_path):
    export_mat(run, tmp_path / "logs.mat")
    found = loadmat(tmp_path / "logs.mat")
    for name in ("observations", "actions", "rewards"):
        for padded, number in zip(found[name], LEARNED, strict=True):
            array = run.read_episode(number)[name]
            np.testing.assert_array_equal(padded[: len(array)], array)
            assert np.isnan(padded[len(array) :]).all()


def test_returns_are_those_of_trials_and_evaluations_in_order(run, tmp_path):
    export_mat(run, tmp_path / "logs.mat")
    expected = [run.read_episode(number)["rewards"].sum() for number in (2, 3, 4)]
    np.testing.assert_allclose(loadmat(tmp_path / "logs.mat")["returns"], [expected], rtol=1e-12)


@pytest.mark.long
def test_a_run_without_episodes(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", overwrite=False)
    with pytest.raises(UserError, match="has no finished episode to export"):
        export_mat(directory, tmp_path / "logs.mat")
    assert not (tmp_path / "logs.mat").exists()


@pytest.fixture
def predicted(run):
    """The run with predictions of every plan: as many as steps, each of the episode's number."""
    run.predictions.mkdir()
    for number, (_, length) in enumerate(EPISODES[2:], 2):
        np.savez(run.predictions / f"episode_{number:04d}.npz", predictions=np.full((length, 4, 2, 3), number))
    return run


@pytest.mark.parametrize(
    ("each", "iterations"), [(1, {1: [2] * 5 + [3] * 7, 2: [4] * 4}), (2, {1: [2] * 5 + [3] * 7 + [4] * 4})]
)
def test_predictions_are_written_by_iteration(each, iterations, predicted, tmp_path):
    paths = export_predictions(predicted, tmp_path, each)
    assert paths == [tmp_path / f"train_iter{i}" / "predictions.mat" for i in iterations]
    for path, plans in zip(paths, iterations.values(), strict=True):
        found = loadmat(path)["predictions"]
        assert found.shape == (len(plans), 4, 2, 3) and found[:, 0, 0, 0].tolist() == plans


def test_a_run_without_predictions_has_no_file_of_them(run, tmp_path):
    assert export_predictions(run, tmp_path, 1) == []


@pytest.mark.parametrize("out", [None, "there/mine.mat", "any.name"])
@pytest.mark.long
def test_the_command_tells_what_it_has_written_and_where(out, run, tmp_path, capsys):
    """In the run's directory, or where one likes; under exactly that name."""
    path = run.path / "logs.mat" if out is None else tmp_path / out
    assert main(["export-mat", str(run.path), *([] if out is None else ["--out", str(path)])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["observations", "4", "x", "6", "x", "3"],
        ["actions", "4", "x", "5", "x", "2"],
        ["rewards", "4", "x", "5"],
        ["returns", "1", "x", "3"],
    ]
    assert lines[4:] == [f"written to {path}"]
    assert loadmat(path)["returns"].shape == (1, 3)
