"""Open-loop predictions: errors by number of steps, and a picture."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.cli import main
from foretell.diagnostics.prediction import Track, open_loop, prediction_errors, tracks
from foretell.planning import RandomShooting
from foretell.tasks import make_task
from foretell.tasks.choice import TaskSettings
from foretell.training.controller import Outcome, Policy
from tiny import LINE


class Drifting:
    """Knows a point that moves by its action, but for a drift at each step."""

    planner = RandomShooting()

    def __init__(self, drift):
        self.drift = drift

    def init(self, key):
        raise NotImplementedError

    act = learn = init

    def start(self, batch):
        return ()

    def imagine(self, state, memory, obs, key):
        moves = jnp.cumsum(memory.actions + self.drift, 1)
        path = jnp.concatenate([obs[:, None], obs[:, None] + moves], 1)
        return jnp.stack([path - 0.1, path + 0.1], 2)  # two particles


def policy_of(drift):
    return Policy(Drifting(drift), None, make_task(TaskSettings(env=LINE)).spec)


def moving(length, seed=0):
    actions = np.random.default_rng(seed).normal(size=(length, 2)).astype(np.float32)
    return Track(np.concatenate([np.zeros((1, 2), np.float32), np.cumsum(actions, 0)]), actions)


def test_a_perfect_model_has_no_error():
    assert prediction_errors(policy_of(0.0), [moving(120), moving(40, 1)]) == pytest.approx(
        dict.fromkeys((1, 5, 10, 50, 100), 0.0), abs=1e-8
    )


def test_errors_are_in_deviations_of_each_dimension():
    track = moving(30)
    track = track._replace(obs=track.obs * np.float32([1.0, 10.0]), actions=track.actions * np.float32([1.0, 10.0]))
    errors = prediction_errors(policy_of(jnp.array([0.5, 0.0])), [track])
    assert list(errors) == [1, 5, 10]
    for steps, error in errors.items():
        assert error == pytest.approx((0.5 * steps / track.obs[:, 0].std()) ** 2 / 2, rel=1e-4)


def test_predictions_begin_at_the_real_observation_of_each_start():
    obs, actions = np.random.default_rng(0).normal(size=(70, 2)), np.zeros((70, 3, 2))
    found = open_loop(policy_of(0.0), np.float32(obs), np.float32(actions))
    assert found.shape == (70, 4, 2, 2)
    np.testing.assert_allclose(found.mean(2)[:, 0], obs, rtol=1e-5)


def test_transitions_are_parted_into_episodes():
    rows = [(np.full(2, i), np.full(1, i), 0.0, np.full(2, i + 1), False) for i in range(5)]
    first, second = tracks(rows, [Outcome(0.0, 2), Outcome(0.0, 3)])
    assert first.obs[:, 0].tolist() == [0, 1, 2] and first.actions[:, 0].tolist() == [0, 1]
    assert second.obs[:, 0].tolist() == [2, 3, 4, 5] and second.actions[:, 0].tolist() == [2, 3, 4]


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_inspect_tells_and_draws_them(copied, capsys):
    assert main(["inspect", str(copied), "--episodes", "2"]) == 0
    out = capsys.readouterr().out
    assert "after   1 step " in out and "after   5 steps" in out and "after  10" not in out
    assert (copied / "figures" / "prediction.png").stat().st_size > 5000


def test_an_inspection_holds_them(copied):
    found = foretell.load(copied, quiet=True).inspect(2)
    assert found.histogram is None and list(found.errors) == [1, 5]
    assert all(error > 0 for error in found.errors.values())
