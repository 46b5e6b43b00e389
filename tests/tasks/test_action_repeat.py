"""Actions that last several steps of the environment: rewards, ends, and what counts as a step."""

import numpy as np
import pytest

from environments import STEPS
from foretell.errors import UserError
from foretell.tasks import TaskSettings, make_task
from foretell.tasks.repeat import RepeatedActions
from tiny import tiny_run


def task_of(env, repeat=2, **settings):
    return make_task(TaskSettings(env=f"environments:tiny/{env}-v0", action_repeat=repeat, **settings))


def played(env, count):
    env.reset(seed=3)
    return [env.step(np.float32([0.5]))[:4] for _ in range(count)]


def test_rewards_are_summed_up_to_a_time_limit():
    """Five steps of the environment are three actions, the last of which has one step."""
    single, double = (played(task_of("Line", repeat).make(), count) for repeat, count in ((1, 5), (2, 3)))
    assert task_of("Line").spec.horizon == 3 and STEPS == 5
    rewards = [reward for _, reward, *_ in single]
    assert [reward for _, reward, *_ in double] == pytest.approx([sum(rewards[:2]), sum(rewards[2:4]), rewards[4]])
    np.testing.assert_array_equal(double[1][0], single[3][0])
    assert [truncated for *_, truncated in double] == [False, False, True]


def test_an_action_ends_with_the_episode():
    """The environment terminates after three steps."""
    single, double = (played(task_of("Ends", repeat).make(), count) for repeat, count in ((1, 3), (2, 2)))
    assert [terminated for _, _, terminated, _ in double] == [False, True]
    assert double[1][1] == single[2][1]
    np.testing.assert_array_equal(double[1][0], single[2][0])


def test_horizons_are_actions():
    assert task_of("Line", horizon=2).spec.horizon == 2
    assert task_of("Line", 3, horizon=4).spec.horizon == 4  # twelve steps, beyond the environment's own limit
    assert len([1 for *_, truncated in played(task_of("Line", 3, horizon=4).make(), 4) if truncated]) == 1
    assert make_task(TaskSettings(env="cartpole", action_repeat=4)).spec.horizon == 50


def test_a_reward_of_single_steps_is_learned_and_one_of_the_users_is_kept():
    known = make_task(TaskSettings(env="cartpole"))
    assert known.reward is not None and make_task(TaskSettings(env="cartpole", action_repeat=2)).reward is None
    own = make_task(
        TaskSettings(env="cartpole", action_repeat=2), {"reward": lambda obs, action, next_obs: obs[..., 0]}
    )
    assert own.reward is not None


def test_videos_show_fewer_frames_in_as_much_time():
    env = task_of("Line").make(render_mode="rgb_array")
    assert isinstance(env, RepeatedActions) and env.metadata["render_fps"] == 5


def test_a_path_is_followed_by_single_steps():
    with pytest.raises(UserError, match=r"task.action_repeat must be 1 for 'mbmf-swimmer', whose objective is that"):
        make_task(TaskSettings(env="mbmf-swimmer", options={"path": "straight"}, action_repeat=2))


@pytest.mark.long
def test_a_run_counts_actions(tmp_path):
    """Five actions are ten steps of an environment without a time limit."""
    changes = {"task": {"env": "environments:tiny/Endless-v0", "action_repeat": 2, "horizon": STEPS}}
    run = tiny_run(tmp_path / "run", changes)
    assert [(row["length"], row["env_steps"]) for row in run.episodes] == [(5, 5), (5, 10), (5, 15)]
