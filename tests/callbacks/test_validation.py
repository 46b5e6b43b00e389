"""`validation.csv`: errors of predictions on held-out episodes, here of a model that drifts at each step."""

import csv
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from played import Idle, Played

from foretell.callbacks import Validation
from foretell.diagnostics.prediction import Predictor, Track, errors_along, spread
from foretell.errors import UserError
from foretell.models import Step, TrainedModel


class Drifts(TrainedModel):
    needs_data, particles = True, 1

    def begin(self, params, obs, key, particles):
        return obs[None]

    def step(self, params, carry, action, key):
        there = carry + params
        return there, Step(there, jnp.zeros(there.shape[:2])[None], jnp.zeros(there.shape[:2]))


class Drifting(Idle):
    model = Drifts()

    def model_params(self, state):
        return state


class Watched(Played):
    """The observations of its episodes are constant, so the error after n steps is the square of n times the drift."""

    def info(self, **schedule):
        super().info(**schedule)
        self.run = replace(self.run, agent=Drifting())

    def rows(self):
        path = self.directory.validation
        if not path.exists():
            return []
        with path.open(newline="") as file:
            found = list(csv.DictReader(file))
        assert all(row["error_10"] == row["error_100"] == "" for row in found)  # of episodes of five steps
        for row in found:
            assert float(row["error_5"]) == pytest.approx(25 * float(row["error_1"]), rel=1e-4)
        return [(int(row["episode"]), int(row["held_out"]), round(float(row["error_1"]), 4)) for row in found]


def watched(path, **schedule):
    run = Watched(path / "run", list, **schedule)
    run._make = lambda: [Validation(run.run)]
    run.resume(run.counters)
    return run


def test_each_trial_is_held_out_until_the_agent_learns_from_it(tmp_path):
    run = watched(tmp_path, eval_episodes=1)
    for kind, drift in (("random", 9.0), ("train", 0.5), ("eval", 9.0), ("train", 0.1)):
        run.episode(kind, 0.0, drift)
    assert run.rows() == [(2, 1, 0.25), (4, 1, 0.01)]


def test_agents_that_learn_within_episodes_are_measured_on_evaluation_episodes(tmp_path):
    run = watched(tmp_path, steps_per_learning=5, random_episodes=0, eval_episodes=1)
    for kind, drift in (("train", 9.0), ("eval", 0.5), ("train", 9.0)):
        run.episode(kind, 0.0, drift)
    assert run.rows() == [(2, 1, 0.25)]


def test_trials_for_validation_are_measured_together_after_learning(tmp_path):
    """Of two trials the second one; at the start of the next iteration those of all iterations before."""
    run = watched(tmp_path, episodes_per_learning=2, validation_episodes=1)
    for drift in (0.1, 0.2, 0.3, 0.4, 0.5):
        run.episode("train", 0.0, drift)
    assert run.rows() == [(3, 1, 0.09), (5, 2, 0.25)]


def test_rows_after_the_checkpoint_are_written_again(tmp_path):
    run = watched(tmp_path)
    run.episode("train", 0.0, 0.5)
    at = run.save()
    run.episode("train", 0.0, 0.4)
    run.resume(at)
    run.episode("train", 0.0, 0.3)
    assert run.rows() == [(1, 1, 0.25), (2, 1, 0.09)]


def test_an_agent_without_a_learned_model(tmp_path):
    run = Played(tmp_path / "run", list)
    with pytest.raises(UserError) as mistake:
        Validation(run.run)
    assert str(mistake.value) == "train.validation_errors needs an agent with a learned model; set it to false"


def test_the_unit_is_the_standard_deviation_that_is_given():
    obs = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    track, predict, drift = Track(obs, np.zeros((5, 1), np.float32)), Predictor(Drifts()), jnp.float32(0.0)
    found = [errors_along(predict, drift, [track], std)[1] for std in (np.ones(2), np.array([2.0, 1.0]), None)]
    # Only the start of an episode is followed by five steps.
    first = np.square(obs[1] - obs[0])
    scaled = [first.mean(), (first / [4.0, 1.0]).mean(), (first / np.square(obs.std(0))).mean()]
    np.testing.assert_allclose(found, scaled, rtol=1e-5)
    np.testing.assert_allclose(spread([track]), obs.std(0))
