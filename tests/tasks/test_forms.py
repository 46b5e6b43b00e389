"""Environments of unusual forms: each works, or is refused in one sentence that names the value."""

import asyncio
import threading
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType, SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

from environments import Line
from foretell.envs import succeeded
from foretell.errors import UserError, brief
from foretell.tasks import TaskSettings, make_task
from foretell.tasks.border import Border, Limits
from foretell.tasks.check import check
from foretell.tasks.gym import GymTask
from foretell.tasks.sources import given, source_from, source_of
from foretell.tasks.spaces import Spaces

LIMITS = Limits("Line", ("position", "speed"), (-1.0,), (1.0,))
PUSH = Box(-1.0, 1.0, (2,))


class Tensor:
    """Behaves as one of PyTorch that is part of a graph of gradients."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self):
        return self

    def cpu(self):
        return self.value


def behind(method="step", found=None, **others):
    """A border around a line of which a method returns something else."""
    env = Border(type("Odd", (Line,), {method: lambda self, *_, **__: found, **others})(), LIMITS)
    if method != "reset":
        env.reset(seed=0)
    return env


def steps(obs=(0.1, 0.2), reward=1.0, terminated=False, info=MappingProxyType({})):
    return behind(found=[obs, reward, terminated, False, info]).step(np.zeros(1))


@pytest.mark.parametrize(
    "obs",
    [
        [1.0, 2],
        np.array([1.0, 2], object),
        np.array([Fraction(1), Decimal(2)]),
        Tensor(np.array([1.0, 2.0])),
        np.float16([1, 2]),
        np.ma.array([1.0, 2.0]),
        np.broadcast_to([1.0, 2.0], (2,)),
    ],
    ids=lambda obs: type(obs).__name__,
)
def test_numbers_of_any_library_are_observations(obs):
    found = steps(obs=obs)[0]
    assert found.tolist() == [1.0, 2.0] and found.dtype == np.float64 and found.flags.writeable


@pytest.mark.parametrize("reward", [Decimal("0.5"), Fraction(1, 2), Tensor(np.float32(0.5)), np.ma.array([0.5])])
def test_numbers_of_any_library_are_rewards(reward):
    assert steps(reward=reward)[1] == 0.5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"obs": np.ma.array([1.0, 2.0], mask=[False, True])}, "returned an observation that is not finite in 'speed'"),
        ({"obs": [1.0, None]}, "the observation [1.0, None] is not made of real numbers"),
        ({"obs": [[1.0], [2.0, 3.0]]}, "the observation [[1.0], [2.0, 3.0]] is not made of real numbers"),
        ({"obs": ["1", "2"]}, "the observation ['1', '2'] is not made of real numbers"),
        (
            {"obs": [1e30, 0.0]},
            "returned an observation of 1e+30 in 'position', but networks can use numbers up to 1e+",
        ),
        (
            {"reward": 1e25},
            "returned the reward 1e+25 at step 0, but networks can use numbers up to 1e+15; scale it in",
        ),
        ({"reward": [1.0, [2.0, 3.0]]}, "returned the reward [1.0, [2.0, 3.0]] at step 0, which is not a real number"),
        ({"reward": {"speed": 1.0}}, "returned the reward {'speed': 1.0} at step 0, which is not a real number"),
        ({"reward": 10**400}, f"returned the reward 1{'0' * 79}... at step 0, which is not a real number"),
        ({"terminated": 0.5}, "returned terminated=0.5 at step 0, which is neither true nor false"),
        ({"terminated": [[1], [1, 2]]}, "returned terminated=[[1], [1, 2]] at step 0, which is neither true nor false"),
        ({"terminated": 2}, "returned terminated=2 at step 0, which is neither true nor false"),
        ({"info": None}, "step() must return a dictionary as info, not None"),
        ({"info": [("a", 1)]}, "step() must return a dictionary as info, not [('a', 1)]"),
    ],
)
def test_what_a_step_may_not_return(changes, sentence):
    with pytest.raises(UserError) as mistake:
        steps(**changes)
    assert str(mistake.value).startswith("'Line' ") and sentence in str(mistake.value)


async def later():
    return None


@pytest.mark.parametrize(
    ("found", "what"),
    [(None, "NoneType"), (later, "coroutine"), ((1, 2, 3, 4, 5, 6), "6 values"), ((x for x in "a"), "generator")],
)
def test_a_step_without_five_values(found, what):
    with pytest.raises(UserError, match=rf"\(obs, reward, terminated, truncated, info\), not {what}$"):
        behind(found=found() if found is later else found).step(np.zeros(1))


def test_lists_and_mappings_do_as_well():
    assert behind("reset", [np.ones(2), MappingProxyType({"a": 1})]).reset(seed=0)[1] == {"a": 1}
    assert steps(info=MappingProxyType({"is_success": True}))[4] == {"is_success": True}


def test_a_reset_that_needs_its_arguments_is_named():
    def reset(self, seed, options):
        return np.zeros(2), {}

    with pytest.raises(
        UserError, match=r"has the old interface of Gym: reset\(\) cannot do without 'seed' or 'options'"
    ):
        Border(type("Needs", (Line,), {"reset": reset})(), LIMITS).reset(seed=0)


class Silent(Exception):
    def __str__(self):
        raise TypeError("no text")


@pytest.mark.parametrize(
    "error", [Silent(), asyncio.CancelledError(), GeneratorExit(), StopIteration("end"), BaseException()]
)
@pytest.mark.parametrize("method", ["reset", "step", "render"])
def test_exceptions_of_any_kind_are_sentences(error, method):
    def fail(self, *_, **__):
        raise error

    env = Border(Line(), LIMITS)
    env.env = type("Fails", (Line,), {method: fail})()
    with pytest.raises(UserError, match=rf"'Line' failed in {method}\(\): {type(error).__name__}.*, at .*line \d+"):
        getattr(env, method)(*([np.zeros(1)] if method == "step" else []))


def test_ctrl_c_stays_what_it_is():
    def fail(self, action):
        raise KeyboardInterrupt

    env = behind(step=fail, method="render")
    with pytest.raises(KeyboardInterrupt):
        env.step(np.zeros(1))
    assert brief(Silent()) == "Silent"


@pytest.mark.parametrize(
    ("value", "success"),
    [
        (np.array([True]), True),
        (np.int8(0), False),
        (Tensor(np.array(1.0)), True),
        (np.nan, None),
        ("no", None),
        (0.5, None),
        (np.array([True, False]), None),
        ({"grasp": True}, None),
    ],
)
def test_success_in_any_form(value, success, capsys):
    """What is neither true nor false is said once, and a NaN says nothing."""
    name = f"Line-{value!r}-{success}"
    env = Border(Line(), LIMITS._replace(name=name))
    env.env = type("Says", (Line,), {"step": lambda *_: (np.zeros(2), 0.0, False, False, {"is_success": value})})()
    assert [succeeded(env.step(np.zeros(1))[4]) for _ in range(3)] == [success] * 3
    said = capsys.readouterr().err
    assert said.count("which is neither true nor false; such values do not count for success rates") == (
        success is None and value is not np.nan
    )


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (None, "has no observation_space; set it to one of gymnasium.spaces"),
        ((2,), "has an observation_space of type tuple, but it must be one of gymnasium.spaces"),
        (Discrete(2**62), "has 4611686018427387904 discrete observations ('obs'), but each is an entry of the vector"),
        (Dict({"cell": Dict({"at": MultiDiscrete([9_000, 9_000])})}), "has 18000 discrete observations ('cell.at')"),
    ],
)
def test_observation_spaces_that_are_refused(space, sentence):
    with pytest.raises(UserError) as mistake:
        Spaces(space, PUSH, "X")
    assert str(mistake.value).startswith("'X' ") and sentence in str(mistake.value)


@pytest.mark.parametrize(
    ("space", "value"), [(Discrete(3), 1.5), (Discrete(3), np.nan), (MultiDiscrete([2, 2]), [0.5, 1])]
)
def test_a_fraction_is_not_discrete(space, value):
    with pytest.raises(ValueError, match=r"the observation .* is not in (Multi)?Discrete"):
        Spaces(space, PUSH, "X").vector(value)


def test_names_are_distinct():
    seen = Dict({"a": Dict({"b": Box(-1, 1, ())}), "a.b": Box(-1, 1, ()), "bits": Tuple((Discrete(2), Discrete(2)))})
    names = Spaces(seen, PUSH, "X").obs_names
    assert names[:2] == ("a.b", "a.b#2") and len(set(names)) == len(names) == 6


def acting(low, high, dtype=np.float64):
    space = Box(-1.0, 1.0, (2,), dtype)
    space.low, space.high = np.array(low, dtype), np.array(high, dtype)
    return source_from("mine", type("Acts", (Line,), {"action_space": space}))


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (
            [np.nan, -1],
            [1, 1],
            "has the bounds nan and 1 for entry 0 of its actions, but the lower one must be a number",
        ),
        ([-1, 1], [1, -1], "has the bounds 1 and -1 for entry 1 of its actions"),
        ([-1, 1e8], [1, 1e8 + 1], "takes values from 100000000 to 100000001 for entry 1 of its actions, but between"),
        ([2e8, -1], [2e8 + 60, 1], "single precision has fewer than 100 numbers; let it take the distance"),
        ([0, -1], [np.inf, 1], "has unbounded actions, but planning needs finite bounds"),
    ],
)
def test_bounds_that_are_refused(low, high, sentence):
    with pytest.raises(UserError) as mistake:
        GymTask(acting(low, high))
    assert str(mistake.value).startswith("'mine' ") and sentence in str(mistake.value)


@pytest.mark.parametrize(
    ("low", "high"), [([-1e-12, 0], [1e-12, 1e-9]), ([1e6, -1], [1e6 + 100, 1]), ([-1e8, 5], [1e8, 5])]
)
def test_units_of_actions_may_be_small_or_large(low, high):
    with GymTask(acting(low, high)).make() as env:
        env.reset(seed=0)
        env.step(env.action_space.sample())


def failing(*_):
    raise RuntimeError("connect first")


def makes_many():
    return gymnasium.vector.SyncVectorEnv([Line])


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            type("Fails", (Line,), {"observation_space": property(failing)}),
            "read the spaces of 'mine': RuntimeError: conn",
        ),
        (
            gymnasium.Env,
            "cannot read the spaces of 'mine': AttributeError: 'Env' object has no attribute 'observation_s",
        ),
        (makes_many, "env 'mine' makes several environments at once; let it make one, and set train.environments"),
        (later, "env 'mine' returned coroutine, not a gymnasium.Env"),
    ],
)
def test_what_makes_no_usable_environment(env, sentence):
    with pytest.raises(UserError) as mistake:
        GymTask(source_from("mine", env))
    assert sentence in str(mistake.value)


def leave(self, memo):
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("copy", "reason"),
    [
        ({"__deepcopy__": leave}, "SystemExit: 1"),
        ({"__deepcopy__": lambda self, memo: None}, "its copy is None"),
        ({"__init__": lambda self: setattr(self, "lock", threading.Lock())}, "TypeError: cannot pickle"),
    ],
)
def test_an_object_that_cannot_be_copied(copy, reason):
    with pytest.raises(UserError, match=f"Uncopied cannot be copied; give a function that makes it .{reason}"):
        GymTask(source_from("mine", given(type("Uncopied", (Line,), copy)()).thing))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "environments.py:Line",
            r"'environments\.py:Line': a module is named without folder and '\.py'; .*'environments:Line'",
        ),
        ("/home/me/robot.py:Robot", r"in its folder, write 'robot:Robot'"),
    ],
)
def test_a_file_is_not_a_module(name, sentence):
    with pytest.raises(UserError, match=sentence):
        source_of(name)


def test_a_vector_of_environments_is_not_one():
    with pytest.raises(UserError, match=r"env must be a single environment, not .*; for several, set train\.environ"):
        given(makes_many())


@pytest.mark.parametrize("value", [print, object(), {1, 2}, [Line], {"inner": {3: 4}}], ids=type)
def test_an_argument_that_settings_cannot_hold(value):
    with pytest.raises(ValueError, match=r"robot=.* of type \w+ cannot be stored in settings, which hold numbers"):
        TaskSettings(env="Pendulum-v1", options={"robot": value})


def test_spaces_around_a_name_do_not_matter():
    assert TaskSettings(env=" Pendulum-v1\n").env == given(" Pendulum-v1 ").name == "Pendulum-v1"


_SHARED = Line()


def shared():
    """The same object each time, as for a robot of which there is one."""
    return _SHARED


def test_an_object_that_is_made_twice_may_be_used_in_turn():
    task = GymTask(source_from("mine", shared))
    (said,) = check(task, {})
    assert said.startswith("'mine' is one object, which what makes it returns each time, so two cannot be used in turn")
    one, other = task.make(), task.make()
    one.reset(seed=0)
    one.step(np.zeros(1))
    other.reset(seed=0)
    other.step(np.zeros(1))
    with pytest.raises(
        UserError, match="'mine' was reset elsewhere within an episode, since what makes it returns the"
    ):
        one.step(np.zeros(1))
    other.close()
    one.reset(seed=0)
    one.step(np.zeros(1))


@pytest.mark.parametrize(
    ("rate", "found"), [(0, 30), (None, 30), ("12", 12), (np.nan, 30), (-5, 30), (np.float32(12.5), 12.5), ([], 30)]
)
def test_frames_per_second_in_any_form(rate, found):
    env = Line()
    env.metadata = {"render_modes": "rgb_array", "render_fps": rate}
    assert Border(env, LIMITS).metadata["render_fps"] == found
    env.metadata = None
    assert Border(env, LIMITS).metadata["render_fps"] == 30


def test_one_render_mode_may_be_a_text():
    drawn = type("Drawn", (Line,), {"metadata": {"render_modes": "rgb_array"}})
    with GymTask(source_from("mine", drawn)).simulator(render_mode="rgb_array") as env:
        assert env.render_mode == "rgb_array"


def test_an_environment_that_takes_only_small_seeds_is_refused_before_a_run():
    def reset(self, *, seed=None, options=None):
        if seed >= 2**16:
            raise ValueError(f"seed {seed} is too large")
        return np.zeros(2), {}

    small = type("Small", (Line,), {"reset": reset})
    with pytest.raises(UserError, match=r"'mine' failed in reset\(\): ValueError: seed \d+ is too large, at "):
        check(GymTask(source_from("mine", small)), {})


@pytest.mark.parametrize(
    ("limit", "steps"), [(-1, 1000), (0, 1000), ("7", 1000), (None, 1000), (np.int64(7), 7), (7, 7)]
)
def test_a_time_limit_that_is_none(limit, steps):
    """Gymnasium writes -1 for no limit."""
    limited = type("Limited", (Line,), {"spec": SimpleNamespace(max_episode_steps=limit, id="x")})
    assert GymTask(source_from("mine", limited)).spec.horizon == steps


class Makes(gymnasium.Wrapper):
    def __new__(cls, env):
        return 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"wrappers": [f"{__name__}:Makes"]}, f"the wrapper '{__name__}:Makes' makes int, not a gymnasium.Env"),
        ({"env": "Pendulum-v1,"}, "no Gymnasium environment 'Pendulum-v1,'; did you mean 'Pendulum-v1'?"),
        ({"env": "environments.Line"}, "no task 'environments.Line'; did you mean 'environments:Line'?"),
    ],
)
def test_nearly_right_names_and_wrappers(settings, sentence):
    with pytest.raises(UserError) as mistake:
        make_task(TaskSettings(**{"env": "environments:Line", **settings}))
    assert str(mistake.value) == sentence
