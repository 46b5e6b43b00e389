"""What `foretell inspect` shows of a trained agent."""

import numpy as np
import pytest

import foretell
from environments import STEPS
from foretell.cli import main
from foretell.diagnostics.inspection import weight_histogram
from tiny import LINE

SMALL = {
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 5},
    "train": {"steps": 20, "steps_per_learning": 5, "random_steps": 10, "eval_episodes": 0, "capacity": 50},
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
def test_mistakes(run, refused):
    assert refused("inspect", run[1].directory, "--episodes", "0") == "episodes must be at least 1, not 0"


@pytest.mark.long
def test_a_finished_run_says_that_its_steps_are_done(run, capsys):
    assert main(["resume", str(run[1].directory)]) == 0
    assert "already finished: all 20 steps are done; for more, raise train.steps" in capsys.readouterr().out
