"""Open-loop predictions: errors by number of steps, and a picture."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from environments import SPEC
from foretell.agents import Agent
from foretell.cli import main
from foretell.diagnostics.prediction import Track, open_loop_predictions, prediction_errors, tracks
from foretell.models import Step, TrainedModel
from foretell.training.controller import Controller, EvaluationResult
from tiny import LINE


class Drifts(TrainedModel):
    """A model of a point that moves by its action, but for a drift at each step that differs between two particles."""

    needs_data, particles = True, 2

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape)) + jnp.array([-0.1, 0.1])[:, None, None]

    def step(self, params, carry, action, key):
        there = carry + action + params
        return there, Step(there, jnp.zeros((1, *there.shape[:2])), jnp.zeros(there.shape[:2]))


class Drifting(Agent):
    """It only has that model, whose parameters are its state."""

    model = Drifts()

    def policy(self, state):
        return ()

    def model_params(self, state):
        return state


def controller_of(drift):
    return Controller(Drifting(), drift, SPEC)


def moving(length, seed=0):
    actions = np.random.default_rng(seed).normal(size=(length, 2)).astype(np.float32)
    return Track(np.concatenate([np.zeros((1, 2), np.float32), np.cumsum(actions, 0)]), actions)


def test_a_perfect_model_has_no_error():
    assert prediction_errors(controller_of(0.0), [moving(120), moving(40, 1)]) == pytest.approx(
        dict.fromkeys((1, 5, 10, 50, 100), 0.0), abs=1e-8
    )


def test_errors_are_in_deviations_of_each_dimension():
    track = moving(30)
    track = track._replace(obs=track.obs * np.float32([1.0, 10.0]), actions=track.actions * np.float32([1.0, 10.0]))
    errors = prediction_errors(controller_of(jnp.array([0.5, 0.0])), [track])
    assert list(errors) == [1, 5, 10]
    for steps, error in errors.items():
        assert error == pytest.approx((0.5 * steps / track.obs[:, 0].std()) ** 2 / 2, rel=1e-4)


def test_predictions_begin_at_the_real_observation_of_each_start():
    obs, actions = np.random.default_rng(0).normal(size=(70, 2)), np.zeros((70, 3, 2))
    found = open_loop_predictions(controller_of(0.5), np.float32(obs), np.float32(actions))
    assert found.shape == (70, 4, 2, 2)
    np.testing.assert_allclose(found[:, 0], np.stack([obs, obs], 1), rtol=1e-5)
    np.testing.assert_allclose(found[:, 3, 1], obs + 1.5 + 0.1, rtol=1e-4)


def test_transitions_are_parted_into_episodes():
    rows = [(np.full(2, i), np.full(1, i), 0.0, np.full(2, i + 1), False) for i in range(5)]
    first, second = tracks(rows, [EvaluationResult(0.0, 2), EvaluationResult(0.0, 3)])
    assert first.obs[:, 0].tolist() == [0, 1, 2] and first.actions[:, 0].tolist() == [0, 1]
    assert second.obs[:, 0].tolist() == [2, 3, 4, 5] and second.actions[:, 0].tolist() == [2, 3, 4]


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.long
def test_inspect_prints_and_draws_them(copied, capsys):
    assert main(["inspect", str(copied), "--episodes", "2"]) == 0
    out = capsys.readouterr().out
    assert "after   1 step " in out and "after   5 steps" in out and "after  10" not in out
    assert (copied / "figures" / "prediction.png").stat().st_size > 5000


@pytest.mark.long
def test_an_inspection_holds_them(copied):
    found = foretell.load(copied, quiet=True).inspect(2)
    assert found.histogram is None and list(found.errors) == [1, 5]
    assert all(error > 0 for error in found.errors.values())


@pytest.mark.long
def test_the_true_model_is_not_measured_against_itself(tmp_path):
    small = {"planner": {"horizon": 2, "population": 4, "elites": 2, "kept_elites": 0}, "model": {"threads": 1}}
    options = {"env": LINE, "overrides": [small, {"train": {"trials": 1}}], "quiet": True}
    found = foretell.train("pets/default+true-model", out=tmp_path / "run", **options).inspect(1)
    assert found.errors is None and found.histogram is None and len(found.results) == 1
