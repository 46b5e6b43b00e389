"""From an observation back into the simulator's state."""

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

from environments import SPEC
from foretell import registry
from foretell.tasks import Task, TaskSettings, make_task

OWN = {
    "cartpole": [{}],
    "reacher": [{}],
    "halfcheetah": [{}],
    "cheetah-torso": [{"progress": "com-lagged"}, {"progress": "com"}, {"progress": "torso"}],
    "mbmf-swimmer": [{}, {"path": "right"}],
    "mbmf-cheetah": [{}],
    "mbmf-ant": [{}, {"released_angles": True}],
}
GYMNASIUMS = {
    "Pendulum-v1": [{}],
    "HalfCheetah-v5": [{}, {"exclude_current_positions_from_observation": False}],
    "Swimmer-v5": [{}],
    "InvertedPendulum-v5": [{}],
}
RESTORED = [(env, options) for env, several in {**OWN, **GYMNASIUMS}.items() for options in several]
HIDDEN = ["Hopper-v5", "Walker2d-v5", "Ant-v5", "Reacher-v5", "Pusher-v5", "InvertedDoublePendulum-v5"]


class Windy(InvertedPendulumEnv):
    """The wind differs from episode to episode, and is not observed."""

    def reset_model(self):
        self.model.opt.wind[0] = self.np_random.normal()
        self.model.opt.density = 1e3
        return super().reset_model()


class Doubled(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return 2.0 * observation


class Breaks(PendulumEnv):
    def step(self, action):
        raise RuntimeError("the gripper is jammed")


def _doubled(**options):
    return Doubled(PendulumEnv(**options))


for name, entry in {"Windy": Windy, "Doubled": _doubled, "Breaks": Breaks}.items():
    gymnasium.register(f"restore/{name}-v0", entry_point=entry, max_episode_steps=50)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs where it runs that a model of Gymnasium's is written in an old way."""
    monkeypatch.chdir(tmp_path)


def task_of(env, options=None):
    return make_task(TaskSettings(env=env, options=options or {}))


def transitions(task, count=40):
    """(observation, action, what the step then gave), also of the first step of an episode."""
    env, generator = task.simulator().unwrapped, np.random.default_rng(0)
    obs = env.reset(seed=1)[0]
    for i in range(count):
        action = generator.uniform(task.spec.action_low, task.spec.action_high).astype(np.float32)
        step = env.step(action)
        yield obs, action, step
        obs = env.reset(seed=2 + i)[0] if step[2] else step[0]


@pytest.mark.parametrize(("env", "options"), RESTORED)
@pytest.mark.long
def test_a_restored_simulator_goes_on_as_the_one_that_was_observed(env, options):
    """Also where its own last state was far away, and from an observation in single precision."""
    task = task_of(env, options)
    other = task.simulator().unwrapped
    other.reset(seed=99)
    for obs, action, step in transitions(task):
        for kind, error in ((np.float64, 1e-6), (np.float32, 2e-5)):
            task.restore(other, obs.astype(kind).astype(np.float64))
            next_obs, reward, terminated, *_ = other.step(action)
            np.testing.assert_allclose(next_obs, step[0], rtol=error, atol=error)
            np.testing.assert_allclose(reward, step[1], rtol=error, atol=error)
            assert terminated == step[2]


@pytest.mark.parametrize("env", ["cartpole", "reacher", "mbmf-swimmer", "mbmf-cheetah", "mbmf-ant"])
def test_a_restored_simulator_is_where_the_observation_was_made(env):
    task = task_of(env)
    other = task.simulator().unwrapped
    other.reset(seed=99)
    for obs, *_ in transitions(task, 5):
        task.restore(other, obs)
        if hasattr(other, "_look"):
            other._look()
        np.testing.assert_allclose(other._observation(), obs, rtol=1e-6, atol=1e-6)


def test_the_goal_stands_still():
    task = task_of("reacher")
    env = task.simulator().unwrapped
    for obs, *_ in transitions(task, 3):
        task.restore(env, obs)
        assert not env.data.qvel[7:].any()


def test_our_other_tasks_do_not_show_their_state():
    """The object's velocity; velocities beyond 10."""
    assert {name for name in registry.kinds("task") if task_of(name).restore is None} == {"pusher", "mbmf-hopper"}


@pytest.mark.parametrize("env", [*HIDDEN, "MountainCarContinuous-v0", "environments:tiny/Line-v0"])
def test_gymnasiums_other_environments_do_not_show_their_state(env):
    assert task_of(env).restore is None


@pytest.mark.parametrize("env", ["restore/Windy-v0", "restore/Doubled-v0", "restore/Breaks-v0"])
def test_what_does_not_go_on_as_observed_is_not_restored(env):
    assert task_of(env).restore is None


def test_a_task_tells_nothing_unless_it_says_how():
    class Mine(Task):
        spec = SPEC

    assert Mine().restore is None


@pytest.mark.long
def test_whether_states_are_restored_is_tried_once_and_only_when_asked(monkeypatch):
    task, made = task_of("Pendulum-v1"), []
    simulator = task.simulator
    monkeypatch.setattr(task, "simulator", lambda: made.append(1) or simulator())
    assert task.restore is task.restore is not None
    assert len(made) == 2
