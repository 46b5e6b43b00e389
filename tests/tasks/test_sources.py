"""Where environments come from: names, classes, functions and objects, with arguments and wrappers."""

import functools
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

import environments
from environments import Line
from foretell.errors import UserError
from foretell.tasks import TaskSettings, make_task
from foretell.tasks.check import check
from foretell.tasks.gym import GymTask
from foretell.tasks.sources import given, source_of, wrapped


class Long(Line):
    """Takes an argument."""

    def __init__(self, length=1.0, render_mode=None):
        super().__init__(render_mode)
        self.length = length


def make_long(length=2.0):
    return Long(length)


def register_long():
    gymnasium.register("test/Long-v3", entry_point=Long, max_episode_steps=6)


def make_nothing():
    """Registers an environment, and returns none."""
    gymnasium.register("test/Silent-v0", entry_point=Line)


def make_text():
    return "robot"


HERE = __name__


def task_of(env, **settings):
    found = given(env)
    return make_task(TaskSettings(env=found.name, **{"options": dict(found.options), **settings}), {"env": found})


def bare(task):
    return task.simulator().unwrapped


@pytest.mark.parametrize(
    ("env", "name", "length"),
    [
        (Long, f"{HERE}:Long", 1.0),
        (make_long, f"{HERE}:make_long", 2.0),
        (lambda: Long(3.0), f"{HERE}:<lambda>", 3.0),
        (functools.partial(Long, 4.0), "functools:<partial>", 4.0),
        (Long(5.0), f"{HERE}:Long:<object>", 5.0),
        (f"{HERE}:Long", f"{HERE}:Long", 1.0),
        (f"{HERE}:make_long", f"{HERE}:make_long", 2.0),
        (f"{HERE}:register_long:test/Long-v3", f"{HERE}:register_long:test/Long-v3", 1.0),
    ],
)
def test_an_environment_may_be_given_in_many_ways(env, name, length):
    task = task_of(env)
    assert isinstance(task, GymTask) and task.spec.env_id == name and bare(task).length == length
    assert bare(task) is not bare(task)


@pytest.mark.parametrize(
    ("env", "name", "options"),
    [
        ("Pendulum-v1", "Pendulum-v1", {"g": 3.0}),
        ("Pendulum", "Pendulum", {"g": 3.0}),
        ("gymnasium:Pendulum-v1", "gymnasium:Pendulum-v1", {"g": 3.0}),
        (gymnasium.make("Pendulum-v1", g=3.0), "Pendulum-v1", {"g": 3.0}),
        (gymnasium.make("Pendulum-v1", g=3.0).spec, "Pendulum-v1", {"g": 3.0}),
        (
            gymnasium.make("Pendulum-v1", g=3.0, max_episode_steps=50),
            "Pendulum-v1",
            {"g": 3.0, "max_episode_steps": 50},
        ),
    ],
)
def test_ids_with_arguments_and_what_gymnasium_made_of_them_can_be_made_again(env, name, options):
    task = make_task(TaskSettings(env=given(env).name, options={**options, **dict(given(env).options)}))
    assert task.spec.env_id == name and bare(task).g == 3.0
    assert task.spec.horizon == options.get("max_episode_steps", 200)
    if not isinstance(env, str):
        assert dict(given(env).options) == options and given(env).thing is None


def test_an_object_in_wrappers_is_made_again_with_them():
    env = gymnasium.wrappers.RescaleAction(gymnasium.make("Pendulum-v1"), -0.5, 0.5)
    assert task_of(env).spec.action_high == (0.5,) and given(env).name == "EnvSpec:<Pendulum-v1>"


def test_a_class_of_a_task_is_a_task():
    assert type(task_of(environments.ShortCartpole)) is environments.ShortCartpole


@pytest.mark.parametrize(
    ("env", "options"), [(Long, {"length": 7.0}), (make_long, {"length": 7.0}), (f"{HERE}:make_long", {"length": 7.0})]
)
def test_arguments_reach_what_makes_the_environment(env, options):
    assert bare(task_of(env, options=options)).length == 7.0


RESCALED = {"RescaleAction": {"min_action": -1.0, "max_action": 0.25}}


@pytest.mark.parametrize(
    ("wrappers", "kinds", "high"),
    [
        (["gymnasium.wrappers:ClipAction"], ["ClipAction"], 1.5),
        ([RESCALED], ["RescaleAction"], 0.25),
        ([RESCALED, "FlattenObservation"], ["FlattenObservation", "RescaleAction"], 0.25),
        ([{"gymnasium.wrappers:TimeLimit": {"max_episode_steps": 7}}, {"ClipAction": None}], ["ClipAction"], 1.5),
    ],
)
def test_wrappers(wrappers, kinds, high):
    """By name, the first one innermost; `ClipAction` has no bounds of its own."""
    task = make_task(TaskSettings(env="Pendulum-v1", wrappers=wrappers, action_bounds=(-1.5, 1.5)))
    env = task.simulator()
    for kind in kinds:
        assert type(env).__name__ == kind
        env = env.env
    assert task.spec.action_high == (high,)
    assert task.spec.horizon == (7 if "TimeLimit" in str(wrappers) else 200)


@pytest.mark.parametrize("wrappers", ["ClipAction", [3], [{"ClipAction": {}, "ClipReward": {}}], [{}]])
def test_what_is_no_list_of_wrappers(wrappers):
    with pytest.raises(ValueError, match="wrappers"):
        TaskSettings(env="Pendulum-v1", wrappers=wrappers)


@pytest.mark.parametrize(
    ("wrapper", "sentence"),
    [
        ("RescaleActoin", "no wrapper 'RescaleActoin'; did you mean 'RescaleAction'?"),
        ("environments:Line", "wrapper 'environments:Line': 'environments' has no Wrapper 'Line'"),
        ({"RescaleAction": {"low": 1}}, "cannot make the wrapper 'RescaleAction': TypeError"),
    ],
)
def test_a_wrapper_that_cannot_be_made(wrapper, sentence):
    with pytest.raises(UserError) as mistake:
        wrapped(Line(), [wrapper])
    assert sentence in str(mistake.value)


@pytest.mark.parametrize("env", [3, None, ["Pendulum-v1"], {"id": "Pendulum-v1"}, 1.5])
def test_what_is_no_environment(env):
    with pytest.raises(UserError, match="env must be a name, a class, a function that makes an environment, or an env"):
        given(env)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (make_text, f"env '{HERE}:make_text' returned str, not a gymnasium.Env"),
        (make_nothing, f"env '{HERE}:make_nothing' returned no environment; it registered test/Silent-v0: write"),
        (f"{HERE}:gone", f"env '{HERE}:gone': '{HERE}' has nothing named 'gone'"),
        (f"{HERE}:HERE", f"env '{HERE}:HERE' is of type str; it must make environments"),
        (f"{HERE}:gone:Id-v0", f"env '{HERE}:gone': '{HERE}' has nothing named 'gone'"),
        (
            "__main__:make",
            "env '__main__:make' cannot be imported by name; in Python, give env= to resume, load and film",
        ),
        ("EnvSpec:Pendulum", "cannot import 'EnvSpec'"),
        ("functools:<partial>", "env 'functools:<partial>' cannot be imported by name; in Python, give env="),
    ],
)
def test_a_source_that_makes_no_environment(env, sentence):
    gymnasium.registry.pop("test/Silent-v0", None)
    with pytest.raises(UserError) as mistake:
        make_task(TaskSettings(env=env)) if isinstance(env, str) else task_of(env)
    assert sentence in str(mistake.value)


def test_an_object_that_cannot_be_copied():
    env = Line()
    env.socket = (value for value in ())
    with pytest.raises(UserError, match="Line cannot be copied; give a function that makes it"):
        task_of(env)


def test_an_environment_of_another_name_is_not_taken():
    with pytest.raises(
        UserError, match=rf"the environment of the settings is 'Pendulum-v1', but env= is '{HERE}:Long'"
    ):
        make_task(TaskSettings(env="Pendulum-v1"), {"env": given(Long)})


def test_the_working_directory_is_searched_for_what_registers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "my_arm.py").write_text(
        "import gymnasium, environments\n"
        "def register_all():\n    gymnasium.register('MyArm', entry_point=environments.Line, max_episode_steps=4)\n"
    )
    assert GymTask(source_of("my_arm:register_all:MyArm")).spec.horizon == 4
    assert make_task(TaskSettings(env="MyArm")).spec.horizon == 4
    del gymnasium.registry["MyArm"], sys.modules["my_arm"]


def drawn_as(*modes, takes=True):
    def init(self, render_mode=None):
        Line.__init__(self, render_mode)

    members = {
        "metadata": {"render_modes": list(modes)},
        "__init__": init if takes else lambda self: Line.__init__(self),
    }
    return type("Drawn", (Line,), members)


@pytest.mark.parametrize(
    ("modes", "sentence"),
    [
        ((), "it has no render modes, and a video needs 'rgb_array'"),
        (("human",), "it is drawn only as human, and a video needs 'rgb_array'"),
        (("ansi", "human"), "it is drawn only as ansi, human, and a video needs 'rgb_array'"),
    ],
)
def test_an_environment_that_cannot_be_filmed_is_told_in_one_sentence(modes, sentence):
    with pytest.raises(UserError, match=f"cannot film '{HERE}:Drawn': {sentence}"):
        task_of(drawn_as(*modes)).make(render_mode="rgb_array")


@pytest.mark.parametrize("takes", [True, False])
def test_it_is_asked_to_draw_if_it_can_be(takes):
    env = task_of(drawn_as("rgb_array", takes=takes)).make(render_mode="rgb_array")
    assert env.render_mode == ("rgb_array" if takes else None)


class Leaks(Line):
    """Begins where the last episode ended."""

    state = np.zeros(2)

    def reset(self, *, seed=None, options=None):
        before = self.state
        super().reset(seed=seed)
        self.state = self.state + 0.1 * before
        return self.state.copy(), {}


class Counts(Line):
    """Wears out."""

    def step(self, action):
        return super().step(action * 0.5**self.resets)


class Wears(gymnasium.Wrapper):
    """A wrapper that does."""

    worn = 1.0

    def step(self, action):
        self.worn *= 0.99
        return self.env.step(action * self.worn)


class Drifts(Line):
    """Is never the same twice."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None)


class Shakes(Line):
    def step(self, action):
        obs, *rest = super().step(action)
        return obs + np.random.default_rng().normal(size=2), *rest


class Late(Line):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, np.random.default_rng().random(), *rest


@pytest.mark.parametrize("env", [Leaks, Counts, lambda: Wears(Line())])
def test_state_that_leaks_from_an_episode_into_the_next_is_found(env):
    (said,) = check(task_of(env), {})
    assert "keeps state from one episode to the next" in said


@pytest.mark.parametrize("env", [Drifts, Shakes, Late])
def test_an_environment_that_does_not_repeat_itself_is_found(env):
    (said,) = check(task_of(env), {})
    assert "is not reproducible: two new copies differ after the same seed and actions" in said


@pytest.mark.parametrize("env", [Line, environments.Ragged, "Pendulum-v1", "cartpole"])
def test_nothing_is_said_of_others(env):
    assert check(task_of(env), {}) == []


@pytest.mark.parametrize(
    ("role", "name", "value"),
    [("reward", "nowhere", "nan"), ("reward", "infinite", "inf"), ("terminated", "nowhere", "nan")],
)
def test_a_function_that_returns_no_number_on_real_steps_is_refused(role, name, value):
    task = make_task(TaskSettings(env=f"{HERE}:Long", **{role: f"environments:{name}"}))
    with pytest.raises(UserError, match=rf"{role} 'environments:{name}' returned -?{value} on \d+ of 10 steps of"):
        check(task, {role: f"environments:{name}"})


@pytest.mark.parametrize(("name", "differs"), [("reward", False), ("other_reward", True)])
def test_a_reward_that_is_not_the_environments_is_said(name, differs):
    task = make_task(TaskSettings(env=f"{HERE}:Long", reward=f"environments:{name}"))
    said = check(task, {"reward": f"environments:{name}"})
    start = f"reward 'environments:{name}' differs from the rewards of '{HERE}:Long' by "
    assert [text.startswith(start) for text in said] == [True] * differs


def test_complex_rewards_are_refused():
    with pytest.raises(UserError, match="reward 'environments:imagined' must return real numbers, not complex64"):
        make_task(TaskSettings(env=f"{HERE}:Long", reward="environments:imagined"))


@pytest.mark.long
def test_an_action_space_of_parts_is_planned_in():
    class Parts(Line):
        action_space = gymnasium.spaces.Dict({"push": Box(-1, 1, (1,)), "aim": Box(-2, 2, (2, 1), np.float64)})

        def step(self, action):
            assert self.action_space.contains(action)
            return super().step(action["push"])

    task = task_of(Parts)
    assert task.spec.action_high == (2.0, 2.0, 1.0) and check(task, {}) == []
