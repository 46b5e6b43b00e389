"""Runs that are trained together: each has the results of a run by itself, whatever happens to the others."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witness import finished, lined

import environments
from foretell.errors import UserError
from foretell.keys import environment_seed
from foretell.training.batch import run_together
from foretell.training.events import Callback, StopTraining
from foretell.training.interrupt import Interrupted
from foretell.training.programs import Part, Stacked, stacked, whole
from tiny import by_hand, nothing_compiled

SEEDS = (2, 3, 4)
BETWEEN = {"trials": 4, "random_episodes": 2, "eval_episodes": 1}
WITHIN = {"steps": 40, "steps_per_learning": 4, "random_episodes": 0, "random_steps": 6, "log_every": 12}
WITHIN |= {"eval_episodes": 2, "eval_every": 11, "eval_environments": 2}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of each seed by itself, by schedule."""
    folder = tmp_path_factory.mktemp("alone")
    schedules = {"between": BETWEEN, "within": WITHIN}
    return {
        name: [finished(folder / name / str(seed), seed=seed, **options).results for seed in SEEDS]
        for name, options in schedules.items()
    }


def together(folder, options, *, callbacks=lambda seed: (), **how):
    """Outcomes of all seeds; each has the finished run as its result."""
    return run_together(
        [partial(finished, folder / str(s), seed=s, callbacks=callbacks(s), **options) for s in SEEDS], **how
    )


@pytest.mark.long
@pytest.mark.parametrize(("name", "options"), [("between", BETWEEN), ("within", WITHIN)])
def test_every_seed_has_the_results_of_a_run_by_itself(name, options, alone, tmp_path):
    """The episodes of these seeds end at different times."""
    found = together(tmp_path, options)
    assert [outcome.error for outcome in found] == [None] * 3
    assert [outcome.result.results for outcome in found] == alone[name]


@pytest.mark.long
def test_a_failure_of_an_environment_ends_one_seed(alone, tmp_path, monkeypatch):
    fatal, reset = environment_seed(SEEDS[1], 3), environments.Ragged.reset

    def fails(self, *, seed=None, options=None):
        if seed == fatal:
            raise RuntimeError("the gripper is jammed")
        return reset(self, seed=seed, options=options)

    monkeypatch.setattr(environments.Ragged, "reset", fails)
    ended = []
    found = together(tmp_path, BETWEEN, ended=lambda outcome: ended.append(outcome.row))
    assert isinstance(found[1].error, UserError) and "the gripper is jammed" in str(found[1].error)
    assert [found[row].result.results for row in (0, 2)] == [alone["between"][row] for row in (0, 2)]
    assert ended[0] == 1 and sorted(ended) == [0, 1, 2]


class StopsAt(Callback):
    """Ends a run after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def on_step(self, event):
        self.left -= 1
        if not self.left:
            raise StopTraining("enough")


@pytest.mark.long
def test_the_last_seeds_go_on_alone(alone, tmp_path):
    """The program for all seeds runs while more than half of them are there."""
    found = together(tmp_path, WITHIN, callbacks=lambda seed: [] if seed == SEEDS[2] else [StopsAt(9 + seed)])
    assert found[2].result.results == alone["within"][2]
    assert [found[row].result.loop.counters.env_steps < 20 for row in (0, 1)] == [True, True]


class Raises:
    """Asked whether to stop, fails or says yes from the `count`th time on."""

    def __init__(self, count, error=None):
        self.left, self.error = count, error

    def __call__(self):
        self.left -= 1
        if self.left <= 0 and self.error:
            raise self.error
        return self.left <= 0


@pytest.mark.long
@pytest.mark.parametrize("one_by_one", [False, *by_hand(True)])
def test_a_batch_that_was_stopped_goes_on(one_by_one, alone, tmp_path):
    """Together, or each seed by itself."""
    stopped = together(tmp_path, WITHIN, stopping=Raises(17))
    assert all(isinstance(outcome.error, Interrupted) for outcome in stopped)
    if one_by_one:
        assert [finished(tmp_path / str(s), seed=s, **WITHIN).results for s in SEEDS] == alone["within"]
    else:
        assert [outcome.result.results for outcome in together(tmp_path, WITHIN)] == alone["within"]


@pytest.mark.long
def test_a_batch_that_was_killed_goes_on(alone, tmp_path):
    """Nothing is saved at its end: each seed continues from the checkpoint after its latest trial."""
    with pytest.raises(KeyboardInterrupt):
        together(tmp_path, BETWEEN, stopping=Raises(14, KeyboardInterrupt()))
    assert any(lined(tmp_path / str(seed), seed=seed, **BETWEEN).loop.counters.trials for seed in SEEDS)
    assert [outcome.result.results for outcome in together(tmp_path, BETWEEN)] == alone["between"]


@pytest.mark.long
def test_a_failure_of_a_program_reaches_every_seed_that_called_it(tmp_path):
    found = together(tmp_path, {**WITHIN, "capacity": 2})  # fewer rows than are added at a time
    assert [str(outcome.error) for outcome in found] == ["4 rows do not fit into a replay of capacity 2"] * 3


class Counts(Callback):
    """Checks that nothing is compiled after the second call of `learn`."""

    def on_learn_start(self, event):
        if event.counters.learned == 2:
            self.within = nothing_compiled()
            self.within.__enter__()

    def on_training_end(self, event):
        self.within.__exit__(None, None, None)


@pytest.mark.long
def test_nothing_is_compiled_as_data_grow(tmp_path):
    options = {**WITHIN, "eval_episodes": 0, "log_every": 1000}
    found = together(tmp_path, options, callbacks=lambda seed: [Counts()] if seed == SEEDS[0] else [])
    assert [outcome.error for outcome in found] == [None] * 3


def test_whole_copies_the_part_of_one_seed():
    trees = [{"a": np.arange(3) + 10 * i, "b": np.float32(i)} for i in range(4)]
    all = Stacked(stacked(tuple(trees)))
    for i, tree in enumerate(trees):
        found = whole({"deep": Part(all, i), "kept": 1})
        assert found["kept"] == 1 and eqx.tree_equal(found["deep"], jax.tree.map(jnp.asarray, tree))
    with pytest.raises(TypeError, match="whole"):
        np.array(Part(all, 0))
