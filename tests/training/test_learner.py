"""Learning in a run: rows of metrics, and what goes wrong."""

import csv
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witness import Witness, finished, lined

from foretell.envs import live
from foretell.errors import UserError
from foretell.training.learner import check_finite
from foretell.training.loop import Loop

STEPWISE = {"steps": 40, "steps_per_learning": 4, "random_episodes": 0, "random_steps": 6, "log_every": 12}


class Broken(Witness):
    """Its third call of `learn` fails within the compiled program."""

    def learn(self, state, data, key):
        def fail(calls):
            if calls >= 2:
                live.report(UserError(f"call {int(calls) + 1} has failed"))
            return np.zeros((), np.float32)

        nothing = jax.pure_callback(fail, jax.ShapeDtypeStruct((), jnp.float32), state.calls)
        state, metrics = super().learn(state, data, key)
        return state, {**metrics, "nothing": nothing}


class Diverges(Witness):
    """More and more of its steps are skipped."""

    def learn(self, state, data, key):
        state, metrics = super().learn(state, data, key)
        return state, {**metrics, "gradient_steps": jnp.float32(10), "skipped_steps": 1.0 * state.calls}


def run_of(kind, path, **options):
    run = lined(path, **options)
    info = run.loop.run_info
    agent = kind(**{name: getattr(info.agent, name) for name in ("data", "schedule", "horizon", "pretraining")})
    return Loop(replace(info, agent=agent))


@pytest.mark.long
@pytest.mark.parametrize("options", [{"trials": 6}, STEPWISE], ids=["between episodes", "within episodes"])
def test_what_fails_in_learning_ends_the_run(options, tmp_path):
    with pytest.raises(UserError, match=r"^call 3 has failed$"):
        run_of(Broken, tmp_path / "run", **options).run()


@pytest.mark.long
def test_a_run_that_diverges_ends_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"^learning diverged: 2 of 10 gradient steps were not finite; lower the lear"):
        run_of(Diverges, tmp_path / "run", trials=6).run()


@pytest.mark.long
def test_a_few_skipped_steps_are_no_divergence():
    check_finite({"skipped_steps": 1.0, "gradient_steps": 10.0})
    check_finite({})
    with pytest.raises(UserError, match="learning diverged: 2 of 10"):
        check_finite({"skipped_steps": 2.0, "gradient_steps": 10.0})


def rows(run):
    with run.directory.metrics.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.long
def test_between_episodes_every_call_is_a_row(tmp_path):
    found = rows(finished(tmp_path / "run", trials=3, random_episodes=2))
    assert [row["seen"] for row in found] == [0, 1, 2] and [row["learn"] for row in found] == [1, 2, 3]
    assert [row["episode"] for row in found] == [2, 3, 4]


@pytest.mark.long
def test_within_episodes_rows_are_means_over_the_calls_since_the_last_one(tmp_path):
    """One for each call before it acts, then one where a multiple of `log_every` has been passed."""
    found = rows(finished(tmp_path / "run", pretraining=2, **STEPWISE))
    assert [row["env_steps"] for row in found] == [6, 6, 14, 26, 38]
    assert [row["learn"] for row in found] == [1, 2, 4, 7, 10]
    assert [row["seen"] for row in found] == [0, 1, np.mean([2, 3]), np.mean([4, 5, 6]), np.mean([7, 8, 9])]
    assert all(row["plan_seconds"] >= 0 and row["fit_seconds"] >= 0 for row in found)
