"""The border to environments: what it copies, casts, checks and says, of whatever environment."""

import gc
import random
from contextlib import closing
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from environments import SPEC, Line
from foretell.envs import Environments, empty_episodes
from foretell.errors import UserError
from foretell.tasks import TaskSettings, make_task
from foretell.tasks.base import Task
from foretell.tasks.border import Border, Limits, fitted, rgb
from foretell.tasks.gym import GymTask
from foretell.tasks.sources import source_from

LIMITS = Limits("Line", ("position", "speed"), (-1.0,), (1.0,))


def behind(env, **changes):
    border = Border(env, LIMITS._replace(**changes))
    border.reset(seed=0)
    return border


def returning(*values, base=Line):
    """An environment whose steps return these values in place of its own, from the back."""

    class Returning(base):
        def step(self, action):
            return *super().step(action)[: 5 - len(values)], *values

    return Returning()


def test_an_environment_that_returns_the_same_array_each_step_is_copied():
    class Reuses(Line):
        seen = np.zeros(2)

        def step(self, action):
            self.seen[:] += 1.0
            return self.seen, *super().step(action)[1:]

    env = behind(Reuses())
    first, second = (env.step(np.zeros(1))[0] for _ in range(2))
    assert first.tolist() == [1, 1] and second.tolist() == [2, 2]


def test_an_environment_may_write_into_its_action():
    class Writes(Line):
        def step(self, action):
            found = super().step(action)
            action[:] = 9.0
            return found

    action = np.full(1, 0.5, np.float32)
    action.flags.writeable = False
    behind(Writes()).step(action)
    assert action == 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_actions_have_the_precision_of_their_space_and_lie_within_it(dtype):
    class Exact(Line):
        action_space = Box(dtype(-0.7), dtype(0.1), (1,), dtype)

        def step(self, action):
            assert action.dtype == dtype and self.action_space.contains(action), action
            return super().step(action)

    env = behind(Exact(), low=(float(dtype(-0.7)),), high=(float(dtype(0.1)),))
    for action in (-0.7, 0.1, 3.0, -3.0, 0.0):
        env.step(np.float32([action]))


@pytest.mark.parametrize(
    "reward", [1.5, np.float32(1.5), np.array([1.5]), np.array([[1.5]], np.float16), [1.5], np.array(1.5)]
)
def test_one_number_is_a_reward_in_any_form(reward):
    found = behind(returning(reward, False, False, {})).step(np.zeros(1))[1]
    assert type(found) is float and found == 1.5


@pytest.mark.parametrize(
    ("reward", "sentence"),
    [
        (np.nan, "'Line' returned the reward nan at step 0"),
        (-np.inf, "'Line' returned the reward -inf at step 0"),
        (1e300, "'Line' returned the reward 1e+300 at step 0"),
        (1 + 2j, "'Line' returned the reward (1+2j) at step 0, which is not a real number"),
        (None, "'Line' returned the reward None at step 0, which is not a real number"),
        ("much", "'Line' returned the reward 'much' at step 0, which is not a real number"),
        (
            np.ones(3),
            "'Line' returned 3 rewards at once at step 0; weight them with task.reward_weights=[1.0, 1.0, 1.0]",
        ),
        (np.array([]), "'Line' returned 0 rewards at once"),
    ],
)
def test_what_is_no_reward(reward, sentence):
    with pytest.raises(UserError) as mistake:
        behind(returning(reward, False, False, {})).step(np.zeros(1))
    assert sentence in str(mistake.value)


@pytest.mark.parametrize(
    ("rewards", "weights", "total"),
    [(np.array([1.0, 2.0]), (1.0, 0.5), 2.0), ([3, -1, 1], (0.0, 1.0, 2.0), 1.0), (np.array([4.0]), (0.25,), 1.0)],
)
def test_several_rewards_are_weighted(rewards, weights, total):
    env = behind(returning(rewards, False, False, {}), reward_weights=weights)
    assert env.step(np.zeros(1))[1] == total


def test_weights_of_another_number():
    env = behind(returning(np.ones(3), False, False, {}), reward_weights=(1.0, 2.0))
    with pytest.raises(UserError, match=r"task.reward_weights has 2 weights, but 'Line' returned 3 rewards"):
        env.step(np.zeros(1))


@pytest.mark.parametrize("flag", [True, np.bool_(True), np.array([True]), 1, np.float32(1.0)])
def test_a_termination_in_any_form(flag):
    assert behind(returning(flag, flag, {})).step(np.zeros(1))[2:4] == (True, True)


@pytest.mark.parametrize("flag", [np.nan, None, "no", np.array([True, False]), 1j])
def test_what_is_no_termination(flag):
    with pytest.raises(UserError, match=r"'Line' returned terminated=.* at step 0, which is neither true nor false"):
        behind(returning(flag, False, {})).step(np.zeros(1))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_an_observation_that_is_not_finite_is_named(value):
    """Also not in single precision, in which networks compute."""
    env = behind(returning(np.array([0.0, value]), 0.0, False, False, {}))
    with pytest.raises(UserError, match="'Line' returned an observation that is not finite in 'speed'"):
        env.step(np.zeros(1))


def test_imagination_lets_numbers_pass_that_are_not_finite():
    env = Border(returning(np.full(2, np.nan), np.inf, False, False, {}), LIMITS, strict=False)
    env.reset(seed=0)
    obs, reward, *_ = env.step(np.zeros(1))
    assert np.isnan(obs).all() and reward == np.inf


class Gambles(Line):
    """Draws from the global generators; in steps from NumPy's, since type checks in tests draw from Python's too."""

    count = 2

    def reset(self, *, seed=None, options=None):
        super().reset(seed=None)
        self.state = np.array([random.random(), np.random.rand()])
        return self.state.copy(), {}

    def step(self, action):
        self.state[: self.count] = np.random.standard_normal(self.count)
        return self.state.copy(), 0.0, False, False, {}


class Holds(Gambles):
    """NumPy draws normal numbers in pairs, and holds the second one back."""

    count = 1


class Abstains(Gambles):
    count = 0


def draws(env, seed, steps=3):
    return [env.reset(seed=seed)[0].tolist(), *(env.step(np.zeros(1))[0].tolist() for _ in range(steps))]


def test_the_global_generators_follow_from_the_seed_of_an_episode():
    env = behind(Gambles())
    assert draws(env, 1) == draws(env, 1) == draws(behind(Gambles()), 1) != draws(env, 2)


@pytest.fixture(params=[None, np.random.PCG64])
def generator(request):
    """The generator behind NumPy's global functions, which a program may replace."""
    gc.collect()  # environments of other tests
    before = np.random.get_bit_generator()
    if request.param:
        np.random.set_bit_generator(request.param(1))
    yield
    np.random.set_bit_generator(before)


@pytest.mark.usefixtures("generator")
@pytest.mark.parametrize("kinds", [(Gambles, Gambles), (Holds, Holds), (Holds, Abstains), (Abstains, Gambles, Holds)])
def test_environments_that_are_stepped_in_turn_draw_as_they_would_alone(kinds):
    alone = [draws(behind(kind()), seed) for seed, kind in enumerate(kinds)]
    np.random.standard_normal()  # the program holds a number back, too
    expected = str(np.random.get_state(legacy=False))
    envs = [behind(kind()) for kind in kinds]
    together = [[env.reset(seed=seed)[0].tolist()] for seed, env in enumerate(envs)]
    for _ in range(3):
        for env, row in zip(envs, together, strict=True):
            row.append(env.step(np.zeros(1))[0].tolist())
    for env in envs:
        env.close()
    assert together == alone
    assert str(np.random.get_state(legacy=False)) == expected


def test_the_programs_own_generators_are_left_as_they_were():
    gc.collect()  # environments of other tests
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    with GymTask("tiny/Line-v0").make() as env:
        draws(env, 1)
    assert np.random.rand() == expected


def test_a_batch_repeats_episodes_of_environments_that_draw_from_global_generators():
    class Gambling(Task):
        spec = replace(SPEC, env_id="Gambles")

        def simulator(self, *, render_mode=None):
            return Gambles()

    envs, episodes = Environments(Gambling(), 2, seed=3), empty_episodes(SPEC, 2)
    envs.begin(episodes, {0: 0, 1: 1})
    for _ in range(3):
        envs.step(episodes, np.zeros((2, 1), np.float32), 5)
    assert Environments(Gambling(), 2, seed=3).repeat(episodes) == {}
    episodes.obs[1, 3] += 1.0
    assert Environments(Gambling(), 2, seed=3).repeat(episodes) == {1: False}


@pytest.mark.parametrize("method", ["reset", "step", "render"])
def test_an_environment_that_ends_the_program_does_not(method):
    def leave(self, *args, **keywords):
        raise SystemExit(3)

    env = behind(Line())
    env.env = type("Leaves", (Line,), {method: leave})()
    with pytest.raises(
        UserError, match=rf"'Line' failed in {method}\(\): SystemExit: 3, at .*test_border.py, line \d+"
    ):
        getattr(env, method)(*([np.zeros(1)] if method == "step" else []))


@pytest.mark.parametrize("error", [SystemExit(None), RuntimeError("no window"), UserError("the robot is gone")])
def test_what_was_done_is_complete_though_closing_fails(error, capsys):
    def fail(self):
        raise error

    name = f"Fails-{type(error).__name__}"
    for _ in range(2):
        env = behind(type("Fails", (Line,), {"close": fail})(), name=name)
        env.step(np.zeros(1))
        env.close()
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("warning: ") and ("is gone" in said or f"'{name}' failed in close(): " in said)


def test_a_failure_is_not_hidden_by_another_one_in_closing():
    def fail(self, *args):
        raise RuntimeError("broken")

    env = behind(Line())
    env.env = type("Broken", (Line,), {"step": fail, "close": fail})()
    with pytest.raises(UserError, match=r"failed in step\(\)"), closing(env):
        env.step(np.zeros(1))


@pytest.mark.parametrize(("seen", "size"), [(Box(-1, 1, (3,)), 3), (Dict({"q": Box(-1, 1, (1,))}), 1)])
def test_a_task_that_says_another_size(seen, size):
    env = Line()
    env.observation_space = seen
    with pytest.raises(UserError, match=f"that 'Line' has observations of size 2, but their size is {size}"):
        Border(env, LIMITS)


@pytest.mark.parametrize(
    ("frame", "corner"),
    [
        (np.full((4, 6, 3), 7, np.uint8), [7, 7, 7]),
        (np.full((4, 6), 7, np.uint8), [7, 7, 7]),
        (np.full((4, 6, 1), 0.5, np.float32), [127, 127, 127]),
        (np.full((4, 6, 4), 7, np.int64), [7, 7, 7]),
        (np.stack([np.full((4, 6), shade, np.uint8) for shade in (1, 2, 3)]), [1, 2, 3]),
        ([np.zeros((4, 6, 3)), np.full((4, 6, 3), 0.2)], [51, 51, 51]),
        (np.full((4, 6), True), [255, 255, 255]),
        (np.full((4, 6, 3), 300.0), [255, 255, 255]),
    ],
)
def test_frames_of_any_form_are_pictures(frame, corner):
    picture = rgb(frame)
    assert picture.dtype == np.uint8 and picture.shape == (4, 6, 3) and picture[0, 0].tolist() == corner


@pytest.mark.parametrize("frame", [None, "text", 3])
def test_what_is_no_picture_stays_as_it_is(frame):
    assert rgb(frame) is frame


@pytest.mark.parametrize("size", [(4, 6), (2, 9), (5, 3)])
def test_all_pictures_of_a_video_have_one_size(size):
    picture = fitted(np.ones((*size, 3), np.uint8), (4, 6, 3))
    assert picture.shape == (4, 6, 3) and picture.sum() == 3 * min(size[0], 4) * min(size[1], 6)


def made(env, **options):
    return GymTask(source_from("mine", env), **options)


def bounded(low, high, dtype=np.float64):
    return type("Bounded", (Line,), {"action_space": Box(np.array(low), np.array(high), dtype=dtype)})


@pytest.mark.parametrize(
    ("space", "given", "low", "high"),
    [
        (bounded([-np.inf], [np.inf]), (-2.0, 3.0), (-2.0,), (3.0,)),
        (bounded([-3e38, -1.0], [3e38, 1.0]), (-5.0, 5.0), (-5.0, -1.0), (5.0, 1.0)),
        (bounded([-1.0, -np.inf], [1.0, np.inf]), ([-0.5, -4.0], [0.5, 4.0]), (-0.5, -4.0), (0.5, 4.0)),
        (bounded([-1.0, 2.0, 0.0], [1.0, 2.0, 4.0]), None, (-1.0, 0.0), (1.0, 4.0)),
    ],
)
def test_bounds_of_actions(space, given, low, high):
    """Given ones are within the environment's own; entries whose bounds have no width are not chosen."""
    spec = made(space, action_bounds=given).spec
    assert (spec.action_low, spec.action_high) == (low, high)


@pytest.mark.parametrize(
    ("space", "given", "sentence"),
    [
        (
            bounded([-np.inf], [np.inf]),
            None,
            "'mine' has unbounded actions, but planning needs finite bounds; set task.act",
        ),
        (bounded([-3e38], [3e38], np.float32), None, "'mine' has unbounded actions"),
        (bounded([0.0], [np.inf]), (-1.0, 1e30), "'mine' has unbounded actions"),
        (
            bounded([-1.0], [1.0]),
            (2.0, 3.0),
            "task.action_bounds leave nothing of entry 0 of the actions of 'mine', whose",
        ),
        (bounded([-1.0], [1.0]), ([0.0, 0.0], 1.0), "task.action_bounds have 2 numbers, but 'mine' takes 1"),
    ],
)
def test_bounds_that_cannot_be_planned_with(space, given, sentence):
    with pytest.raises(UserError) as mistake:
        made(space, action_bounds=given)
    assert sentence in str(mistake.value)


@pytest.mark.parametrize(("low", "high"), [((-3e38,), (3e38,)), ((-1.0,), (np.inf,)), ((np.nan,), (1.0,))])
def test_a_task_whose_bounds_cannot_be_planned_with(low, high, monkeypatch):
    wide = type("Wide", (Task,), {"spec": replace(SPEC, action_low=low, action_high=high), "__module__": __name__})
    monkeypatch.setitem(globals(), "Wide", wide)
    with pytest.raises(
        UserError, match=f"env '{__name__}:Wide': the task's spec has the action bound .*, but planning"
    ):
        make_task(TaskSettings(env=f"{__name__}:Wide"))


def test_entries_without_width_are_filled_in():
    class Checks(Line):
        action_space = Box(np.array([0.5, -1.0, 3.0]), np.array([0.5, 1.0, 3.0]), dtype=np.float64)

        def step(self, action):
            assert action.tolist() == [0.5, 0.25, 3.0]
            return super().step(action)

    with made(Checks).make() as env:
        env.reset(seed=0)
        env.step(np.float32([0.25]))


@pytest.mark.parametrize("limit", [3, 7])
@pytest.mark.long
def test_a_horizon_above_a_limit_that_cannot_be_raised_is_refused(limit):
    def limited():
        return gymnasium.wrappers.TimeLimit(Line(), limit)

    assert made(limited).spec.horizon == limit and made(limited, horizon=2).spec.horizon == 2
    with pytest.raises(UserError, match=f"task.horizon=9 is above the time limit of 'mine', {limit} steps; raise the"):
        made(limited, horizon=9)
