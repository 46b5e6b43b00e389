"""What the MuJoCo environments share: how they are compiled and looked at."""

import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from simulators import names

from foretell.tasks import nagabandi, nagabandi_simulators
from foretell.tasks.cartpole import Cartpole, CartpoleEnv
from foretell.tasks.cheetah_torso import CheetahTorso, HalfCheetahTorsoEnv
from foretell.tasks.halfcheetah import HalfCheetah, HalfCheetahEnv
from foretell.tasks.mujoco import FOLLOWING
from foretell.tasks.observable import ant, humanoid, planar, pusher
from foretell.tasks.pusher import Pusher, PusherEnv
from foretell.tasks.reacher import Reacher, ReacherEnv

RATES = {
    CartpoleEnv: 25,
    ReacherEnv: 50,
    PusherEnv: 25,
    HalfCheetahEnv: 20,
    HalfCheetahTorsoEnv: 100,
    nagabandi_simulators.SwimmerEnv: 7,
    nagabandi_simulators.HalfCheetahEnv: 100,
    nagabandi_simulators.HopperEnv: 50,
    nagabandi_simulators.AntEnv: 50,
    planar.HalfCheetahEnv: 20,
    planar.Walker2dEnv: 125,
    planar.HopperEnv: 125,
    planar.SwimmerEnv: 25,
    ant.AntEnv: 20,
    humanoid.HumanoidEnv: 67,
    pusher.PusherEnv: 20,
}
TASKS = [
    *(Cartpole(), Reacher(), Pusher(), HalfCheetah(), CheetahTorso()),
    *(nagabandi.Swimmer(), nagabandi.HalfCheetah(), nagabandi.Hopper(), nagabandi.Ant()),
    *(planar.HalfCheetah(), planar.Walker2d(), planar.Hopper(), planar.Swimmer()),
    *(ant.Ant(), humanoid.Humanoid(), pusher.Pusher()),
]


@pytest.mark.parametrize("kind", RATES)
def test_the_frame_rate_is_that_of_steps(kind):
    env = kind()
    assert env.metadata["render_fps"] == RATES[kind] == round(1 / env.dt)


@pytest.mark.parametrize("kind", RATES)
def test_pictures_may_be_larger_or_smaller_than_the_model_says(kind):
    for width, height in ((1280, 960), (64, 48)):
        screen = kind(width=width, height=height).model.vis.global_
        assert screen.offwidth == max(width, 640) and screen.offheight == max(height, 480)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.spec.env_id)
def test_the_registered_environment_is_the_tasks(task):
    with task.make() as env:
        assert env.spec.id == task.spec.env_id
        assert env.unwrapped.model.nu == task.spec.action_size
        assert env.observation_space.shape == env.reset(seed=0)[0].shape == (task.spec.obs_size,)
        assert tuple(env.action_space.low) == task.spec.action_low
        assert tuple(env.action_space.high) == task.spec.action_high


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("kind", RATES)
def test_gymnasium_accepts_the_environment(kind):
    check_env(kind(), skip_render_check=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", RATES)
def test_making_it_warns_of_nothing(kind):
    kind().close()


@pytest.mark.parametrize(("kind", "distance", "elevation"), [(ReacherEnv, 2.5, -30), (HalfCheetahEnv, 3.0, -55)])
def test_the_camera_follows(kind, distance, elevation):
    env = kind()
    env.reset(seed=0)
    for _ in range(20):
        env.step(env.action_space.high)
    camera, body = env.data.cam(FOLLOWING), env.data.body(1)
    gaze = body.xpos - camera.xpos
    assert np.linalg.norm(gaze) == pytest.approx(distance)
    assert np.degrees(np.arcsin(gaze[2] / distance)) == pytest.approx(elevation)
    np.testing.assert_allclose(-camera.xmat.reshape(3, 3)[:, 2], gaze / distance, atol=1e-6)
    assert abs(camera.xmat[6]) < 1e-9  # the horizon is level


def test_the_camera_can_be_chosen():
    assert HalfCheetahEnv().mujoco_renderer.camera_id == names(HalfCheetahEnv().model, "cam").index(FOLLOWING)
    assert HalfCheetahEnv(camera_name="track").mujoco_renderer.camera_id == 0
    assert HalfCheetahEnv(camera_id=0).mujoco_renderer.camera_id == 0
    assert FOLLOWING not in names(PusherEnv().model, "cam")
    assert mujoco.mj_name2id(PusherEnv().model, mujoco.mjtObj.mjOBJ_CAMERA, FOLLOWING) == -1
