"""Runs whose environments are stepped by workers, and evaluation episodes that are played side by side."""

import multiprocessing

import jax
import numpy as np
import pytest
from witness import RAGGED, Witness, finished, lined

from foretell.agents import Schedule
from foretell.diagnostics.play import Player
from foretell.errors import UserError
from foretell.tasks import TaskSettings, make_task
from foretell.training.interrupt import Interrupted
from tiny import presses_at

SCHEDULE = {
    "environments": 3,
    "eval_environments": 2,
    "steps": 60,
    "steps_per_learning": 6,
    "random_episodes": 0,
    "random_steps": 14,
    "eval_episodes": 3,
    "eval_every": 20,
    "log_every": 10,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("whole") / "run", **SCHEDULE)


@pytest.mark.parametrize("moment", [None, ("step", 3), ("step", 20)], ids=str)
@pytest.mark.long
def test_results_do_not_depend_on_the_number_of_workers(moment, whole, tmp_path):
    """Also if the run is interrupted within random or evaluation episodes, and goes on with another number of them."""
    if moment is not None:
        with pytest.raises(Interrupted):
            finished(tmp_path / "run", workers=3, callbacks=[presses_at(*moment)], **SCHEDULE)
    assert finished(tmp_path / "run", workers=2, **SCHEDULE).results == whole.results


@pytest.mark.long
def test_a_round_of_evaluation_is_played_in_groups(whole):
    """Three episodes, two at a time, are counted and numbered one after the other."""
    rows = [row for row in whole.episodes if row["kind"] == "eval"]
    assert len(rows) == 3 * whole.loop.counters.rounds + whole.loop.counters.added == 9
    for first in (0, 3, 6):
        numbers = [row["episode"] for row in rows[first : first + 3]]
        assert numbers == list(range(numbers[0], numbers[0] + 3))
        assert len({row["env_steps"] for row in rows[first : first + 3]}) == 1
    for row in rows:
        data = whole.data_of(row["episode"])
        assert len(data["rewards"]) == row["length"] and data["rewards"].sum() == pytest.approx(row["return"])


@pytest.mark.long
def test_a_worker_that_dies_ends_the_run_which_can_be_resumed(whole, tmp_path):
    class Kills(presses_at("step", 9).__class__):
        def on_step(self, event):
            self.left -= 1
            if not self.left:
                multiprocessing.active_children()[0].kill()

    with pytest.raises(UserError, match=r"has died \(SIGKILL\)"):
        finished(tmp_path / "run", workers=2, checkpoint_seconds=1e-3, callbacks=[Kills()], **SCHEDULE)
    run = lined(tmp_path / "run", workers=2, **SCHEDULE)
    assert 0 < run.loop.counters.env_steps < 60 and not multiprocessing.active_children()
    run.loop.run()
    assert run.results == whole.results


@pytest.mark.long
def test_diagnostics_play_the_same_episodes_with_workers():
    task = make_task(TaskSettings(env=RAGGED))
    agent = Witness(data="replay", schedule=Schedule(), horizon=task.spec.horizon)
    found = []
    for workers in (1, 2):
        player = Player(agent, task, 3, 0, workers)
        found.append(player.play(np.int32(0)))
        player.close()
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.long
def test_schedules_with_workers_that_cannot_be():
    with pytest.raises(ValueError, match=r"workers \(4\) must be at most 3: .* environments=2 and eval_environments=3"):
        Schedule(workers=4, environments=2, trials=2, eval_environments=3)
    with pytest.raises(ValueError, match="log_predictions needs a single environment, not eval_environments=2"):
        Schedule(eval_environments=2, log_predictions="moments")
