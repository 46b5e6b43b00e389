"""Predictions of what an agent would do, beside what the simulator makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import STEPS, Line
from foretell.agents import Agent
from foretell.diagnostics.imagining import Imaginer
from foretell.diagnostics.open_loop import mse_k, reward_gap
from foretell.diagnostics.prediction import Track
from foretell.models import Step, TrainedModel
from foretell.runs.presets import resolve
from foretell.tasks import Task, TaskSettings, TaskSpec, make_task

DRIFT = 0.25


class Cliff(Line):
    """Ends where the position is above 1."""

    def step(self, action):
        obs, reward, *_ = super().step(action)
        return obs, reward, bool(obs[0] > 1.0), False, {}


class OnCliff(Task):
    spec = TaskSpec("tiny/Cliff-v0", ("position", "speed"), (-1.0,), (1.0,), STEPS)

    def simulator(self, *, render_mode=None):
        return Cliff()

    def restore(self, env, obs):
        env.state = np.array(obs)


class Drifts(TrainedModel):
    """The dynamics of the line, but for a drift of the speed; two particles differ by a constant in position."""

    needs_data, particles = True, 2

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape))

    def step(self, params, carry, action, key):
        speed = carry[..., 1:] + 0.1 * action + params
        there = jnp.concatenate([carry[..., :1] + 0.1 * carry[..., 1:], speed], -1)
        apart = there + 0.5 * jnp.array([-1.0, 1.0])[:, None, None]
        return there, Step(apart, -jnp.square(there[None, ..., 0]), jnp.zeros(there.shape[:2]))


class Pushes(Agent):
    """Pushes as its mean observation says; its state is the model's drift."""

    model = Drifts()

    def policy(self, state):
        return ()

    def model_params(self, state):
        return state

    def act(self, params, carry, obs, key, *, explore):
        return jnp.tanh(obs[:, :1]), carry, {}


def tracks_from(*starts):
    return [Track(np.float32([start, start]), np.zeros((1, 1), np.float32)) for start in starts]


def look(drift, tracks, count=40, steps=4):
    return Imaginer(Pushes(), OnCliff(), steps).look(jnp.float32(drift), tracks, count, np.random.default_rng(0))


@pytest.mark.long
def test_actions_are_planned_on_the_mean_of_particles_and_replayed_from_the_same_state():
    found = look(DRIFT, tracks_from((-3.0, 0.5)), count=3)
    state, real = np.array([-3.0, 0.5]), np.array([-3.0, 0.5])
    planned_return, real_return = 0.0, 0.0
    for k in range(4):
        push = np.tanh(state[0])
        state = state + [0.1 * state[1], 0.1 * push + DRIFT]
        real = real + 0.1 * np.array([real[1], push])
        np.testing.assert_allclose(found.planned_ikd[:, k], [state] * 3, rtol=1e-5)
        np.testing.assert_allclose(found.particles_ikpd[0, k, :, 0] - state[0], [-0.5, 0.5], rtol=1e-4)
        np.testing.assert_allclose(found.real_ikd[:, k], [real] * 3, rtol=1e-5)
        planned_return, real_return = planned_return - 0.9**k * state[0] ** 2, real_return - 0.9**k * real[0] ** 2
    assert found.replayed and found.kept_i.all()
    assert reward_gap(found, 0.9).bias == pytest.approx(planned_return - real_return, rel=1e-4)


@pytest.mark.long
def test_an_exact_model_has_no_error():
    found = look(0.0, tracks_from((-3.0, 0.5), (-1.0, -1.0)), steps=5)
    assert mse_k(found.planned_ikd, found.real_ikd, found.kept_i).max() < 1e-9
    assert abs(reward_gap(found, 0.9).bias) < 1e-5


@pytest.mark.long
def test_a_start_from_which_the_simulator_ends_early_is_dropped():
    safe, ends = (-3.0, 0.5), (0.95, 1.0)
    found = look(DRIFT, tracks_from(safe, ends))
    at_cliff = found.real_ikd[:, 0, 0] > 0
    assert 0 < at_cliff.sum() < 40
    np.testing.assert_array_equal(found.kept_i, ~at_cliff)
    alone = look(DRIFT, tracks_from(safe), count=1)
    both = [mse_k(one.planned_ikd, one.real_ikd, one.kept_i) for one in (found, alone)]
    np.testing.assert_allclose(*both, rtol=1e-5)


@pytest.mark.long
def test_deviations_are_those_of_all_observations():
    found = look(DRIFT, tracks_from((-3.0, 0.5), (-1.0, 1.5)))
    np.testing.assert_allclose(found.std_d, [1.0, 0.5], rtol=1e-6)


class Hidden(OnCliff):
    restore = None


def test_without_a_way_back_recorded_actions_are_taken():
    rng = np.random.default_rng(0)
    tracks = []
    for length, ended in ((6, True), (2, False)):
        obs, actions = np.float32(rng.normal(size=(length + 1, 2))), np.float32(rng.uniform(-1, 1, (length, 1)))
        tracks.append(Track(obs, actions, np.float32(rng.normal(size=length)), ended))
    imaginer = Imaginer(Pushes(), Hidden(), 4)
    found = imaginer.look(jnp.float32(DRIFT), tracks, 50, rng)
    assert not found.replayed and found.kept_i.all()
    seen = set()
    for i in range(50):
        (t,) = [t for t in range(3) if np.array_equal(found.real_ikd[i], tracks[0].obs[t + 1 : t + 5])]
        seen.add(t)
        state = tracks[0].obs[t]
        for k in range(4):
            state = state + [0.1 * state[1], 0.1 * tracks[0].actions[t + k, 0] + DRIFT]
            np.testing.assert_allclose(found.planned_ikd[i, k], state, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found.real_reward_ik[i], tracks[0].rewards[t : t + 4])
        assert found.terminated_ik[i].tolist() == [False] * 3 + [t == 2]
    assert seen == {0, 1, 2}


@pytest.mark.long
def test_episodes_shorter_than_the_horizon_are_looked_at_as_far_as_they_go():
    track = Track(np.zeros((3, 2), np.float32), np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
    found = Imaginer(Pushes(), Hidden(), 4).look(jnp.float32(0.0), [track], 5, np.random.default_rng(0))
    assert found.real_ikd.shape == (5, 2, 2)
    assert Imaginer(Pushes(), Hidden(), 4).look(jnp.float32(0.0), [], 5, np.random.default_rng(0)) is None


SMALL = {
    "mve/default": {"learner": {"hidden": [8]}, "model": {"kind": "true-model", "threads": 1}},
    "pets/default+true-model": {
        "planner": {"horizon": 3, "population": 4, "iterations": 1, "elites": 2, "kept_elites": 0},
        "model": {"threads": 1},
    },
}


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.long
def test_the_true_model_is_exact_whoever_acts(preset):
    task = make_task(TaskSettings(env="Pendulum-v1"))
    agent = resolve(preset, [{"task": {"env": "Pendulum-v1"}}, SMALL[preset]]).build(task)
    state = jax.jit(agent.init)(jax.random.key(0))
    tracks = [Track(np.float32([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5], [0.0, 1.0, 0.0]]), np.zeros((2, 1), np.float32))]
    found = Imaginer(agent, task, 5).look(state, tracks, 4, np.random.default_rng(0))
    assert found.real_ikd.shape == (4, 3 if preset.startswith("pets") else 5, 3)
    np.testing.assert_array_equal(mse_k(found.planned_ikd, found.real_ikd, found.kept_i), 0.0)
    assert reward_gap(found, 1.0)[:2] == (0.0, 0.0)
