"""What a model believed along an episode: of an agent whose model is known, and of a real run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.agents import Agent
from foretell.agents.mbmpc import Guided
from foretell.diagnostics import belief
from foretell.diagnostics.belief import Foresight, accuracy, foresee, nearest, windows
from foretell.diagnostics.episode import live
from foretell.diagnostics.prediction import Track
from foretell.models import Step, TrainedModel
from foretell.runs.presets import resolve
from foretell.tasks import TaskSettings, make_task
from tiny import LINE, benchmark, on_host, quick_jit

TINY = benchmark("tiny_runs")


class Drifts(TrainedModel):
    """A model of a point that moves by its action and a drift, which has another sign in each of two particles."""

    needs_data, particles = True, 2

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape))

    def step(self, params, carry, action, key):
        there = carry + action + params * jnp.array([-1.0, 1.0])[:, None, None]
        return there, Step(there, there.sum(-1)[None], jnp.zeros(there.shape[:2]))


class Drifting(Agent):
    """It only has that model, whose drift is its state, and pushes by 0.1."""

    model = Drifts()

    def policy(self, state):
        return ()

    def model_params(self, state):
        return state

    def act(self, params, carry, obs, key, *, explore):
        return jnp.full((len(obs), 1), 0.1), carry, {}


def moving(length, seed=0):
    actions = np.random.default_rng(seed).normal(size=(length, 2)).astype(np.float32)
    return Track(np.concatenate([np.zeros((1, 2), np.float32), np.cumsum(actions, 0)]), actions, actions[:, 0])


@pytest.fixture(scope="module")
def look():
    return Foresight(Drifting(), 0.5, 0)


def test_the_errors_are_those_of_the_drift(look):
    """The mean of the particles is exact, and each is off by the drift at every step."""
    track = moving(40)
    found = accuracy(look, track, 5)
    std = track.obs.std(0)
    assert found.time_i.tolist() == list(range(36)) and found.error_ik == pytest.approx(np.zeros((36, 5)), abs=1e-5)
    steps = 0.5 * np.arange(1, 6)
    spread = np.sqrt(np.square(steps[:, None] / std).mean(1))
    np.testing.assert_allclose(found.std_ik, np.broadcast_to(spread, (36, 5)), rtol=1e-4)
    assert found.calibrations[0] is not None and found.calibrations[0].share_a[0] == 1


def test_imagined_returns_of_each_particle(look):
    actions = np.ones((3, 2, 2), np.float32)
    found = look(np.zeros((3, 2), np.float32), actions)
    assert found.obs.shape == (3, 3, 2, 2)
    # rewards are sums over both dimensions: 2 (1 - 0.5), then 2 (2 - 1), of the first particle
    np.testing.assert_allclose(found.value, [[3.0, 9.0]] * 3, rtol=1e-6)


def test_windows_repeat_the_last_row():
    rows = np.arange(4.0)[:, None]
    assert windows(rows, np.array([0, 2]), 3)[..., 0].tolist() == [[0, 1, 2], [2, 3, 3]]


def test_the_nearest_steps_are_those_of_a_search_by_hand():
    recorded = [(3, moving(30, 1)), (7, moving(20, 2))]
    obs, action = recorded[1][1].obs[4], recorded[1][1].actions[4]
    (found,) = nearest([(obs, action)], recorded)
    assert (found[0].episode, found[0].time, found[0].distance) == (7, 4, 0.0)
    assert found[0].reward == pytest.approx(float(recorded[1][1].rewards[4]))
    rows = np.concatenate([np.concatenate([t.obs[:-1], t.actions], 1) for _, t in recorded])
    distance = np.sqrt(np.square((rows - rows[34]) / rows.std(0)).mean(1))
    assert [one.distance for one in found] == pytest.approx(np.sort(distance)[:5].tolist(), rel=1e-4)
    assert nearest([(obs, action)], []) == [[]]


def test_an_episode_is_looked_at_at_evenly_spaced_moments():
    task = make_task(TaskSettings(env=LINE, horizon=20))
    lived = live(Drifting(), task, 0.0, seed=0, seconds=60.0, moments=6)
    assert [moment.time for moment in lived.moments] == [0, 4, 8, 12, 16] and lived.complete
    assert lived.moments[0].frame.shape == (32, 32, 3) and lived.moments[0].plan is None
    np.testing.assert_array_equal(lived.track.actions, np.full((20, 1), 0.1, np.float32))
    again = live(Drifting(), task, 0.0, seed=0, seconds=0.0, moments=6, render=False)
    assert len(again.track.actions) == 1 and not again.complete and again.moments[0].frame is None
    np.testing.assert_array_equal(again.track.obs[0], lived.track.obs[0])


def test_a_planner_s_plans_and_rejected_candidates(trained):
    run = foretell.load(trained)
    found = run.believe(moments=3)
    lived, times = found.lived, [moment.time for moment in found.lived.moments]
    assert times == [0, 2, 4] and len(lived.track.actions) == 5
    np.testing.assert_allclose(found.planned.action[:, 0], lived.track.actions[times], rtol=1e-6)
    assert found.planned.obs.shape == (3, 3, 2, 2) and found.rejected.obs.shape == (15, 3, 2, 2)
    assert all(moment.searched.tried == 6 for moment in lived.moments)
    assert lived.value_t[0] == pytest.approx(lived.moments[0].searched.values[0])
    assert len(found.neighbours[0]) == 5 and run.planned_steps == 2
    again = run.believe(moments=3)
    np.testing.assert_array_equal(found.lived.track.obs, again.lived.track.obs)


def built(preset, *changes):
    settings = resolve(preset, [*changes, {"task": {"env": LINE, "terminated": "none"}}])
    task = make_task(settings.task)
    return settings.build(task)


@pytest.mark.parametrize(
    ("preset", "changes", "followed"),
    [
        ("pets/default", {}, 5),
        ("pets/default+ts1", {}, 1),
        ("pets/default+ds", {}, 1),
        ("steve/default", {}, 4),
        ("steve/default", {"reward_model": {}}, 4),
        ("dhmbpo/default", {}, 1),
    ],
)
def test_particles_are_divided_among_members_where_they_stay_with_them(preset, changes, followed):
    assert built(preset, changes).model.followed == followed


@pytest.mark.long
def test_a_guide_takes_all_actions_of_a_plan_but_the_first():
    agent = built("mbmpc/default", TINY.SHOOTING, TINY.GUIDED, {"planner": {"horizon": 3}})
    assert isinstance(agent, Guided)
    state = quick_jit(agent.init)(jax.random.key(0))
    obs, plan = np.float32([[0.1, 0.2], [0.3, -0.1]]), np.float32(np.random.default_rng(0).uniform(-1, 1, (2, 3, 1)))
    look = on_host(partial(foresee, agent, planned=True))
    untaught = look(state, obs, plan, jax.random.key(1))
    np.testing.assert_allclose(untaught.action, plan, rtol=1e-6)
    taught = look(state._replace(taught=jnp.ones((), bool)), obs, plan, jax.random.key(1))
    np.testing.assert_allclose(taught.action[:, 0], plan[:, 0], rtol=1e-6)
    act = on_host(lambda obs: agent._guide(state.clone.network)(None, obs, 1)[0])
    for k in (1, 2):
        np.testing.assert_allclose(taught.action[:, k], act(taught.obs[:, k, 0][None])[0], rtol=1e-5)


@pytest.mark.long
def test_candidates_of_all_horizons_weigh_as_they_agree():
    agent = built("steve/default", TINY.EXPANSION, {"train": {"steps_per_learning": 5}})
    state = quick_jit(agent.init)(jax.random.key(0))
    rows = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    track = Track(rows, rows[:5, :1], rows[:5, 1], terminated=True)
    found = belief._horizons(agent, state, track, np.array([0, 2, 4]), 0)
    assert found.mean_mj.shape == (3, 4)
    weight = 1 / (np.square(found.std_mj) + 1e-8)
    np.testing.assert_allclose(found.weight_mj[:2], (weight / weight.sum(1, keepdims=True))[:2], rtol=1e-3)
    np.testing.assert_allclose(found.mean_mj[2], track.rewards[4], rtol=1e-5)  # the episode ends: there is no more
    assert found.std_mj[2].max() < 1e-5
