"""Hints: data that trigger each of them, and data that do not."""

from pathlib import Path

import numpy as np
import pytest

from foretell.diagnostics import hints as module
from foretell.diagnostics import verdicts
from foretell.diagnostics.candidates import Searched
from foretell.diagnostics.hints import RunData, hints, lines, read_data
from foretell.diagnostics.prediction import Track
from foretell.runs.directory import RunDirectory
from foretell.runs.reference import reference

STEPS = 100


def track(rewards=None, actions=None, obs=None, terminated=False, seed=0):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(STEPS + 1, 2)), rng.uniform(-1, 1, (STEPS, 2)), rng.normal(size=STEPS)]
    given = zip(parts, (obs, actions, rewards), strict=True)
    return Track(*(np.float32(part if other is None else other) for part, other in given), terminated=terminated)


def episodes(kind, values):
    return [{"kind": kind, "return": value} for value in values]


def searched(spread):
    return Searched(np.zeros((5, 3, 1)), np.zeros(5), np.zeros((2, 5)), np.array([0.2, spread]), 10)


def mixed(bound):
    """Uniform actions in the first half of the episode, `bound` in the second."""
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 2))
    actions[5:, 0] = bound
    return actions


SPARSE = np.where(np.arange(STEPS) == 50, 1.0, 0.0)
STUCK = np.stack([np.arange(STEPS + 1.0), np.full(STEPS + 1, 3.0)], 1)
TRAINED = episodes("train", [10.0, 11.0, 12.0, 11.0])
CASES = {
    "flat reward": (RunData([], tracks=[track(SPARSE)] * 3), RunData([], tracks=[track()] * 3)),
    "constant columns": (RunData([], tracks=[track(obs=STUCK)] * 3), RunData([], tracks=[track()] * 3)),
    "model error": (
        RunData([], [{"new_mse": value} for value in (0.1, 0.11, 0.1, 0.12, 0.1, 0.11)]),
        RunData([], [{"new_mse": value} for value in (0.5, 0.4, 0.2, 0.1, 0.1, 0.1)]),
    ),
    "value range": (
        RunData([], [{"mean_q": 1000.0}] * 6, tracks=[track()] * 3, learner={"discount": 0.9}),
        RunData([], [{"mean_q": 20.0}] * 6, tracks=[track()] * 3, learner={"discount": 0.9}),
    ),
    "saturated actions": (
        RunData([], tracks=[track(actions=mixed(1.0))] * 3),
        RunData([], tracks=[track(actions=mixed(0.3))] * 3),
    ),
    "collapsed elites": (RunData([], searches=[searched(0.0005)] * 3), RunData([], searches=[searched(0.05)] * 3)),
    "value bias": (
        RunData(
            [], diagnostics=[{"q_bias_critic": value, "return": -50.0} for value in (1.0, -2.0, 2.0, 9.0, 20.0, 30.0)]
        ),
        RunData(
            [], diagnostics=[{"q_bias_critic": value, "return": -50.0} for value in (9.0, 8.0, 9.0, 7.0, 8.0, 9.0)]
        ),
    ),
    "evaluation": (
        RunData([*TRAINED, *episodes("eval", [1.0, 2.0, 1.0])]),
        RunData([*TRAINED, *episodes("eval", [10.5, 12.0, 11.0])]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_triggers_a_hint_and_what_does_not(name):
    wrong, fine = CASES[name]
    assert [hint.name for hint in hints(wrong)] == [name]
    assert hints(fine) == []


@pytest.mark.parametrize("name", CASES)
def test_too_little_data_say_nothing(name):
    wrong, _ = CASES[name]
    few = {field: value[:1] for field, value in wrong._asdict().items() if field not in ("searches", "learner")}
    assert hints(RunData(**few)) == []


def test_a_reward_for_survival_is_not_flat():
    ones = np.ones(STEPS)
    assert hints(RunData([], tracks=[track(ones)] * 3))
    assert hints(RunData([], tracks=[track(ones, terminated=True)] * 3)) == []


def test_texts_have_the_numbers():
    (hint,) = hints(CASES["model error"][0])
    assert "0.105 in the first third" in hint.text and "0.105 in the last" in hint.text
    (hint,) = hints(CASES["constant columns"][0]._replace(names=("angle", "speed")))
    assert hint.text.startswith("column speed of the observation never changed")
    (hint,) = hints(CASES["flat reward"][0])
    assert hint.text.startswith("99.0% of the latest 300 steps have a reward of about 0:")


@pytest.mark.parametrize(
    "setting",
    ["train.random_episodes", "task.reward", "model.hidden", "planner.initial_std", "planner.elites",
     "planner.iterations", "learner.critic_learning_rate", "updates.per_step", "model.members", "fit.early_stopping",
     "fit.holdout"],
)  # fmt: skip
def test_settings_that_hints_and_verdicts_name_exist(setting):
    assert any(setting in Path(one.__file__).read_text() for one in (module, verdicts))
    assert reference(setting)


def test_a_run_on_disk_is_read_and_its_hints_are_lines(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.data.mkdir()
    for i in range(3):
        row = {"episode": i, "env_steps": 100, "kind": "train", "return": 1.0, "length": 100, "end": "limit"}
        row |= {"success": "", "wall_seconds": 1.0}
        directory.write_episode(row, STUCK, mixed(0.3), SPARSE, number=i)
    data = read_data(directory, ("angle", "speed"))
    assert len(data.tracks) == 3 and data.tracks[0].obs.shape == (101, 2)
    assert {hint.name for hint in hints(data)} == {"flat reward", "constant columns"}
    (line,) = lines(data)
    assert line.startswith("hint: 99.0% of the latest 300 steps") and "\n" not in line
