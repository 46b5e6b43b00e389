"""Environments that need an extra: what they are where it is installed, and the sentence where it is not."""

import sys

import numpy as np
import pytest

from foretell.errors import UserError
from foretell.runs.presets import resolve
from foretell.tasks import make_task


def task_of(preset):
    return make_task(resolve(preset).task)


def without(monkeypatch, module, *loaded):
    """As if `module` were not installed, and nothing whose name begins with one of `loaded` had been imported."""
    for name in [name for name in sys.modules if name.startswith(loaded)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)


def test_box2d_must_be_installed(monkeypatch):
    without(monkeypatch, "Box2D", "gymnasium.envs.box2d")
    with pytest.raises(UserError) as mistake:
        task_of("steve/hardcore")
    blamed = "cannot make the environment 'BipedalWalkerHardcore-v3': "
    assert str(mistake.value) == f"{blamed}Box2D is not installed; run pip install 'foretell[box2d]'"


@pytest.mark.parametrize("preset", ["steve/rshum", "steve/flagrun"])
def test_pybullet_must_be_installed(monkeypatch, preset):
    without(monkeypatch, "pybullet", "foretell.tasks.bullet")
    with pytest.raises(UserError, match=r"^PyBullet is not installed; run pip install 'foretell\[bullet\]'$"):
        task_of(preset)


@pytest.mark.parametrize(
    ("needs", "preset"),
    [
        ("Box2D", "steve/hardcore"),
        ("pybullet_envs_gymnasium", "steve/rshum"),
        ("pybullet_envs_gymnasium", "steve/flagrun"),
    ],
)
@pytest.mark.long
def test_an_episode_is_decided_by_its_seed_and_actions_whatever_came_before(needs, preset, capfd):
    pytest.importorskip(needs)
    task = task_of(preset)
    capfd.readouterr()

    def played(env, seed):
        rng = np.random.default_rng(seed)
        seen = [(env.reset(seed=seed)[0], 0.0)]
        for _ in range(30):
            obs, reward, terminated, *_ = env.step(rng.uniform(-0.3, 0.3, task.spec.action_size).astype(np.float32))
            seen.append((obs, reward))
            if terminated:
                break
        return np.array([[*obs, reward] for obs, reward in seen])

    with task.make() as first, task.make() as second:
        fresh = played(first, 3)
        played(second, 1), played(second, 2)
        assert np.array_equal(fresh, played(second, 3)) and np.array_equal(fresh, played(first, 3))
        assert not np.array_equal(fresh[:1], played(first, 4)[:1])
    assert len(fresh) > 10 and fresh.shape[1] == task.spec.obs_size + 1
    assert capfd.readouterr().out == ""
