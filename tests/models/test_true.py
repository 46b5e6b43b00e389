"""Copies of an environment give, to the bit, the rewards that the environment itself would give."""

import gymnasium
import numpy as np
import pytest

from environments import Ends, Line
from foretell.errors import UserError
from foretell.tasks import TaskSettings, make_task
from foretell.models.true import Simulation, Simulators, snapshot

ENVIRONMENTS = ["cartpole", "reacher", "pusher", "halfcheetah"]
ENVIRONMENTS += ["InvertedPendulum-v5", "HalfCheetah-v5", "Pusher-v5", "Hopper-v5", "Pendulum-v1"]


class Windy(Line):
    """Chance moves the point; its state is in a list, within an object that knows its environment, and in a model."""

    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        self.trace, self.wind, self.window = [], Wind(self), 7

    def step(self, action):
        self.trace.append(self.wind.blow())
        obs, *rest = super().step(action)
        return obs, sum(self.trace) + self.window, *rest[1:]


class Wind:
    def __init__(self, env):
        self.env = env

    def blow(self):
        self.env.state = self.env.state + self.env.np_random.normal(size=2)
        return float(self.env.state[0])


class Pickled(Line, gymnasium.utils.EzPickle):
    """Copied by `deepcopy` it would begin anew."""

    def __init__(self, render_mode=None):
        gymnasium.utils.EzPickle.__init__(self, render_mode)
        super().__init__(render_mode)


class Locked(Line):
    """Holds what cannot be copied."""

    def reset(self, **kwargs):
        self.generator = (i for i in range(3))
        return super().reset(**kwargs)


class Late(Line):
    """Breaks when it has gone far."""

    def step(self, action):
        if self.state[1] > 3:
            raise RuntimeError("the rail has ended")
        self.state = self.state + 1.0
        return super().step(action)


class Nan(Line):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, np.nan if action[0] > 0 else 1.0, *rest


class Twice(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2.0 * float(reward)


for _class in (Windy, Pickled, Locked, Late, Nan):
    gymnasium.register(f"oracle/{_class.__name__}-v0", entry_point=_class, max_episode_steps=20)
gymnasium.register("oracle/Twice-v0", entry_point=lambda **k: Twice(Line(**k)), max_episode_steps=20)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs where it runs that a model of Gymnasium's is written in an old way."""
    monkeypatch.chdir(tmp_path)


def task_of(env, **settings):
    return make_task(TaskSettings(env=env, **settings))


def random_actions(env, *shape, seed=0):
    space = env.action_space
    return np.random.default_rng(seed).uniform(space.low, space.high, (*shape, *space.shape)).astype(np.float32)


def in_mid_episode(task, seed=1, steps=17):
    """The pendulum falls soon."""
    env, steps = task.make(), 3 if "InvertedPendulum" in task.spec.env_id else steps
    env.reset(seed=seed)
    for action in random_actions(env, steps, seed=seed):
        env.step(action)
    return env


def lived(env, actions):
    """The return of really taking the actions, in the order in which the copies add rewards up."""
    total = 0.0
    for action in actions:
        _, reward, terminated, _, _ = env.step(action)
        total += float(reward)
        if terminated:
            break
    return np.float32(total)


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "oracle/Windy-v0", "oracle/Pickled-v0", "oracle/Twice-v0"])
def test_returns_are_to_the_bit_what_the_environment_then_gives(name):
    """In mid-episode, for the first and last of several candidates, and again from where they have led."""
    task = task_of(name)
    env, simulators = in_mid_episode(task), Simulators(task, threads=2)
    for which in (0, -1):
        actions = random_actions(env, 5, 12, seed=which + 2) * np.float32(0.1 if name == "InvertedPendulum-v5" else 1)
        values = simulators.returns(simulators.snapshot(env), actions)
        assert (
            values.dtype == np.float32
            and np.isfinite(values).all()
            and (values[0] != values[1] or task.spec.env_id[:8] == "Inverted")
        )
        assert values[which] == lived(env, actions[which])


def test_noise_on_actions_is_foreseen():
    task = task_of("cartpole", action_noise=0.5)
    env, simulators = in_mid_episode(task), Simulators(task, threads=2)
    actions = np.zeros((2, 12, 1), np.float32)
    values = simulators.returns(simulators.snapshot(env), actions)
    assert values[0] == values[1] == lived(env, actions[0])
    assert values[0] != simulators.returns(simulators.snapshot(env), actions)[0]


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "oracle/Windy-v0"])
def test_planning_changes_nothing_in_the_environment(name):
    task = task_of(name)
    planned, alone, simulators = in_mid_episode(task), in_mid_episode(task), Simulators(task, threads=1)
    for action in random_actions(alone, 3, seed=5):
        simulators.returns(simulators.snapshot(planned), random_actions(planned, 4, 6))
        mine, other = planned.step(action), alone.step(action)
        np.testing.assert_array_equal(mine[0], other[0])
        assert mine[1] == other[1]


def test_a_snapshot_stays_as_it_is():
    task = task_of("halfcheetah")
    env, simulators = in_mid_episode(task), Simulators(task, threads=2)
    start, actions = simulators.snapshot(env), random_actions(env, 4, 6)
    before = simulators.returns(start, actions)
    lived(env, actions[0])
    np.testing.assert_array_equal(simulators.returns(start, actions), before)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_the_number_of_threads_changes_no_result(threads):
    task = task_of("reacher")
    start, actions = snapshot(in_mid_episode(task)), random_actions(task.make(), 5, 4)
    alone, together = (Simulators(task, n).returns(start, actions) for n in (1, threads))
    np.testing.assert_array_equal(together, alone)


def test_time_limits_do_not_end_a_plan_but_terminations_do():
    line, ends = task_of("environments:tiny/Line-v0"), task_of("environments:tiny/Ends-v0")
    assert line.spec.horizon == 5 and Ends is not None
    for task, counted in ((line, 9), (ends, 3)):
        env = task.make()
        env.reset(seed=0)
        actions = random_actions(env, 1, 9)
        value = Simulators(task, 1).returns(snapshot(env), actions)
        assert value[0] == lived(env.unwrapped, actions[0, :counted])


def test_an_environment_that_is_drawn_can_be_copied():
    """The copy has no screen, and draws nothing even where the environment shows every step."""
    env = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    env.reset(seed=0)
    env.unwrapped.screen, env.unwrapped.clock = (i for i in ()), (i for i in ())
    twin = snapshot(env)
    assert twin.render_mode is None and twin.screen is None and twin.clock is None
    np.testing.assert_array_equal(twin.state, env.unwrapped.state)


def test_rewards_that_are_not_finite_stay_what_they_are():
    task = task_of("oracle/Nan-v0")
    values = Simulators(task, 1).returns(snapshot(in_mid_episode(task)), np.float32([[[1.0]] * 3, [[-1.0]] * 3]))
    assert np.isnan(values[0]) and values[1] == 3.0


def test_an_environment_that_cannot_be_copied_is_told_at_once():
    sentence = r"'oracle/Locked-v0' cannot be copied, which planning with the simulator needs \(TypeError: .*generator"
    with pytest.raises(UserError, match=sentence):
        Simulators(task_of("oracle/Locked-v0"), threads=1)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_while_planning_is_told(threads):
    task = task_of("oracle/Late-v0")
    env = task.make()
    env.reset(seed=0)
    simulators = Simulators(task, threads)
    with pytest.raises(UserError, match=r"'oracle/Late-v0' failed in step\(\): RuntimeError: the rail has ended"):
        simulators.returns(simulators.snapshot(env), random_actions(env, 4, 9))


def test_there_is_a_thread_for_each_core_unless_set():
    assert Simulation().count() >= 1
    assert Simulation(threads=3).count() == 3
    with pytest.raises(ValueError, match="greater than 0"):
        Simulation(threads=0)
