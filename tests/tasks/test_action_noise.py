"""Noise on executed actions: what it does to them, what is known of it, and that runs repeat with it."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

import foretell
from environments import STEPS, Line
from foretell.envs.environments import reset
from foretell.tasks import TaskSettings, make_task
from foretell.tasks.base import QUIET, NoisyActions, TaskSpec
from tiny import LINE, by_hand, interrupted_at, results, tiny_run


class Echo(Line):
    """Observes the action that it has executed, and is asymmetric."""

    action_space = Box(np.float32([-1.0, -2.0]), np.float32([3.0, 0.5]), dtype=np.float32)

    def step(self, action):
        assert action.dtype == np.float32 and self.action_space.contains(action)
        return np.asarray(action, np.float64), 1.5, True, False, {"by": "echo"}


BOUNDS = TaskSpec("Echo-v0", ("a", "b"), (-1.0, -2.0), (3.0, 0.5), horizon=STEPS)


def echoes(std, intended, count=4000, seed=0):
    env = NoisyActions(Echo(), std, BOUNDS)
    env.reset(seed=seed)
    return np.stack([env.step(np.float32(intended))[0] for _ in range(count)])


@pytest.mark.long
def test_the_noise_is_normal_around_the_intended_action():
    errors = echoes(0.05, [1.0, -0.5]) - [1.0, -0.5]
    np.testing.assert_allclose(errors.mean(0), 0, atol=0.004)
    np.testing.assert_allclose(errors.std(0), 0.05, rtol=0.05)
    assert abs(np.corrcoef(errors.T)[0, 1]) < 0.05
    assert abs(np.corrcoef(errors[1:, 0], errors[:-1, 0])[0, 1]) < 0.05
    assert abs((np.abs(errors) < 0.05).mean() - 0.683) < 0.02


def test_the_executed_action_is_clipped_to_the_bounds():
    executed = echoes(1.0, [3.0, -2.0])
    assert (executed <= [3.0, 0.5]).all() and (executed >= [-1.0, -2.0]).all()
    np.testing.assert_allclose((executed == [3.0, -2.0]).mean(0), 0.5, atol=0.04)


def test_the_seed_of_an_episode_decides_its_noise():
    first, again, other = (echoes(0.1, [1.0, -0.5], 5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_the_rest_of_a_step_is_the_environments():
    env = NoisyActions(Echo(), 0.1, BOUNDS)
    env.reset(seed=0)
    assert env.step(np.float32([0.0, 0.0]))[1:] == (1.5, True, False, {"by": "echo"})


@pytest.mark.parametrize("env", ["cartpole", LINE])
def test_a_task_without_noise_is_not_wrapped(env):
    """And with it, the rest of the task is as it was."""
    quiet, noisy = (make_task(TaskSettings(env=env, action_noise=std)) for std in (0.0, 0.3))
    assert not isinstance(quiet.make(), NoisyActions)
    assert isinstance(noisy.make(), NoisyActions)
    assert quiet.spec == noisy.spec


def train(out, noise=0.4, **schedule):
    return tiny_run(out, {"task": {"action_noise": noise}}, eval_episodes=1, **schedule)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("noise") / "run").directory


@pytest.mark.long
def test_data_keep_the_intended_action(run):
    """The line moves by the executed one, in random, trial and evaluation episodes alike."""
    for episode in range(5):
        data = np.load(run / "data" / f"episode_{episode:04d}.npz")
        executed = np.diff(data["observations"][:, 1]) / 0.1
        assert (np.abs(executed) <= 1 + 1e-6).all()
        assert (np.abs(executed - data["actions"][:, 0]) > 1e-4).sum() >= STEPS - 2
        assert (np.abs(data["actions"]) <= 1).all()


def test_without_noise_they_are_the_same(trained):
    data = np.load(trained / "data" / "episode_0001.npz")
    np.testing.assert_allclose(np.diff(data["observations"][:, 1]) / 0.1, data["actions"][:, 0], atol=1e-5)


@pytest.mark.long
def test_one_seed_is_one_result(run, tmp_path):
    assert results(train(tmp_path / "again").directory) == results(run)
    assert results(train(tmp_path / "other", noise=0.5).directory) != results(run)


@pytest.mark.long
@pytest.mark.parametrize("step", [7, *by_hand(2, 13)])
def test_a_run_interrupted_within_an_episode_continues_exactly(step, run, tmp_path):
    """In a random, a trial and an evaluation episode."""
    out = tmp_path / "run"
    with interrupted_at("step", step):
        train(out)
    foretell.resume(out, quiet=True)
    assert results(out) == results(run)


@pytest.mark.long
def test_evaluation_has_the_noise_too(run):
    loaded = foretell.load(run, quiet=True)
    first, again = loaded.evaluate(2), loaded.evaluate(2)
    assert first == again
    assert isinstance(loaded.task.make(), NoisyActions)


@pytest.mark.long
def test_any_registered_environment_can_have_it():
    make = partial(make_task, TaskSettings(env="cartpole", action_noise=0.3))
    assert isinstance(make().make().unwrapped, gymnasium.Env) and make().action_noise == 0.3
    assert make_task(TaskSettings(env="cartpole")).action_noise == 0


@pytest.mark.long
def test_random_episodes_may_be_without_noise():
    """As the random data of the released MB-MPC."""
    noisy = make_task(TaskSettings(env="cartpole", action_noise=0.3))
    quiet = make_task(TaskSettings(env="cartpole", action_noise=0.3, random_noise=False))
    plain = make_task(TaskSettings(env="cartpole"))
    first = [second_obs(task, random=True) for task in (noisy, quiet, plain)]
    assert (first[0] != first[2]).any() and (first[1] == first[2]).all()
    assert (second_obs(quiet, random=False) == second_obs(noisy, random=False)).all()


def second_obs(task, *, random):
    with task.make() as env:
        reset(env, task, 0, 0, random=random)
        return env.step(np.float32([0.5]))[0]


@pytest.mark.long
def test_a_task_has_its_own_options_of_reset_beside_it():
    task = make_task(TaskSettings(env="mbmf-hopper", action_noise=0.1, random_noise=False))
    assert task.reset_options(random=True) == {"collecting": True, QUIET: True}
    assert task.reset_options(random=False) is None
    assert make_task(TaskSettings(env="mbmf-hopper")).reset_options(random=True) == {"collecting": True}
