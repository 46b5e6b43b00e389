"""`predictions/`: what was expected of every plan."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from saved import HORIZON, PARTICLES, SPARSE, data_of, files_of, train
from scipy.io import loadmat

import foretell
from environments import STEPS
from foretell.agents import Schedule
from foretell.callbacks import Predictions
from foretell.cli import main
from foretell.errors import UserError
from foretell.runs.presets import resolve
from foretell.tasks import TaskSettings, make_task
from tiny import LINE, by_hand, interrupted_at


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return train(tmp_path_factory.mktemp("kept") / "run", log_predictions="particles")


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A run that executes three steps of every plan."""
    return train(tmp_path_factory.mktemp("sparse") / "run", SPARSE, save_all_models=True, log_predictions="particles")


def predictions_of(run):
    found = {}
    for path in sorted((run / "predictions").iterdir()):
        with np.load(path) as file:
            found[path.name] = dict(file)
    return found


def assert_same(first, second):
    assert first.keys() == second.keys() and first
    for name, arrays in first.items():
        assert arrays.keys() == second[name].keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, second[name][key])


@pytest.mark.long
def test_every_plan_of_every_episode_that_was_planned_has_one(kept):
    found = predictions_of(kept.directory)
    assert list(found) == [f"episode_{row['episode']:04d}.npz" for row in kept.episodes if row["kind"] != "random"]
    for arrays in found.values():
        assert arrays.keys() == {"predictions"}
        assert arrays["predictions"].shape == (STEPS, HORIZON + 1, PARTICLES, 2)
        assert np.isfinite(arrays["predictions"]).all()


@pytest.mark.long
def test_they_are_exported_by_iteration(kept, tmp_path, capsys):
    """Of the trial and the evaluation episode after it."""
    assert main(["export-mat", str(kept.directory), "--out", str(tmp_path / "logs.mat")]) == 0
    found, out = predictions_of(kept.directory), capsys.readouterr().out
    for i in (1, 2):
        path = tmp_path / f"train_iter{i}" / "predictions.mat"
        assert f"written to {path}\n" in out
        parts = [found[f"episode_{number:04d}.npz"]["predictions"] for number in (2 * i - 1, 2 * i)]
        np.testing.assert_array_equal(loadmat(path)["predictions"], np.concatenate(parts))


@pytest.mark.long
def test_they_begin_at_the_observation_and_then_differ(kept):
    for name, arrays in predictions_of(kept.directory).items():
        observations = np.float32(np.load(kept.directory / "data" / name)["observations"])
        first, later = arrays["predictions"][:, 0], arrays["predictions"][:, 1:]
        np.testing.assert_array_equal(first, np.stack([observations[:-1]] * PARTICLES, 1))
        assert (later[:, :, 0] != later[:, :, 1]).all()


@pytest.mark.long
def test_moments_are_those_of_the_particles(kept, tmp_path):
    moments = predictions_of(train(tmp_path / "run", log_predictions="moments").directory)
    particles = predictions_of(kept.directory)
    assert moments.keys() == particles.keys()
    for name, arrays in moments.items():
        assert arrays.keys() == {"means", "vars"}
        every = np.float64(particles[name]["predictions"])
        mean = every.sum(2) / PARTICLES
        np.testing.assert_allclose(arrays["means"], mean, rtol=1e-5, atol=1e-6)
        variance = np.square(every - mean[:, :, None]).sum(2) / PARTICLES
        np.testing.assert_allclose(arrays["vars"], variance, rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(arrays["vars"][:, 0], 0)


@pytest.mark.long
def test_keeping_them_changes_nothing_of_the_run(kept, tmp_path):
    plain = train(tmp_path / "run")
    assert files_of(plain.directory / "data") == files_of(kept.directory / "data")
    assert not (plain.directory / "predictions").exists()


@pytest.mark.long
def test_a_plan_that_is_executed_for_several_steps_has_one_prediction(sparse):
    for name, arrays in predictions_of(sparse.directory).items():
        observations = np.float32(np.load(sparse.directory / "data" / name)["observations"])
        assert arrays["predictions"].shape == (math.ceil(STEPS / 3), 4 + 1, PARTICLES, 2)
        np.testing.assert_array_equal(arrays["predictions"][:, 0, 0], observations[:STEPS:3])


@pytest.mark.long
def test_a_prediction_follows_the_actions_that_were_planned(sparse):
    """Three of them are executed: each particle changes as its own network expects of the actions on disk."""
    controller = foretell.load(sparse.directory, trial=1, quiet=True)._controller
    model, params = controller.agent.model, controller.agent.model_params(controller.state)
    data, (expected, *_) = data_of(sparse.directory, 1), predictions_of(sparse.directory).values()
    particles = expected["predictions"][0]
    for t in range(3):
        inputs = np.concatenate([particles[t], np.tile(data["actions"][t], (PARTICLES, 1))], -1)
        prediction = model.dynamics.regressor.predictor(params.dynamics.regressor)(jnp.float32(inputs)[:, None])
        std = np.sqrt(prediction.variance[:, 0])
        change = particles[t + 1] - particles[t]
        assert (np.abs(change - prediction.mean[:, 0]) < 6 * std + 1e-5).all()


MOMENTS = [("step", 8), *by_hand(("step", 6), ("step", 9), ("step", 13), ("episode_end", 2))]


@pytest.mark.long
@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_an_interrupted_run_keeps_the_same(moment, sparse, tmp_path):
    out = tmp_path / "run"
    with interrupted_at(*moment):
        train(out, SPARSE, log_predictions="particles")
    foretell.resume(out, quiet=True)
    assert_same(predictions_of(out), predictions_of(sparse.directory))


STEPWISE = {"steps_per_learning": 2, "random_episodes": 0, "random_steps": 5, "trials": 3, "eval_every": 3}


def assert_each_plan_is_in_its_own_episode(run):
    for name, arrays in predictions_of(run).items():
        observations = np.float32(np.load(run / "data" / name)["observations"])
        np.testing.assert_array_equal(arrays["predictions"][:, 0, 0], observations[:-1])


@pytest.mark.slow
def test_evaluation_within_a_training_episode_has_a_file_of_its_own(tmp_path):
    whole = train(tmp_path / "whole", log_predictions="particles", **STEPWISE).directory
    assert len(predictions_of(whole)) > 5
    assert_each_plan_is_in_its_own_episode(whole)
    with interrupted_at("step", 11):
        train(tmp_path / "run", log_predictions="particles", **STEPWISE)
    foretell.resume(tmp_path / "run", quiet=True)
    assert_same(predictions_of(tmp_path / "run"), predictions_of(whole))


class Killed(BaseException):
    """As SIGKILL, but for this process."""


class Kills(foretell.callbacks.Callback):
    def __init__(self, step):
        self.left = step

    def on_step(self, event):
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.mark.long
def test_plans_of_an_episode_that_was_lost_are_made_again(sparse, tmp_path):
    """The run is killed in its first trial, before it has saved anything."""
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(out, SPARSE, log_predictions="particles", callbacks=[Kills(8)])
    (plan,) = out.glob("predictions/plan_*.npy")
    plan.rename(plan.with_name("plan_0001_00001.npy"))  # a later one, which the episode would not overwrite at once
    np.save(plan.with_name("plan_0001_00007.npy"), np.zeros(3))
    foretell.resume(out, quiet=True)
    assert_same(predictions_of(out), predictions_of(sparse.directory))


@pytest.mark.parametrize("preset", ["pets/default+true-model", "trpo/default", "sac/default", "steve/default"])
@pytest.mark.long
def test_an_agent_that_does_not_plan_with_a_learned_model_is_refused(preset):
    task = make_task(TaskSettings(env=LINE))
    agent = resolve(preset, [{"task": {"env": LINE}}]).build(task)
    with pytest.raises(UserError, match=r"^train\.log_predictions needs an agent that plans with a learned model"):
        Predictions(agent, task.spec, "moments")


@pytest.mark.long
def test_a_schedule_with_several_environments_is_refused():
    with pytest.raises(ValueError, match="log_predictions needs a single environment"):
        Schedule(environments=2, log_predictions="moments")
