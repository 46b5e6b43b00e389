"""Following a path in imagination: what counts is how far along it one has come, not the task's own reward."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.models import PathModel, Step, open_loop, rollout, start
from foretell.models.path import with_progress
from foretell.tasks import Task, TaskSpec
from foretell.tasks.base import Follows
from foretell.tasks.waypoints import Progress
from tiny import quick_jit

PARTICLES, BATCH, HORIZON = 2, 3, 5


class Rail(Task):
    """Segments of length 1 along a line. A step earns what it advances, and 10 for each new segment."""

    spec = TaskSpec("Rail-v0", ("x", "y"), (-1.0,), (1.0,), horizon=10)

    def start_progress(self, obs):
        rows = obs.shape[:-1]
        return Progress(jnp.zeros(rows, jnp.int32), jnp.zeros(rows), jnp.zeros(rows, bool), obs)

    def plan_progress(self, progress, obs):
        return progress._replace(moved=jnp.zeros_like(progress.moved))

    def follow(self, progress, obs, action, next_obs):
        along = next_obs[..., 0] - progress.origin[..., 0] - progress.segment
        segment = progress.segment + (along >= 1)
        after = Progress(segment, along, progress.moved | (along >= 1), progress.origin)
        return next_obs[..., 0] - obs[..., 0] + 10.0 * (along >= 1) + 0.0 * action[..., 0], after


class Drift(NamedTuple):
    """Particle `p` is pushed `p + 1` times as far; its carry counts steps. Its own reward must not count."""

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape)), jnp.zeros((), jnp.int32)

    def step(self, params, carry, action, key):
        obs, count = carry
        force = (1.0 + jnp.arange(len(obs)))[:, None, None]
        after = obs + params * force * action * jnp.array([1.0, 0.0])
        rows = obs.shape[:2]
        return (after, count + 1), Step(after, jnp.full((3, *rows), 1e3), jnp.full(rows, 0.25))


TASK = Rail()
MODEL = PathModel(Drift(), TASK)
OBS = np.float32([[0.0, 0.5], [1.0, -0.5], [-3.0, 2.0]])
PLAN = np.float32(np.random.default_rng(0).uniform(0, 1, (BATCH, HORIZON, 1)))


@quick_jit
def follow(plan, progress=None):
    begin = start(MODEL, jnp.ones(()), jnp.array(OBS), jax.random.key(0), PARTICLES)
    begin = begin if progress is None else with_progress(begin, progress)
    return rollout(MODEL, jnp.ones(()), begin, open_loop(plan, PARTICLES), len(plan[0]), jax.random.key(1))


def by_hand(p, row, segment=0, origin=None):
    """What every step of one particle earns, the segments it is on, and how far along the last one it ends."""
    x, earned, segments, along = OBS[row, 0], [], [], 0.0
    origin = OBS[row, 0] if origin is None else origin
    for t in range(HORIZON):
        moved = (p + 1) * PLAN[row, t, 0]
        x += moved
        along = x - origin - segment
        earned.append(moved + 10 * (along >= 1))
        segment += along >= 1
        segments.append(segment)
    return earned, segments, along


def test_the_task_follows_a_path():
    assert isinstance(TASK, Follows)


@pytest.mark.long
def test_what_a_step_earns_depends_on_how_far_each_particle_has_come():
    found = follow(PLAN)
    assert found.reward.shape == (HORIZON, 1, PARTICLES, BATCH)
    for p, row in np.ndindex(PARTICLES, BATCH):
        earned, segments, along = by_hand(p, row)
        np.testing.assert_allclose(found.reward[:, 0, p, row], earned, rtol=1e-4, atol=1e-5)
        assert found.end.carry.progress.segment[p, row] == segments[-1]
        assert float(found.end.carry.progress.forward[p, row]) == pytest.approx(along, abs=1e-4)
    assert len(np.unique(found.end.carry.progress.segment)) > 1


@pytest.mark.long
def test_all_else_is_as_the_dynamics_say():
    found = follow(PLAN)
    pushed = np.cumsum(PLAN.transpose(1, 0, 2), 0)[:, None] * np.float32([1, 2])[:, None, None] * np.float32([1, 0])
    np.testing.assert_allclose(found.obs[1:], OBS + pushed, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.terminated, np.full((HORIZON, PARTICLES, BATCH), 0.25))
    obs, count = found.end.carry.dynamics
    assert count == HORIZON
    np.testing.assert_array_equal(obs, found.obs[-1])


@pytest.mark.long
def test_a_rollout_goes_on_from_the_progress_of_an_episode():
    """One for all rows of the batch, and every particle."""
    progress = Progress(jnp.int32(2), jnp.float32(0.3), jnp.array(True), jnp.array([-4.0, 0.0]))
    found = follow(PLAN, progress)
    for p, row in np.ndindex(PARTICLES, BATCH):
        earned, segments, _ = by_hand(p, row, segment=2, origin=-4.0)
        np.testing.assert_allclose(found.reward[:, 0, p, row], earned, rtol=1e-4, atol=1e-5)
        assert found.end.carry.progress.segment[p, row] == segments[-1]
    assert found.end.carry.progress.moved.all()
