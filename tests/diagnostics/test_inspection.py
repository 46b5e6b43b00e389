"""What `foretell inspect` shows of a trained agent."""

import numpy as np
import pytest

import foretell
from environments import STEPS
from foretell.cli import main
from foretell.diagnostics import inspection, prediction
from foretell.diagnostics.inspection import weight_histogram
from foretell.errors import UserError
from tiny import LINE

SMALL = {
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 5},
    "train": {
        "steps": 20,
        "steps_per_learning": 5,
        "random_steps": 10,
        "eval_episodes": 0,
        "capacity": 50,
        "save_all_models": True,
    },
}


@pytest.fixture(scope="module", params=["steve/default", "ddpg/default"])
def run(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("inspected") / "run"
    return request.param, foretell.train(request.param, out=out, env=LINE, overrides=[SMALL], quiet=True)


@pytest.mark.long
def test_weights_fall_into_ten_buckets_whose_upper_edge_belongs_to_them():
    weights = np.array([[0.05, 0.1, 0.11, 1.0], [-0.5, 0.0, 1.7, 0.95]])
    shares = weight_histogram(weights)
    np.testing.assert_allclose(shares.sum(0), 1)
    assert shares[:, 0].tolist() == [0.5, 0.25, 0, 0, 0, 0, 0, 0, 0, 0.25]
    assert shares[:, 1].tolist() == [0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0.5]


@pytest.mark.long
def test_an_inspection_has_episodes_and_if_there_is_a_model_a_share_for_each_horizon(run):
    preset, trained = run
    found = trained.inspect(3)
    assert found.results == trained.evaluate(3) and [one.length for one in found.results] == [STEPS] * 3
    if preset == "ddpg/default":
        assert found.histogram is None
        return
    assert found.histogram.shape == (10, 4)
    np.testing.assert_allclose(found.histogram.sum(0), 1)
    assert trained.weights_figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_the_command_prints_them(run, capsys):
    preset, trained = run
    assert main(["inspect", str(trained.directory), "--episodes", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("episode ") == 2 and "over 2 episodes" in out
    assert ("H = 3" in out) == (preset == "steve/default")
    assert ("it has no model" in out) == (preset == "ddpg/default")


@pytest.mark.long
def test_the_data_of_a_trial_are_all_transitions_up_to_its_end(run, monkeypatch):
    """Two random episodes and two trials of five steps each, in the order in which they were played."""
    preset, trained = run
    if preset == "ddpg/default":
        return
    seen = []
    weights = inspection.horizon_weights
    monkeypatch.setattr(
        "foretell.run.examined.horizon_weights", lambda *args: (seen.append(args[1]), weights(*args))[1]
    )
    for trial, steps in ((1, 15), (2, 20), (None, 20)):
        found = foretell.load(trained.directory, trial=trial, quiet=True).inspect(replay=True)
        assert found.results == [] and found.histogram.shape == (10, 4)
        played = [np.load(trained.directory / "data" / f"episode_{i:04d}.npz") for i in range(steps // STEPS)]
        for name, rows in (("action", "actions"), ("reward", "rewards")):
            expected = np.concatenate([episode[rows] for episode in played])
            np.testing.assert_array_equal(getattr(seen[-1], name), expected.astype(np.float32))
        starts = np.concatenate([episode["observations"][:-1] for episode in played])
        np.testing.assert_array_equal(seen[-1].obs, starts.astype(np.float32))


@pytest.mark.long
def test_the_command_shows_the_agent_and_the_data_of_a_trial(run, capsys, refused):
    preset, trained = run
    assert main(["inspect", str(trained.directory), "--trial", "1", "--replay"]) == 0
    out = capsys.readouterr().out
    assert "episode " not in out and ("H = 3" in out) == (preset == "steve/default")
    assert "there are trial_0001 to trial_0002" in refused("inspect", trained.directory, "--trial", "3")
    assert refused("inspect", trained.directory, "--replay", "--video") == (
        "--replay shows the data of a trial, so it cannot be given with --video"
    )


@pytest.mark.long
def test_what_has_been_overwritten_is_not_shown(run, tmp_path):
    preset, _ = run
    if preset == "ddpg/default":
        return
    options = {"env": LINE, "overrides": [SMALL, {"train": {"capacity": 12}}], "quiet": True}
    foretell.train(preset, out=tmp_path / "run", **options)
    assert foretell.load(tmp_path / "run", trial=2, quiet=True).inspect(replay=True).histogram is not None
    with pytest.raises(UserError, match="5 of the 12 transitions that the replay held then have been overwritten"):
        foretell.load(tmp_path / "run", trial=1, quiet=True).inspect(replay=True)


@pytest.mark.long
def test_a_planners_data_are_the_episodes_that_it_learned_from(trained, monkeypatch):
    seen = []
    errors = prediction.prediction_errors
    monkeypatch.setattr(
        "foretell.run.examined.prediction_errors", lambda *args: (seen.append(args[1]), errors(*args))[1]
    )
    found = foretell.load(trained, quiet=True).inspect(replay=True)
    assert list(found.errors) == [1, 5] and not found.results
    for number, track in enumerate(seen[0]):
        recorded = np.load(trained / "data" / f"episode_{number:04d}.npz")
        np.testing.assert_array_equal(track.obs, recorded["observations"].astype(np.float32))
    assert len(seen[0]) == 3


@pytest.mark.long
def test_mistakes(run, refused):
    assert refused("inspect", run[1].directory, "--episodes", "0") == "episodes must be at least 1, not 0"


@pytest.mark.long
def test_a_finished_run_says_that_its_steps_are_done(run, capsys):
    assert main(["resume", str(run[1].directory)]) == 0
    assert "already finished: all 20 steps are done; for more, raise train.steps" in capsys.readouterr().out
