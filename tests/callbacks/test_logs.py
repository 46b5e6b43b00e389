"""What a run may keep beside its returns: the agent of every trial, and what was expected of every plan."""

import csv
import itertools
import math
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from environments import STEPS
from foretell.errors import UserError
from foretell.training.loop import Loop, _act
from tiny import LINE, TINY, interrupted_at

HORIZON, PARTICLES = TINY["planner"]["horizon"], TINY["imagination"]["particles"]


def train(out, *overrides, **schedule):
    changes = [TINY, {"train": {"eval_episodes": 1, **schedule}}, *overrides]
    return foretell.train("pets/default", out=out, env=LINE, overrides=changes, quiet=True)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A finished run with everything in it that can be kept."""
    return train(tmp_path_factory.mktemp("kept") / "run", save_all_models=True, log_predictions="particles")


@pytest.fixture
def kept_copy(kept, tmp_path):
    return shutil.copytree(kept.directory, tmp_path / "run")


def data_of(run, episode):
    with np.load(run / "data" / f"episode_{episode:04d}.npz") as file:
        return dict(file)


def predictions_of(run):
    found = {}
    for path in sorted((run / "predictions").iterdir()):
        with np.load(path) as file:
            found[path.name] = dict(file)
    return found


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def assert_same(first, second):
    assert first.keys() == second.keys() and first
    for name, arrays in first.items():
        assert arrays.keys() == second[name].keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, second[name][key])


# Models.


def test_the_agent_of_every_trial_is_kept(kept):
    assert sorted(path.name for path in (kept.directory / "models").iterdir()) == ["trial_0001.eqx", "trial_0002.eqx"]


def test_without_being_asked_to_a_run_keeps_neither(trained):
    assert not (trained / "models").exists() and not (trained / "predictions").exists()


@pytest.mark.parametrize("trial", [1, 2])
def test_the_agent_of_a_trial_acts_as_it_did_in_it(trial, kept):
    """The trials are episodes 1 and 3: of observations and keys of its own trial alone it makes the same actions."""
    run = foretell.load(kept.directory, trial=trial, quiet=True)
    agent, state = run._policy.agent, run._policy.state
    act = jax.jit(lambda *a: _act(agent, *a, explore=True))

    def repeats(episode):
        data, memory, same = data_of(kept.directory, episode), agent.start(1), []
        for t in range(STEPS):
            numbers = (np.int32(number) for number in (kept.seed, episode, t))
            action, memory = act(state, memory, np.float32(data["observations"][t])[None], *numbers)
            same.append(np.array_equal(action[0], np.float32(data["actions"][t])))
        return all(same)

    assert [repeats(episode) for episode in (1, 3)] == [trial == 1, trial == 2]


def test_the_agent_of_the_last_trial_is_that_of_the_newest_checkpoint(kept):
    first, last, newest = (foretell.load(kept.directory, trial=n, quiet=True).evaluate(2) for n in (1, 2, None))
    assert first != last == newest


@pytest.mark.parametrize("trial", [0, 3, -1])
def test_a_trial_that_was_not(trial, kept):
    with pytest.raises(UserError) as mistake:
        foretell.load(kept.directory, trial=trial, quiet=True)
    name = f"trial_{trial:04d}.eqx"
    assert str(mistake.value) == f"no model '{kept.directory}/models/{name}'; there are trial_0001 to trial_0002"


@pytest.mark.parametrize("harm", ["empty", "truncated", "text"])
def test_a_damaged_model(harm, kept_copy):
    path = kept_copy / "models" / "trial_0001.eqx"
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"mine" * 99}[harm])
    with pytest.raises(UserError, match=r"^cannot read the model '.*trial_0001.eqx' \(.*\)$"):
        foretell.load(kept_copy, trial=1, quiet=True)
    assert foretell.load(kept_copy, trial=2, quiet=True).evaluate(1)


def test_a_model_of_another_shape(kept_copy):
    config = kept_copy / "config.yaml"
    config.write_text(config.read_text().replace("  - 8\n", "  - 9\n"))
    with pytest.raises(UserError, match="cannot read the model"):
        foretell.load(kept_copy, trial=1, quiet=True)


# Predictions.


def test_what_is_expected_of_every_plan_is_kept_for_every_episode_that_was_planned(kept):
    found = predictions_of(kept.directory)
    assert list(found) == [f"episode_{row['episode']:04d}.npz" for row in kept.episodes if row["kind"] != "random"]
    for arrays in found.values():
        assert arrays.keys() == {"predictions"}
        assert arrays["predictions"].shape == (STEPS, HORIZON + 1, PARTICLES, 2)
        assert np.isfinite(arrays["predictions"]).all()


def test_predictions_begin_at_the_observation_and_then_differ(kept):
    for name, arrays in predictions_of(kept.directory).items():
        observations = np.float32(np.load(kept.directory / "data" / name)["observations"])
        first, later = arrays["predictions"][:, 0], arrays["predictions"][:, 1:]
        np.testing.assert_array_equal(first, np.stack([observations[:-1]] * PARTICLES, 1))
        assert (later[:, :, 0] != later[:, :, 1]).all()


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


def test_to_keep_them_changes_nothing_of_the_run(kept, tmp_path):
    plain = train(tmp_path / "run")
    assert files_of(plain.directory / "data") == files_of(kept.directory / "data")
    assert not (plain.directory / "predictions").exists()


SPARSE = {"planner": {"horizon": 4, "replan_every": 3}}


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A run of which every plan is executed for three steps."""
    return train(tmp_path_factory.mktemp("sparse") / "run", SPARSE, save_all_models=True, log_predictions="particles")


def test_of_a_plan_that_is_executed_longer_there_is_one_prediction(sparse):
    for name, arrays in predictions_of(sparse.directory).items():
        observations = np.float32(np.load(sparse.directory / "data" / name)["observations"])
        assert arrays["predictions"].shape == (math.ceil(STEPS / 3), 4 + 1, PARTICLES, 2)
        np.testing.assert_array_equal(arrays["predictions"][:, 0, 0], observations[:STEPS:3])


def test_a_prediction_follows_the_actions_that_were_planned(sparse):
    """Of which three are executed: each particle changes as its own network expects of the actions on disk."""
    run = foretell.load(sparse.directory, trial=1, quiet=True)
    world, state = run._policy.agent.world, run._policy.state.world
    data, (expected, *_) = data_of(sparse.directory, 1), predictions_of(sparse.directory).values()
    particles = expected["predictions"][0]
    for t in range(3):
        inputs = np.concatenate([particles[t], np.tile(data["actions"][t], (PARTICLES, 1))], -1)
        prediction = world.model.predictor(state.dynamics)(jnp.float32(inputs)[:, None])
        deviation = np.sqrt(prediction.variance[:, 0])
        change = particles[t + 1] - particles[t]
        assert (np.abs(change - prediction.mean[:, 0]) < 6 * deviation + 1e-5).all()


@pytest.mark.parametrize(
    "moment", [("step", 6), ("step", 8), ("step", 9), ("step", 13), ("episode_end", 2)], ids=str
)
def test_what_is_kept_survives_an_interruption(moment, sparse, tmp_path):
    out = tmp_path / "run"
    with interrupted_at(*moment):
        train(out, SPARSE, save_all_models=True, log_predictions="particles")
    foretell.resume(out, quiet=True)
    assert_same(predictions_of(out), predictions_of(sparse.directory))
    assert files_of(out / "models") == files_of(sparse.directory / "models")


class Killed(Exception):
    pass


def test_plans_of_an_episode_that_was_lost_are_made_again(sparse, tmp_path, monkeypatch):
    """As of a run that was killed before it had saved anything, while its first trial was on."""
    out, calls = tmp_path / "run", itertools.count(1)

    def die(loop, *, save=False):
        if next(calls) == 9:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Loop, "_check_interrupt", die)
        train(out, SPARSE, save_all_models=True, log_predictions="particles")
    (plan,) = out.glob("predictions/plan_*.npy")
    plan.rename(plan.with_name("plan_00001.npy"))  # a later one, which the same episode would not overwrite at once
    np.save(plan.with_name("plan_00007.npy"), np.zeros(3))
    foretell.resume(out, quiet=True)
    assert_same(predictions_of(out), predictions_of(sparse.directory))


# Learning less often.


def test_learning_may_be_rarer_than_trials(tmp_path):
    overrides = {"train": {"trials": 5, "episodes_per_learning": 2, "eval_episodes": 0}}
    whole = train(tmp_path / "whole", overrides, save_all_models=True).directory
    with (whole / "metrics.csv").open(newline="") as file:
        learned = list(csv.DictReader(file))
    assert [int(row["episode"]) for row in learned] == [1, 3, 5]
    assert [int(row["env_steps"]) for row in learned] == [5, 15, 25]
    models = list(files_of(whole / "models").values())
    assert [models[i] == models[i + 1] for i in range(4)] == [True, False, True, False]
    out = tmp_path / "run"
    with interrupted_at("episode_end", 3):
        train(out, overrides, save_all_models=True)
    foretell.resume(out, quiet=True)
    assert files_of(out / "models") == files_of(whole / "models")
    assert files_of(out / "data") == files_of(whole / "data")


def test_models_are_equal_leaf_by_leaf_to_those_of_the_checkpoint(kept):
    newest = foretell.load(kept.directory, quiet=True)._policy.state
    last = foretell.load(kept.directory, trial=2, quiet=True)._policy.state
    assert eqx.tree_equal(newest, last)
