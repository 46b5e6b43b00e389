"""Which callbacks a run gets from its schedule."""

import gc
import weakref

import jax.numpy as jnp
import numpy as np
import pytest
from played import Played

import foretell.callbacks
from foretell.callbacks import Callback, Films, Predictions, default_callbacks
from foretell.training.events import EpisodeEnded

STEPWISE = {"steps_per_learning": 1, "random_episodes": 0, "random_steps": 5}


def names(tmp_path, quiet=True, **schedule):
    run = Played(tmp_path / "run", list, **schedule).run
    return [type(callback).__name__ for callback in default_callbacks(run, quiet=quiet)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, []),
        ({"environments": 2}, ["Iterations"]),
        ({"episodes_per_learning": 2}, ["Iterations"]),
        (STEPWISE, ["Greedy"]),
        ({"save_all_models": True, "keep_best": True}, ["Models", "KeepBest"]),
        ({"stop_at_return": 0.0}, ["StopAtReturn"]),
        ({"diagnose_every": 100}, ["Diagnostics"]),
    ],
    ids=str,
)
def test_every_run_has_a_log_first_and_what_its_schedule_asks_for(schedule, expected, tmp_path):
    assert names(tmp_path, **schedule) == ["CSVLog", "LearningCurve", "TensorBoard", *expected]


def test_only_a_run_that_is_not_quiet_prints(tmp_path):
    assert "Console" in names(tmp_path, quiet=False)


class Made(Callback):
    """Takes the place of a callback that needs more than a run played by hand has."""

    def __init__(self, *arguments):
        self.arguments = arguments


@pytest.mark.long
def test_predictions_and_films_are_made_with_what_they_need(tmp_path, monkeypatch):
    for name in ("Predictions", "Films"):
        monkeypatch.setattr(foretell.callbacks, name, Made)
    run = Played(tmp_path / "run", list, log_predictions="moments", record=1).run
    predictions, films = default_callbacks(run, quiet=True)[3:]
    assert predictions.arguments == (run.agent, run.task.spec, "moments")
    assert films.arguments == (run.task,)


@pytest.mark.long
def test_none_holds_on_to_the_arrays_of_a_record(tmp_path):
    """The run writes over them, or hands their memory to a compiled program."""
    asked = {"save_all_models": True, "keep_best": True, "stop_at_return": 0.0, "episodes_per_learning": 2}
    run = Played(tmp_path / "run", list, **asked)
    played = Played(tmp_path / "other", lambda: default_callbacks(run.run, quiet=False)[1:], **asked)
    arrays = {"obs": np.ones((6, 2)), "actions": np.zeros((5, 1)), "rewards": np.zeros(5), "state": jnp.arange(3.0)}
    watched = [weakref.ref(array) for array in arrays.values()]
    row = {"episode": 0, "env_steps": 5, "kind": "train", "return": 1.0, "length": 5, "wall_seconds": 0.1}
    played.call("on_episode_end", EpisodeEnded, row=row, policy_version=0, **arrays)
    del arrays
    gc.collect()
    assert [one() for one in watched] == [None] * 4


@pytest.mark.long
def test_everything_exported_is_there():
    assert all(hasattr(foretell.callbacks, name) for name in foretell.callbacks.__all__)
    assert issubclass(Films, Callback) and issubclass(Predictions, Callback)
