"""Every registered task says of its environment what the simulator does; a new one is checked without a test."""

import importlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conformance import (
    Transitions,
    check_prediction,
    check_restored,
    check_reward,
    check_spec,
    check_terminated,
    transitions,
)

from foretell import registry
from foretell.errors import UserError
from foretell.tasks.cartpole import SPEC, Cartpole

PLANNED = {"pusher", "cheetah-torso", "mbmf-swimmer", "mbmf-hopper", "mbmf-ant"}
"""Tasks whose reward is the planner's objective, another one than the environment's; docs/tasks.md says why."""
CLIPPED = {"mve-walker2d": slice(9, 18), "mve-hopper": slice(6, 12)}
"""Where observations hold velocities clipped at 10, beyond which they do not tell the state."""


def plug_ins():
    """The tasks of the plug-in in `tests/plugin`, without its staying registered."""
    there = registry.kinds("task")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", {name: dict(own) for name, own in registry._registered.items()})
        patch.syspath_prepend(Path(__file__).parents[1] / "plugin")
        importlib.import_module("foretell_example")
        return {name: kind for name, kind in registry.kinds("task").items() if name not in there}


TASKS = {**registry.kinds("task"), **plug_ins()}
every_task = pytest.mark.parametrize("name", TASKS)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs where it runs that a model of Gymnasium's is written in an old way."""
    monkeypatch.chdir(tmp_path)


@cache
def seen(name):
    return transitions(TASKS[name]())


def determined(name):
    """The transitions whose first observation tells the whole state."""
    steps = seen(name)
    exact = (np.abs(steps.obs[:, CLIPPED[name]]) < 10).all(-1) if name in CLIPPED else np.ones(len(steps.obs), bool)
    assert exact.sum() > 5
    return Transitions(*(column[exact] for column in steps))


def test_the_plug_in_is_among_them_and_is_not_registered():
    assert "point-mass" in TASKS and "point-mass" not in registry.kinds("task")


@every_task
def test_names_sizes_and_bounds(name):
    check_spec(TASKS[name]())


@every_task
@pytest.mark.long
def test_reward(name):
    task = TASKS[name]()
    if name in PLANNED:
        with pytest.raises(AssertionError):
            check_reward(task, seen(name))
    elif task.reward is not None:
        check_reward(task, seen(name))


@every_task
def test_termination(name):
    check_terminated(TASKS[name](), seen(name))


@every_task
@pytest.mark.long
def test_prediction(name):
    check_prediction(TASKS[name](), seen(name))


@pytest.mark.parametrize("name", [name for name, kind in TASKS.items() if kind().restore is not None])
def test_restored_states(name):
    check_restored(TASKS[name](), determined(name))


class WrongReward(Cartpole):
    def reward(self, obs, action, next_obs):
        return super().reward(obs, action, next_obs) + 1e-5


class RewardOfTheStateBefore(Cartpole):
    def reward(self, obs, action, next_obs):
        return super().reward(next_obs, action, obs)


class WrongTermination(Cartpole):
    def terminated(self, obs, action, next_obs):
        return next_obs[..., 0] > 0


class WrongRestore(Cartpole):
    def restore(self, env, obs):
        super().restore(env, obs * np.array([1, 1, 1, 1 + 1e-4]))


class Forgetful(Cartpole):
    """Restores the first state only."""

    def restore(self, env, obs):
        if not vars(self).setdefault("restored", False):
            super().restore(env, obs)
        self.restored = True


class WrongAdvance(Cartpole):
    def advance(self, obs, output):
        return obs - output


class TooFewNames(Cartpole):
    spec = replace(SPEC, obs_names=SPEC.obs_names[1:])


class SameNames(Cartpole):
    spec = replace(SPEC, obs_names=("x",) * 4)


class WrongBounds(Cartpole):
    spec = replace(SPEC, action_high=(2.0,))


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (check_reward, WrongReward),
        (check_reward, RewardOfTheStateBefore),
        (check_terminated, WrongTermination),
        (check_restored, WrongRestore),
        (check_restored, Forgetful),
        (check_prediction, WrongAdvance),
    ],
)
def test_a_wrong_task_is_found(check, wrong):
    check(Cartpole(), seen("cartpole"))
    with pytest.raises(AssertionError):
        check(wrong(), seen("cartpole"))


@pytest.mark.parametrize("wrong", [TooFewNames, SameNames, WrongBounds])
@pytest.mark.long
def test_a_wrong_spec_is_found(wrong):
    with pytest.raises((AssertionError, UserError)):
        check_spec(wrong())
