"""The one rollout: plans, policies, replayed states and recorded actions, and what is earned before the end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.models import (
    ModelDefaults,
    Start,
    Step,
    TrainedModel,
    Trajectory,
    WorldModel,
    open_loop,
    return_fold,
    returns,
    rollout,
    start,
    survival,
)
from foretell.replay import Transitions, add, init_replay, newest
from foretell.tasks import Task, TaskSpec
from tiny import on_host

PARTICLES, BATCH, HORIZON, REWARDS = 2, 3, 4, 2


class Line(Task):
    """A place, whose change is predicted in tenths."""

    spec = TaskSpec("Line-v0", ("x",), (-1.0,), (1.0,), horizon=10)

    def target(self, obs, next_obs):
        return 10 * (next_obs - obs)


KEY = jax.random.key(0)


class Sway(NamedTuple):
    """A point that swings by itself and is pushed; noise pushes it too. The carry also holds the last push."""

    wind: float = 0.1

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape)), jax.random.normal(key, (particles, len(obs), 1))

    def step(self, params, carry, action, key):
        obs, push = carry
        wind = self.wind * jax.random.normal(key, push.shape)
        push = 0.5 * push + params * action + wind
        after = jnp.stack(
            [obs[..., 0] + 0.3 * obs[..., 1], 0.9 * obs[..., 1] - jnp.sin(obs[..., 0]) + push[..., 0]], -1
        )
        reward = jnp.cos(after[..., 0]) + jnp.arange(1.0 * REWARDS)[:, None, None] * action[..., 0]
        return (after, push), Step(after, reward, jax.nn.sigmoid(after[..., 1] - 2))


MODEL, PARAMS = Sway(), np.float32(0.7)
OBS = np.float32(np.random.default_rng(0).normal(size=(BATCH, 2)))
PLAN = np.float32(np.random.default_rng(1).uniform(-1, 1, (BATCH, HORIZON, 1)))


def policy(key, obs, t):
    """Noisy, and another at every time; it keeps its noise."""
    noise = 0.2 * jax.random.normal(key, (*obs.shape[:2], 1))
    return jnp.tanh(obs[..., :1]) + 0.1 * t + noise, {"noise": noise}


def act_of(how, plan):
    return policy if how == "policy" else open_loop(jnp.asarray(plan), PARTICLES)


def imagine(how, horizon, unroll, params, obs, plan, key):
    begin_key, roll_key = jax.random.split(key)
    begin = start(MODEL, params, obs, begin_key, PARTICLES)
    return rollout(MODEL, params, begin, act_of(how, plan), horizon, roll_key, unroll=unroll)


compiled = on_host(imagine, 0, 1, 2)
one_step = on_host(MODEL.step)
first_carry = on_host(lambda obs, key: MODEL.begin(PARAMS, obs, key, PARTICLES))
choose = on_host(lambda how, *args: act_of(how, PLAN)(*args), 0)


def imagined(how="plan", horizon=HORIZON, unroll=1, obs=OBS, plan=PLAN, key=KEY):
    return compiled(how, horizon, unroll, PARAMS, obs, plan, key)


def by_hand(how):
    """Step by step, with the keys that a rollout has."""
    begin_key, roll_key = jax.random.split(KEY)
    carry, obs = first_carry(OBS, begin_key), [np.stack([OBS] * PARTICLES)]
    steps = []
    act_keys, step_keys = (jax.random.split(key, HORIZON) for key in jax.random.split(roll_key))
    for t, (act_key, step_key) in enumerate(zip(act_keys, step_keys, strict=True)):
        action, extras = choose(how, act_key, obs[-1], np.int32(t))
        carry, step = one_step(PARAMS, carry, action, step_key)
        obs.append(step.obs)
        steps.append((action, step.reward, step.terminated, extras))
    action, reward, terminated, extras = jax.tree.map(lambda *a: np.stack(a), *steps)
    return Trajectory(np.stack(obs), action, reward, terminated, extras, Start(carry, obs[-1]), ())


def assert_close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-6, **tolerance})


@pytest.mark.long
@pytest.mark.parametrize("how", ["plan", "policy"])
def test_every_step_follows_from_the_one_before(how):
    found = imagined(how)
    assert found.obs.shape == (HORIZON + 1, PARTICLES, BATCH, 2)
    assert found.reward.shape == (HORIZON, REWARDS, PARTICLES, BATCH)
    assert_close(found, by_hand(how))


def test_a_plan_is_carried_out_by_all_particles_whatever_they_observe():
    found = imagined()
    np.testing.assert_array_equal(found.action, np.broadcast_to(PLAN.transpose(1, 0, 2)[:, None], found.action.shape))
    assert found.extras == ()
    np.testing.assert_array_equal(imagined(obs=OBS + 1).action, found.action)


def test_a_policy_sees_where_each_particle_is_and_what_it_keeps_comes_back():
    found = imagined("policy")
    times = 0.1 * np.arange(HORIZON)[:, None, None, None]
    expected = np.tanh(found.obs[:-1, ..., :1]) + times + found.extras["noise"]
    np.testing.assert_allclose(found.action, expected, rtol=1e-5, atol=1e-6)
    assert len(np.unique(found.extras["noise"])) == found.extras["noise"].size


@pytest.mark.long
def test_imagined_data_begin_in_replayed_states():
    """As for training a policy on imagined transitions: whole rows go into a replay as real ones do."""
    none = np.zeros((BATCH, 1), np.float32)
    real = Transitions(OBS, none, none[:, 0], OBS + 1, none[:, 0] > 0)

    @on_host
    def imagine_and_store(real):
        states = newest(add(init_replay(5, 2, 1), real), BATCH).next_obs
        found = imagine("policy", HORIZON, 1, PARAMS, states, None, KEY)
        rows = lambda a: a.reshape(HORIZON * PARTICLES * BATCH, *a.shape[3:])  # noqa: E731
        ends = rows(found.terminated) > 0.5
        data = (found.obs[:-1], found.action, found.reward.mean(1), found.obs[1:])
        return found, add(init_replay(30, 2, 1), Transitions(*map(rows, data), ends))

    found, stored = imagine_and_store(real)
    np.testing.assert_array_equal(found.obs[0, 1], OBS[::-1] + 1)
    assert stored.added == HORIZON * PARTICLES * BATCH
    np.testing.assert_array_equal(stored.data.next_obs[PARTICLES * BATCH - 1], found.obs[1, -1, -1])


def test_recorded_actions_bring_back_the_trajectory_that_they_are_of():
    """As diagnostics compare a model with an episode: the same noise, the actions of one particle of a policy."""
    whole = imagined("policy")
    found = imagined("plan", plan=np.asarray(whole.action[:, 1].transpose(1, 0, 2)))
    np.testing.assert_allclose(found.obs[:, 1], whole.obs[:, 1], rtol=1e-5, atol=1e-6)
    assert not np.allclose(found.obs[-1, 0], whole.obs[-1, 0])  # another particle acted otherwise


@pytest.mark.long
@pytest.mark.parametrize("unroll", [3, HORIZON])
def test_unrolling_changes_no_result(unroll):
    assert_close(imagined("policy", unroll=unroll), imagined("policy"))


@pytest.mark.long
def test_a_rollout_goes_on_where_another_ended():
    """By itself each step depends on the carry, the action and its key alone."""
    calm = Sway(wind=0.0)

    @on_host
    def parts(obs, plan):
        begin = start(calm, PARAMS, obs, KEY, PARTICLES)
        whole = rollout(calm, PARAMS, begin, open_loop(plan, PARTICLES), HORIZON, KEY)
        first = rollout(calm, PARAMS, begin, open_loop(plan[:, :1], PARTICLES), 1, KEY)
        return whole, first, rollout(calm, PARAMS, first.end, open_loop(plan[:, 1:], PARTICLES), HORIZON - 1, KEY)

    whole, first, rest = parts(OBS, PLAN)
    assert_close(rest.obs, whole.obs[1:])
    assert_close(rest.reward, whole.reward[1:])
    assert_close(rest.end, whole.end)
    np.testing.assert_array_equal(first.end.obs, first.obs[-1])


class Forecast(NamedTuple):
    """A model that draws the wind of a whole rollout at once; it does nothing else."""

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape))

    def noise(self, key, horizon, particles, batch):
        return {"wind": jax.random.normal(key, (horizon, particles, batch, 2)), "time": jnp.arange(horizon)}

    def step(self, params, carry, action, key):
        after = carry + key["wind"] + 10 * key["time"]
        return after, Step(after, jnp.ones((1, *carry.shape[:2])), jnp.full(carry.shape[:2], 0.5))


@on_host
def forecast(obs):
    begin = start(Forecast(), (), obs, KEY, PARTICLES)
    act, how = open_loop(jnp.array(PLAN), PARTICLES), (Forecast(), (), begin)
    whole = rollout(*how, act, HORIZON, KEY, fold=((0, begin.obs), lambda v, s: (v[0] + 1, jnp.maximum(v[1], s.obs))))
    return whole, rollout(*how, act, HORIZON, KEY, fold=return_fold(begin)).folded[0]


@pytest.mark.long
def test_a_model_may_draw_the_noise_of_all_steps_at_once():
    """`step` is given its part of it instead of a key."""
    steps = np.diff(forecast(OBS)[0].obs, axis=0) - 10 * np.arange(HORIZON).reshape(-1, 1, 1, 1)
    draw = on_host(lambda key: Forecast().noise(key, HORIZON, PARTICLES, BATCH))
    np.testing.assert_allclose(steps, draw(jax.random.split(KEY)[1])["wind"], atol=1e-4)


def test_something_may_be_accumulated_over_the_steps():
    """Such as their number and the greatest observation, or the return."""
    found, total = forecast(OBS)
    count, greatest = found.folded
    assert count == HORIZON
    np.testing.assert_array_equal(greatest, found.obs.max(0))
    np.testing.assert_allclose(total, np.full((PARTICLES, BATCH), 1 + 0.5 + 0.25 + 0.125), rtol=1e-6)


def test_keys_particles_and_steps_have_noise_of_their_own():
    first, other = (imagined(key=jax.random.key(k)) for k in (0, 1))
    assert (first.obs[1:, ..., 1] != other.obs[1:, ..., 1]).all()
    assert (first.obs[1:, 0, :, 1] != first.obs[1:, 1, :, 1]).all()
    np.testing.assert_array_equal(first.obs, imagined().obs)


@pytest.mark.long
def test_a_gradient_flows_from_returns_to_parameters_observations_and_plans():
    """As policy gradients through a model, and planning by gradient, need it: against finite differences."""

    def value(params, obs, plan):
        return returns(imagine("plan", HORIZON, 1, params, obs, plan, KEY)).sum()

    arguments, eps = (PARAMS, OBS, PLAN), np.float32(1e-2)
    gradients, compiled_value = on_host(jax.grad(value, (0, 1, 2)))(*arguments), on_host(value)
    for place, gradient in enumerate(gradients):
        direction = np.sign(gradient)
        up, down = (
            compiled_value(*(a + sign * eps * direction if i == place else a for i, a in enumerate(arguments)))
            for sign in (1, -1)
        )
        expected = float(up - down) / (2 * eps)
        assert abs(expected) > 0.1
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=0.02)


@pytest.mark.long
def test_what_is_not_used_costs_nothing():
    """The program for the observations alone computes neither rewards nor ends, nor anything that `act` keeps."""

    def everything(obs):
        act = lambda key, obs, t: (jnp.zeros((*obs.shape[:2], 1)), jnp.tan(obs))  # noqa: E731
        return rollout(MODEL, PARAMS, start(MODEL, PARAMS, obs, KEY, PARTICLES), act, HORIZON, KEY)

    whole, part = (jax.jit(f).lower(OBS).compile().as_text() for f in (everything, lambda obs: everything(obs).obs))
    for operation in (" tan(", " cosine(", " exponential("):
        assert operation in whole and operation not in part
    assert " sine(" in part


def trajectory(reward, terminated):
    """With nothing but what returns need; `reward` is `[horizon, rewards, particles, batch]`."""
    horizon, _, particles, batch = reward.shape
    obs = jnp.zeros((horizon + 1, particles, batch, 1))
    return Trajectory(obs, obs[1:], jnp.array(reward), jnp.array(terminated), (), Start((), obs[0]))


def both_returns(reward, terminated):
    """After all steps, and accumulated over them."""
    made = trajectory(reward, terminated)
    value, accumulate = return_fold(made.end)
    for t in range(len(reward)):
        value = accumulate(value, Step(made.obs[t + 1], made.reward[t], made.terminated[t]))
    return returns(made), value[0]


compiled_returns = on_host(both_returns)
number = st.floats(-10, 10, width=32)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.lists(st.tuples(number, number, st.floats(0, 1, width=32)), min_size=4, max_size=4),
    st.integers(0, 6),
    st.sampled_from([np.inf, -np.inf, np.nan]),
)
def test_a_return_is_what_is_earned_times_the_probability_that_the_episode_gets_there(steps, end, after):
    """Also where what is imagined after a certain end is not finite."""
    first, second, ends = (np.float32(a) for a in zip(*steps, strict=True))
    ends = np.where(np.arange(4) == end, np.float32(1), ends)
    mean = np.where(np.arange(4) > end, after, (first.astype(float) + second) / 2)
    alive, total = 1.0, 0.0
    for reward, probability in zip(mean, ends, strict=True):
        if alive > 0:
            total += alive * reward
        alive *= 1.0 - probability
    rewards = np.stack([np.where(np.arange(4) > end, np.float32(after), a) for a in (first, second)], 1)
    for found in compiled_returns(rewards[:, :, None, None], ends[:, None, None]):
        assert found.shape == (1, 1)
        assert float(found[0, 0]) == pytest.approx(total, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_survival_is_the_probability_of_reaching_a_step_and_of_going_on_after_it(dtype):
    """Of flags and of probabilities."""
    ends = np.array([[0, 0], [0, 1], [1, 0]]).astype(dtype)
    reach, onward = on_host(survival)(ends)
    np.testing.assert_array_equal(reach, [[1, 1], [1, 1], [1, 0]])
    np.testing.assert_array_equal(onward, [[1, 1], [1, 0], [0, 0]])


def test_probabilities_of_ends_multiply():
    reach, onward = on_host(survival)(np.float32([0.5, 0.2, 0.0]))
    np.testing.assert_allclose(reach, [1, 0.5, 0.4], rtol=1e-6)
    np.testing.assert_allclose(onward, [0.5, 0.4, 0.4], rtol=1e-6)


def test_a_certain_end_at_the_first_step_leaves_its_reward_alone():
    reward = np.float32(np.random.default_rng(0).normal(size=(5, 2, PARTICLES, BATCH)))
    ends = np.ones((5, PARTICLES, BATCH), np.float32)
    for found in compiled_returns(reward, ends):
        np.testing.assert_allclose(found, reward[0].mean(0), rtol=1e-6)


class Doubling(ModelDefaults):
    """A trained model with nothing but what there is no default for; its state is the factor."""

    task, particles = Line(), 2

    def init(self, key):
        return jnp.float32(2)

    def step(self, params, carry, action, key):
        after = params * carry + action + jnp.array([-1.0, 3.0])[:, None, None]
        return after, Step(after, jnp.zeros((1, *carry.shape[:2])), jnp.zeros(carry.shape[:2]))

    def fit(self, state, replay, key):
        return state + 1, {}


@pytest.mark.long
def test_a_model_of_ones_own_needs_little():
    """By default it carries observations, all of its state is for imagination, and single updates do nothing."""
    model, replay = Doubling(), init_replay(3, 1, 1)
    assert isinstance(model, TrainedModel) and model.needs_data
    assert model.params(5.0) == 5.0 and model.prepare(5.0, replay) == 5.0
    assert model.update(5.0, replay, KEY) == (5.0, {})
    obs = jnp.array([[1.0], [4.0]])
    np.testing.assert_array_equal(model.begin(5.0, obs, KEY, 3), np.broadcast_to(obs, (3, 2, 1)))


@pytest.mark.long
def test_by_default_the_error_is_that_of_the_mean_over_particles():
    """In the units of the task's target, which is 10 times the change; rows of weight 0 may hold anything."""
    obs, action, next_obs = (np.float32(a)[:, None] for a in ([1, 4, np.nan], [0.5, -1, 0], [3, 9, 0]))
    data, weight = Transitions(obs, action, action[:, 0], next_obs, action[:, 0] > 0), np.float32([1, 3, 0])
    found = on_host(Doubling().error)(np.float32(2), data, weight)
    wrong = 2 * obs[:, 0] + action[:, 0] + 1 - next_obs[:, 0]
    assert float(found) == pytest.approx((100 * wrong[0] ** 2 + 3 * 100 * wrong[1] ** 2) / 4, rel=1e-5)


@pytest.mark.long
def test_two_methods_make_a_world_model():
    assert isinstance(MODEL, WorldModel) and not isinstance(MODEL, TrainedModel)
    assert not isinstance(object(), WorldModel)
