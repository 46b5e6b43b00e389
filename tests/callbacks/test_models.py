"""`models/`: the agent of every trial."""

import csv
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from played import Played
from saved import data_of, files_of, train

import foretell
from environments import STEPS
from foretell.callbacks import Models
from foretell.errors import UserError
from foretell.keys import Stream
from foretell.training.actor import begin_and_act
from tiny import by_hand, interrupted_at


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return train(tmp_path_factory.mktemp("kept") / "run", save_all_models=True)


@pytest.fixture
def kept_copy(kept, tmp_path):
    return shutil.copytree(kept.directory, tmp_path / "run")


def learned(run, trial=None):
    return foretell.load(run, trial=trial, quiet=True)._controller.state


@pytest.mark.long
def test_there_is_one_for_each_trial(kept):
    assert sorted(path.name for path in (kept.directory / "models").iterdir()) == ["trial_0001.eqx", "trial_0002.eqx"]


def test_without_being_asked_to_a_run_keeps_none(trained):
    assert not (trained / "models").exists()


@pytest.mark.long
@pytest.mark.parametrize("trial", [1, 2])
def test_the_agent_of_a_trial_acts_as_it_did_in_it(trial, kept):
    """The trials are episodes 1 and 3: with observations and keys of its own trial alone its actions are the same."""
    controller = foretell.load(kept.directory, trial=trial, quiet=True)._controller
    agent, params = controller.agent, controller.agent.policy(controller.state)
    act = jax.jit(lambda *a: begin_and_act(agent, Stream.ACT, params, *a, explore=True))

    def repeats(episode):
        data, same = data_of(kept.directory, episode), []
        carry = agent.begin(params, jnp.zeros((1, 2)), jax.random.key(0))
        for t in range(STEPS):
            numbers = (np.int32(number) for number in (kept.seed, episode, t))
            obs = np.float32(data["observations"][t])[None]
            action, carry, _ = act(carry, obs, np.array([t == 0]), *numbers)
            same.append(np.array_equal(action[0], np.float32(data["actions"][t])))
        return all(same)

    assert [repeats(episode) for episode in (1, 3)] == [trial == 1, trial == 2]


@pytest.mark.long
def test_the_agent_of_the_last_trial_is_that_of_the_newest_checkpoint(kept):
    first, last, newest = (foretell.load(kept.directory, trial=n, quiet=True).evaluate(2) for n in (1, 2, None))
    assert first != last == newest
    assert eqx.tree_equal(learned(kept.directory), learned(kept.directory, trial=2))


@pytest.mark.long
def test_there_is_none_for_any_other_trial(kept):
    with pytest.raises(UserError) as mistake:
        foretell.load(kept.directory, trial=3, quiet=True)
    name = "trial_0003.eqx"
    assert str(mistake.value) == f"no model '{kept.directory}/models/{name}'; there are trial_0001 to trial_0002"


@pytest.mark.parametrize("trial", [0, -1])
@pytest.mark.long
def test_trials_are_counted_from_one(trial, run_copy):
    with pytest.raises(UserError, match=f"trial must be at least 1, not {trial}"):
        foretell.load(run_copy, trial=trial, quiet=True)


@pytest.mark.long
@pytest.mark.parametrize("harm", ["empty", "truncated", "text", "flip"])
def test_a_damaged_model_is_refused_and_the_others_are_not(harm, kept_copy):
    path = kept_copy / "models" / "trial_0001.eqx"
    content = path.read_bytes()
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    path.write_bytes({"empty": b"", "truncated": content[:half], "text": b"mine" * 99, "flip": flipped}[harm])
    with pytest.raises(UserError, match=r"^cannot read the model '.*trial_0001.eqx' \(.*\)$"):
        foretell.load(kept_copy, trial=1, quiet=True)
    assert foretell.load(kept_copy, trial=2, quiet=True).evaluate(1)


@pytest.mark.long
def test_a_model_of_another_shape_is_refused(kept_copy):
    config = kept_copy / "config.yaml"
    config.write_text(config.read_text().replace("  - 8\n", "  - 9\n"))
    with pytest.raises(UserError, match="cannot read the model"):
        foretell.load(kept_copy, trial=1, quiet=True)


@pytest.mark.long
def test_models_of_trials_after_the_checkpoint_are_removed(tmp_path):
    run = Played(tmp_path / "run", lambda: [Models()])
    run.episode("random", 0.0)
    run.episode("train", 0.0)
    checkpoint = run.save()
    run.episode("train", 0.0)
    run.resume(checkpoint)
    assert list(files_of(run.directory.models)) == ["trial_0001.eqx"]


@pytest.mark.long
@pytest.mark.parametrize("moment", [("step", 6), *by_hand(("step", 13), ("episode_end", 2))], ids=str)
def test_an_interrupted_run_keeps_the_same_models(moment, kept, tmp_path):
    with interrupted_at(*moment):
        train(tmp_path / "run", save_all_models=True)
    foretell.resume(tmp_path / "run", quiet=True)
    assert files_of(tmp_path / "run" / "models") == files_of(kept.directory / "models")


@pytest.mark.long
def test_learning_may_be_rarer_than_trials(tmp_path):
    overrides = {"train": {"trials": 5, "episodes_per_learning": 2, "eval_episodes": 0}}
    whole = train(tmp_path / "whole", overrides, save_all_models=True).directory
    with (whole / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["episode"]) for row in rows] == [1, 3, 5]
    assert [int(row["env_steps"]) for row in rows] == [5, 15, 25]
    models = list(files_of(whole / "models").values())
    assert [models[i] == models[i + 1] for i in range(4)] == [True, False, True, False]
    out = tmp_path / "run"
    with interrupted_at("episode_end", 3):
        train(out, overrides, save_all_models=True)
    foretell.resume(out, quiet=True)
    assert files_of(out / "models") == files_of(whole / "models")
    assert files_of(out / "data") == files_of(whole / "data")
