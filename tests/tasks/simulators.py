"""What the tests of the MuJoCo tasks share."""

from pathlib import Path
from typing import NamedTuple

import gymnasium.envs.mujoco
import mujoco
import numpy as np


class Steps(NamedTuple):
    """Successive steps of an environment, one a row."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray


def random_steps(env, count, seed=0):
    """`count` steps of random actions from a reset."""
    rng, obs, steps = np.random.default_rng(seed), env.reset(seed=seed)[0], []
    for _ in range(count):
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        next_obs, reward, *_ = env.step(action)
        steps.append((obs, action, reward, next_obs))
        obs = next_obs
    return Steps(*(np.array(column, np.float32) for column in zip(*steps, strict=True)))


def returns(task, env, episodes, *, still=False):
    """The mean return of random actions, or of none."""
    rng = np.random.default_rng(0)
    low, high = np.array(task.spec.action_low), np.array(task.spec.action_high)
    scale = 0.0 if still else 1.0
    totals = []
    for seed in range(episodes):
        env.reset(seed=seed)
        totals.append(sum(env.step(scale * rng.uniform(low, high))[1] for _ in range(task.spec.horizon)))
    return np.mean(totals)


def play(env, seed, count=20):
    """The observations of an episode of one constant action."""
    action = 0.5 * env.action_space.high
    return np.array([env.reset(seed=seed)[0], *(env.step(action)[0] for _ in range(count))])


def gymnasiums_model(name):
    """A model of Gymnasium's own, as it is."""
    path = Path(gymnasium.envs.mujoco.__file__).parent / "assets" / name
    return mujoco.MjSpec.from_file(str(path)).compile()


def differing_fields(model, other):
    """Names of the arrays of two compiled models that are not equal, without those that only matter to a picture."""
    drawn = ("cam_", "light_", "mat_", "tex_", "name", "_")
    names = [n for n in dir(model) if isinstance(getattr(model, n), np.ndarray) and not n.startswith(drawn)]
    return {n for n in names if not same(getattr(model, n), getattr(other, n))}


def same(array, other):
    return array.shape == other.shape and np.allclose(array, other, rtol=1e-6, atol=1e-12)


def names(model, kind):
    """The names of a model's elements, `kind` being `body`, `joint`, `geom` or `cam`."""
    count = {"body": model.nbody, "joint": model.njnt, "geom": model.ngeom, "cam": model.ncam}[kind]
    return [getattr(model, kind)(i).name for i in range(count)]
