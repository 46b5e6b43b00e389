"""Any Gymnasium environment as a task, and what is said of those that cannot be one."""

import gymnasium
import numpy as np
import pytest

import environments
from foretell.errors import UserError
from foretell.tasks.gym import GymTask
from foretell.tasks.halfcheetah import HalfCheetah


def test_the_spec_is_read_from_the_spaces():
    spec = GymTask("Pendulum-v1").spec
    assert (spec.env_id, spec.horizon, spec.obs_names) == ("Pendulum-v1", 200, ("obs[0]", "obs[1]", "obs[2]"))
    assert (spec.action_low, spec.action_high) == ((-2.0,), (2.0,))


@pytest.mark.parametrize(
    ("env", "given", "horizon"),
    [
        ("tiny/Line-v0", None, 5),
        ("tiny/Line-v0", 3, 3),
        ("tiny/Line-v0", 9, 9),
        ("tiny/Endless-v0", 7, 7),
        ("tiny/Endless-v0", None, 1000),
    ],
)
def test_the_horizon_is_what_is_given_else_the_time_limit_else_1000(env, given, horizon):
    task = GymTask(env, horizon=given)
    assert task.spec.horizon == horizon
    assert bool(task.notes) == (horizon == 1000)
    with task.make() as env:
        env.reset(seed=0)
        ends = [env.step(np.zeros(1))[3] for _ in range(min(horizon, 9))]
    assert not any(ends[:-1]) and ends[-1] == (horizon in (5, 9))


def test_reward_and_termination_are_unknown():
    task = GymTask("tiny/Line-v0")
    assert task.reward is None and task.terminated is None
    assert task.feature_size == task.target_size == 2


def test_it_behaves_as_gymnasium_made_it():
    task = GymTask("tiny/Ends-v0")
    with gymnasium.make("tiny/Ends-v0") as plain, task.make() as env:
        assert np.array_equal(plain.reset(seed=4)[0], env.reset(seed=4)[0])
        for _ in range(3):
            expected, got = plain.step(np.ones(1)), env.step(np.ones(1))
            assert np.array_equal(expected[0], got[0]) and expected[1:] == got[1:]
    assert got[2] is True


def test_the_time_limit_truncates():
    with GymTask("tiny/Line-v0").make() as env:
        env.reset(seed=0)
        ends = [env.step(np.zeros(1))[2:4] for _ in range(environments.STEPS)]
    assert ends == [(False, False)] * (environments.STEPS - 1) + [(False, True)]


@pytest.mark.parametrize(
    ("env", "options", "camera"),
    [
        ("HalfCheetah-v5", {}, 0),
        ("HalfCheetah-v5", {"camera_id": -1}, -1),
        ("HalfCheetah-v5", {"default_camera_config": {"distance": 9.0}}, None),
        ("InvertedPendulum-v5", {}, -1),
    ],
)
def test_what_is_drawn_follows_the_robot(env, options, camera):
    """If the model has a camera that does, and none was chosen. None: as Gymnasium does, whose versions differ."""
    if camera is None:
        with gymnasium.make(env, render_mode="rgb_array", **options) as own:
            camera = own.unwrapped.mujoco_renderer.camera_id
    with GymTask(env, options=options).simulator(render_mode="rgb_array") as drawn:
        assert drawn.unwrapped.mujoco_renderer.camera_id == camera


@pytest.mark.parametrize("task", [GymTask("HalfCheetah-v5"), GymTask("Hopper-v5"), HalfCheetah()])
def test_floors_are_drawn_without_end_and_change_nothing_else(task):
    with task.simulator() as plain, task.simulator(render_mode="rgb_array") as drawn:
        assert plain.unwrapped.model.geom("floor").size[0] > 0 and drawn.unwrapped.model.geom("floor").size[0] == 0
        starts = [env.reset(seed=0)[0] for env in (plain, drawn)]
        np.testing.assert_array_equal(*starts)
        for action in np.random.default_rng(0).uniform(-1, 1, (30, *plain.action_space.shape)):
            np.testing.assert_array_equal(plain.step(action)[0], drawn.step(action)[0])


def test_an_environment_need_not_know_how_to_be_drawn():
    task = GymTask("tiny/Unrenderable-v0")
    with task.make() as env:
        assert env.reset(seed=0)[0].shape == (2,)


@pytest.mark.parametrize(
    ("name", "method", "sentence"),
    [
        ("Crashes", "step", "failed in step(): RuntimeError: the gripper is jammed"),
        ("OldInterface", "step", "has the old interface of Gym: step() returned 4 values"),
        (
            "WrongShape",
            "step",
            "failed in step(): ValueError: the observation has shape (3,), but its space has shape (2,)",
        ),
        (
            "RewardVector",
            "step",
            "returned 2 rewards at once at step 0; weight them with task.reward_weights=[1.0, 1.0]",
        ),
        ("OldReset", "reset", "has the old interface of Gym: reset() must return (obs, info)"),
        ("OldSeed", "reset", "has the old interface of Gym: reset() takes no 'seed' or no 'options'"),
        ("TextObservation", "step", "failed in step(): ValueError: the observation 'left' is not made of real"),
    ],
)
def test_its_failures_are_told_in_one_sentence_that_names_it(name, method, sentence):
    env = GymTask(f"tiny/{name}-v0").make()
    with pytest.raises(UserError) as mistake:
        env.reset(seed=0)
        env.step(np.zeros(1))
    assert str(mistake.value).startswith(f"'tiny/{name}-v0' {sentence}") and "\n" not in str(mistake.value)
    assert (mistake.value.__cause__ is None) == (name == "RewardVector")


def test_a_step_before_a_reset_is_told():
    with pytest.raises(UserError, match=r"'tiny/Line-v0' failed in step\(\): ResetNeeded"):
        GymTask("tiny/Line-v0").make().step(np.zeros(1))


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("tiny/Lin-v0", "no Gymnasium environment 'tiny/Lin-v0'; did you mean 'tiny/Line-v0'?"),
        ("environments:tiny/Lin-v0", "'environments:tiny/Lin-v0'; did you mean 'environments:tiny/Line-v0'?"),
        ("foretell/Cartpol-v0", "did you mean 'foretell/Cartpole-v0'?"),
        ("environments:Pendulm-v1", "no Gymnasium environment 'environments:Pendulm-v1'"),
        ("tiny/Unmakeable-v0", "cannot make the environment 'tiny/Unmakeable-v0': ValueError: no robot is connected"),
    ],
)
def test_an_environment_that_is_not_there(env, sentence):
    with pytest.raises(UserError) as mistake:
        GymTask(env)
    assert sentence in str(mistake.value) and "Pendulum" not in str(mistake.value)


@pytest.mark.long
def test_making_an_environment_says_nothing(capfd):
    """MuJoCo would call Gymnasium's own model of the half-cheetah outdated."""
    GymTask("HalfCheetah-v5")
    assert capfd.readouterr() == ("", "")
