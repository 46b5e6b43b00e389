"""`diagnostics.csv`: it changes nothing of a run, and is the same if the run is interrupted or killed."""

import csv

import numpy as np
import pytest

import foretell
from foretell.callbacks import Callback, diagnostics
from foretell.diagnostics.examination import Sizes
from tiny import LINE, TINY, by_hand, interrupted_at

SMALL = {
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 5},
    "train": {"steps": 25, "steps_per_learning": 5, "random_steps": 10, "eval_episodes": 1, "eval_every": 5},
}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(diagnostics, "SIZES", Sizes(episodes=2, horizon=2, starts=4, oracle=(1,)))


def train(out, every=6, callbacks=(), preset="mve/default", changes=SMALL):
    overrides = [changes, {"train": {"capacity": 50, "diagnose_every": every}}]
    return foretell.train(preset, out=out, env=LINE, overrides=overrides, quiet=True, callbacks=callbacks).directory


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnostics, "SIZES", Sizes(episodes=2, horizon=2, starts=4, oracle=(1,)))
        return train(tmp_path_factory.mktemp("measured") / "run")


def rows_of(run):
    with (run / "diagnostics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_a_row_is_written_every_so_many_steps_once_the_agent_has_learned(measured):
    rows = rows_of(measured)
    assert [int(row["env_steps"]) for row in rows] == [12, 18, 24]
    names = ("return", "mse_1", "std_mse_2", "reward_bias", "q_bias_critic", "q_error_oracle_1", "action_noise")
    for row in rows:
        assert all(np.isfinite(float(row[name])) for name in (*names, "policy_grad_2", "critic_weights_0"))


@pytest.mark.long
def test_tensorboard_has_the_same(measured):
    (file,) = (measured / "tensorboard" / "diagnostics").iterdir()
    assert b"diagnostics/q_bias_critic" in file.read_bytes()


@pytest.mark.long
def test_the_run_is_the_same_without(measured, tmp_path):
    plain = train(tmp_path / "run", every=None)
    assert not (plain / "diagnostics.csv").exists()
    for path in (plain / "data").iterdir():
        first, second = np.load(path), np.load(measured / "data" / path.name)
        assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("moment", [("step", 21), *by_hand(("step", 13), ("episode_end", 5))], ids=str)
@pytest.mark.long
def test_an_interrupted_run_measures_the_same(moment, measured, tmp_path):
    with interrupted_at(*moment):
        train(tmp_path / "run")
    foretell.resume(tmp_path / "run", quiet=True)
    assert rows_of(tmp_path / "run") == rows_of(measured)


class Killed(BaseException):
    """As SIGKILL, but for this process."""


class Kills(Callback):
    def on_step(self, event):
        if event.counters.env_steps == 20:
            raise Killed


@pytest.mark.long
def test_a_killed_run_has_no_row_twice(measured, tmp_path):
    """It is killed before it has saved anything: all rows are of steps that are taken again."""
    with pytest.raises(Killed):
        train(tmp_path / "run", callbacks=[Kills()])
    assert len(rows_of(tmp_path / "run")) == 2
    foretell.resume(tmp_path / "run", quiet=True)
    assert rows_of(tmp_path / "run") == rows_of(measured)


@pytest.mark.long
def test_a_planner_is_measured_in_recorded_episodes(tmp_path):
    """None is played for it. After 5 random steps come 2 trials of 5."""
    rows = rows_of(train(tmp_path / "run", 7, preset="pets/default", changes=TINY))
    assert [int(row["env_steps"]) for row in rows] == [7, 14]
    assert "return" not in rows[0] and np.isfinite(float(rows[1]["share_0.5_2"]))
