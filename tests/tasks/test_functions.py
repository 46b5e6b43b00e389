"""Reward and termination functions that are wrong in ways that JAX does not notice: refused before training."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from environments import SPEC, reward
from foretell.errors import UserError
from foretell.tasks.base import Task
from foretell.tasks.functions import check_function, where_not_finite

_rng = np.random.default_rng(0)
STEPS = tuple(_rng.uniform(-0.5, 0.5, (4, size)).astype(np.float32) for size in (2, 1, 2))
_calls: list = []


def task_with(**functions):
    task = Task()
    task.spec = SPEC
    for role, function in functions.items():
        setattr(task, role, function)
    return task


def counts(obs, action, next_obs):
    _calls.append(1)
    return len(_calls) * next_obs[..., 0]


def keeps(obs, action, next_obs):
    _calls.append(next_obs)
    return next_obs[..., 0] + sum(jnp.sum(seen) for seen in _calls[-2:-1])


REWARDS = {
    "another mean": (lambda obs, action, next_obs: obs[..., 0] - obs[..., 0].mean(), "must treat each row by itself"),
    "largest": (
        lambda obs, action, next_obs: obs[..., 0] / jnp.abs(obs[..., 0]).max(),
        "must treat each row by itself",
    ),
    "other order": (lambda obs, action, next_obs: jnp.flip(obs[..., 0], -1), "must treat each row by itself"),
    "random": (lambda obs, action, next_obs: obs[..., 0] + np.random.rand(), "is another function each time it is"),
    "noise": (lambda obs, action, next_obs: obs[..., 0] + np.random.rand(4), "is another function each time it is"),
    "counter": (counts, "is another function each time it is called"),
    "no such entry": (
        lambda obs, action, next_obs: next_obs[..., 7],
        r"reads an entry .*IndexError: index 7 .* line \d+",
    ),
    "no such action": (
        lambda obs, action, next_obs: action[..., 1] ** 2,
        r"reads an entry .*IndexError: index 1 is out",
    ),
    "nan": (lambda obs, action, next_obs: jnp.log(obs[..., 0] - 9), "returned nan on 4 of 4 steps of 'tiny/Line-v0'"),
    "keeps": (keeps, r"failed on steps of 'tiny/Line-v0': \w*Tracer\w*Error"),
}


@pytest.mark.parametrize("kind", REWARDS)
def test_a_reward_that_is_refused(kind):
    function, sentence = REWARDS[kind]
    _calls.clear()
    with pytest.raises(
        UserError, match=rf"^reward 'mine:{kind}' {sentence}|^reward 'mine:{kind}' returned .*{sentence}"
    ):
        for _ in range(2):
            check_function(task_with(reward=function), "reward", f"mine:{kind}", STEPS)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (
            lambda obs, action, next_obs: 40.0 * (2.0 + obs[..., 0]),
            "returned .* on 4 of 4 steps .* neither true nor false",
        ),
        (lambda obs, action, next_obs: obs[..., 0] * jnp.nan, "returned nan on 4 of 4 steps"),
    ],
)
def test_a_termination_that_is_refused(function, sentence):
    with pytest.raises(UserError, match=f"^terminated 'mine:end' {sentence}"):
        check_function(task_with(terminated=function), "terminated", "mine:end", STEPS)


class Weighted:
    """An object that is called."""

    def __call__(self, obs, action, next_obs):
        return jnp.where(obs[..., 0] > 0, 1, -1) * jnp.abs(next_obs).sum(-1)


@pytest.mark.parametrize(
    "function", [reward, Weighted(), partial(reward), lambda obs, action, next_obs: obs[..., 0] > 0]
)
def test_what_is_right(function):
    check_function(task_with(reward=function), "reward", "mine:reward", STEPS)
    assert where_not_finite(task_with(reward=function), STEPS) is None


def falls_apart(obs, action, next_obs):
    """A number on the steps of the data, but not a little farther away."""
    return jnp.sqrt(1.0 - jnp.square(next_obs[..., 0]))


class FallsApart:
    def __call__(self, obs, action, next_obs):
        return falls_apart(obs, action, next_obs)


@pytest.mark.parametrize(
    ("functions", "name"),
    [
        ({"reward": falls_apart}, "reward 'test_functions:falls_apart' (at "),
        ({"terminated": partial(falls_apart)}, "terminated 'test_functions:falls_apart' (at "),
        ({"reward": reward, "terminated": FallsApart()}, "terminated 'test_functions:FallsApart' (at "),
        (
            {"reward": lambda obs, action, next_obs: jnp.log(0.9 - action[..., 0])},
            "reward 'test_functions:<lambda>' (at ",
        ),
    ],
)
def test_a_function_that_is_a_number_on_the_data_alone_is_found(functions, name):
    found = where_not_finite(task_with(**functions), STEPS)
    assert found.startswith(name) and f"{__file__}, line " in found and "of 504 steps like those of the data" in found
