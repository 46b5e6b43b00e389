"""The true model gives, to the bit, the rewards that the environment itself would give."""

import os
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import Line
from foretell import registry
from foretell.envs import live
from foretell.envs.copies import blank, put, snapshot
from foretell.errors import UserError
from foretell.models import Imagination, TrueDynamics, TrueModel, Unknown, open_loop, returns, rollout, start
from foretell.replay import init_replay
from foretell.tasks import TaskSettings, make_task

KEY = jax.random.key(0)
LIVE = ["cartpole", "pusher", "Pendulum-v1", "HalfCheetah-v5", "InvertedPendulum-v5", "Hopper-v5"]
COPIED = [*LIVE, "true/Windy-v0", "true/Pickled-v0", "true/Twice-v0", "true/Shortcut-v0"]


class Windy(Line):
    """Noise moves the point; its state is in a list, within an object that knows its environment, and in a model."""

    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        self.trace, self.wind, self.window = [], Wind(self), 7

    def step(self, action):
        self.trace.append(self.wind.blow())
        obs, *rest = super().step(action)
        return obs, sum(self.trace) + self.window, *rest[1:]


class Wind:
    def __init__(self, env):
        self.env = env

    def blow(self):
        self.env.state = self.env.state + self.env.np_random.normal(size=2)
        return float(self.env.state[0])


class Pickled(Line, gymnasium.utils.EzPickle):
    """Copied by `deepcopy` it would begin anew."""

    def __init__(self, render_mode=None):
        gymnasium.utils.EzPickle.__init__(self, render_mode)
        super().__init__(render_mode)


class Locked(Line):
    """Holds what cannot be copied."""

    def reset(self, **kwargs):
        self.generator = (i for i in range(3))
        return super().reset(**kwargs)


class Late(Line):
    """Breaks when it has gone far."""

    def step(self, action):
        if self.state[1] > 3:
            raise RuntimeError("the rail has ended")
        self.state = self.state + 1.0
        return super().step(action)


class Strict(Line):
    """Ends after three steps, and refuses any step after that."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps > 3:
            raise RuntimeError("call reset first")
        return *super().step(action)[:2], self.steps == 3, False, {}


class Nan(Line):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, np.nan if action[0] > 0 else 1.0, *rest


class Twice(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2.0 * float(reward)


class Shortcut(gymnasium.Wrapper):
    """Remembers the environment within, and pays what it finds there."""

    def __init__(self, env):
        super().__init__(env)
        self.bare = env.unwrapped

    def step(self, action):
        obs, _, *rest = self.env.step(action)
        return obs, float(self.bare.state[0]), *rest


for _class in (Windy, Pickled, Locked, Late, Strict, Nan):
    gymnasium.register(f"true/{_class.__name__}-v0", entry_point=_class, max_episode_steps=20)
for _wrapper in (Twice, Shortcut):
    entry = partial(lambda wrapper, **options: wrapper(Line(**options)), _wrapper)
    gymnasium.register(f"true/{_wrapper.__name__}-v0", entry_point=entry, max_episode_steps=20)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs where it runs that a model of Gymnasium's is written in an old way."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def nothing_reported():
    yield
    live.raise_reported()


def task_of(env, *, from_live=True, **settings):
    """A task whose states are those of the environment that is acted in, or those that its observations describe."""
    task = make_task(TaskSettings(env=env, **settings))
    if from_live:
        task.restore = None
    return task


def random_actions(task, *shape, seed=0):
    low, high = task.spec.action_low, task.spec.action_high
    return np.random.default_rng(seed).uniform(low, high, (*shape, len(low))).astype(np.float32)


def in_mid_episode(task, seed=1, steps=17):
    """The pendulum falls soon."""
    env, steps = task.make(), 3 if "InvertedPendulum" in task.spec.env_id else steps
    env.reset(seed=seed)
    for action in random_actions(task, steps, seed=seed):
        env.step(action)
    return env


class Imagined(NamedTuple):
    """Steps of several plans; times lead."""

    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    carry: Any
    """From where they could go on."""


def played(model, carry, plans, key=KEY):
    """Take the actions of plans one after the other, in programs that only call the simulator."""
    steps = []
    for actions in np.moveaxis(plans, 1, 0):
        carry, step = model.step((), carry, jnp.broadcast_to(actions, (len(carry), *actions.shape)), key)
        steps.append((step.obs, step.reward[0], step.terminated))
    obs, reward, terminated = (np.stack(column) for column in zip(*steps, strict=True))
    return Imagined(obs, reward, terminated, carry)


def begun(model, rows, key=KEY, particles=1):
    """From observations that say nothing."""
    return model.begin((), jnp.zeros((rows, model.task.spec.obs_size)), key, particles)


def imagine(model, env, plans):
    """What the model expects of each plan in the environment."""
    with live.serving([env]):
        return played(model, begun(model, len(plans)), plans)


def value(model, obs, plans, key):
    """The same within one program: rewards `[horizon, candidates]` and returns."""
    begin_key, roll_key = jax.random.split(key)
    begin = start(model, (), obs, begin_key, 1)
    found = rollout(model, (), begin, open_loop(plans, 1), plans.shape[1], roll_key)
    return found.reward[:, 0, 0], returns(found)[0]


def lived(env, actions):
    """What really taking the actions gives: observations, rewards, and whether each step ended the episode."""
    steps = []
    for action in actions:
        steps.append(env.step(action)[:3])
        if steps[-1][2]:
            break
    obs, rewards, ends = zip(*steps, strict=True)
    return np.float32(obs), np.float32(rewards), np.float32(ends)


def expect_same(found, row, real):
    obs, rewards, ends = real
    count = len(rewards)
    np.testing.assert_array_equal(found.reward[:count, 0, row], rewards)
    np.testing.assert_array_equal(found.obs[:count, 0, row], obs)
    np.testing.assert_array_equal(found.terminated[:count, 0, row], ends)
    total = found.reward[:, 0, row].astype(float).sum()
    assert total == rewards.astype(float).sum()  # what comes after a termination earns nothing


@pytest.mark.parametrize("name", COPIED)
@pytest.mark.long
def test_rewards_are_to_the_bit_what_the_environment_then_gives(name):
    """In mid-episode, for the first and last of several plans, and again from where they have led."""
    task = task_of(name)
    env, model = in_mid_episode(task), TrueModel(task, 2)
    for which in (0, -1):
        plans = random_actions(task, 4, 8, seed=which + 2) * np.float32(0.1 if name == "InvertedPendulum-v5" else 1)
        found = imagine(model, env, plans)
        assert found.reward.dtype == found.terminated.dtype == np.float32 and found.reward.shape == (8, 1, 4)
        assert np.isfinite(found.reward).all()
        expect_same(found, which, lived(env, plans[which]))


@pytest.mark.parametrize("name", ["pusher", "true/Windy-v0"])
def test_imagining_changes_nothing_in_the_environment(name):
    task = task_of(name)
    planned, alone, model = in_mid_episode(task), in_mid_episode(task), TrueModel(task, 1)
    for action in random_actions(task, 3, seed=5):
        imagine(model, planned, random_actions(task, 4, 3))
        mine, other = planned.step(action), alone.step(action)
        np.testing.assert_array_equal(mine[0], other[0])
        assert mine[1] == other[1]


@pytest.mark.long
def test_the_number_of_threads_changes_no_result():
    task = task_of("HalfCheetah-v5")
    env, plans = in_mid_episode(task), random_actions(task, 5, 4)
    alone, *others = (imagine(TrueModel(task, threads), env, plans) for threads in (1, 2, 4, 8))
    for together in others:
        jax.tree.map(np.testing.assert_array_equal, together[:3], alone[:3])


def test_states_that_observations_describe_need_no_environment():
    """Each row begins where its own observation says."""
    task = task_of("cartpole", from_live=False)
    envs = [in_mid_episode(task, seed, steps=seed) for seed in (1, 2, 3)]
    obs, plans = jnp.array([env.unwrapped._observation() for env in envs]), random_actions(task, 3, 10)
    model = TrueModel(task, 2)
    found = played(model, model.begin((), obs, KEY, 1), plans)
    for row, env in enumerate(envs):
        real = lived(env, plans[row])
        np.testing.assert_allclose(found.obs[:, 0, row], real[0], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.reward[:, 0, row], real[1], rtol=1e-3, atol=1e-4)


def test_noise_of_the_environment_is_foreseen():
    task = task_of("cartpole", action_noise=0.5)
    env, model, plans = in_mid_episode(task), TrueModel(task, 2), np.zeros((2, 6, 1), np.float32)
    found = imagine(model, env, plans)
    real = lived(env, plans[0])
    expect_same(found, 0, real)
    expect_same(found, 1, real)
    assert not np.array_equal(found.reward, imagine(model, env, plans).reward)


def test_noise_from_described_states_follows_from_the_key():
    task = task_of("cartpole", from_live=False, action_noise=0.5)
    model, plans = TrueModel(task, 2), np.zeros((2, 3, 1), np.float32)
    carries = [begun(model, 2, jax.random.key(seed), 3) for seed in (1, 2, 1)]
    first, other, again = (played(model, carry, plans).reward for carry in carries)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(np.concatenate([first[-1].ravel(), other[-1].ravel()]))) == 12


def test_time_limits_do_not_end_it_but_terminations_do():
    line, strict = task_of("environments:tiny/Line-v0"), task_of("true/Strict-v0")
    assert line.spec.horizon == 5
    for task, counted in ((line, 9), (strict, 3)):
        env = task.make()
        env.reset(seed=0)
        plans = random_actions(task, 2, 9)
        found = imagine(TrueModel(task, 1), env, plans)
        expect_same(found, 0, lived(env.unwrapped, plans[0, :counted]))
        ends = np.arange(9) >= counted - 1 if counted < 9 else np.zeros(9)
        np.testing.assert_array_equal(found.terminated[:, 0, 0], ends)
        if counted < 9:
            np.testing.assert_array_equal(found.obs[3:], found.obs[2:-1])  # it stands still
            assert not found.reward[3:].any()


def test_rewards_that_are_not_finite_stay_what_they_are():
    task = task_of("true/Nan-v0")
    env = task.make()
    env.reset(seed=0)
    reward = imagine(TrueModel(task, 1), env, np.float32([[[1.0]] * 3, [[-1.0]] * 3])).reward[:, 0]
    assert np.isnan(reward[:, 0]).all() and (reward[:, 1] == 1.0).all()


def test_actions_beyond_the_bounds_are_the_nearest_within():
    task = task_of("environments:tiny/Ragged-v0")  # refuses others
    env = task.make()
    env.reset(seed=0)
    found = imagine(TrueModel(task, 1), env, np.full((1, 2, 1), 7.0, np.float32))
    expect_same(found, 0, lived(env, np.ones((2, 1), np.float32)))


@pytest.mark.long
def test_a_compiled_rollout_is_the_same():
    task = task_of("true/Strict-v0")
    env, plans, obs = task.make(), random_actions(task, 3, 6), jnp.zeros((3, 2))
    env.reset(seed=0)
    model = TrueModel(task, 2)
    alone = imagine(model, env, plans).reward[:, 0]
    with live.serving([env]):
        rewards, totals = jax.tree.map(np.asarray, jax.jit(partial(value, model))(obs, plans, KEY))
    np.testing.assert_array_equal(rewards, alone)
    np.testing.assert_allclose(totals, alone.sum(0), rtol=1e-6)


@pytest.mark.long
def test_rows_can_be_vmapped():
    task = task_of("Pendulum-v1", from_live=False, action_noise=0.5)
    model, keys = TrueModel(task, 2), jax.random.split(KEY, 3)
    obs = jnp.array([[1.0, 0.0, 0.5], [0.0, 1.0, -1.0], [-1.0, 0.0, 2.0]])[:, None].repeat(4, 1)
    plans = jnp.array(random_actions(task, 3, 4, 5))
    together, _ = jax.jit(jax.vmap(partial(value, model)))(obs, plans, keys)
    assert together.shape == (3, 5, 4)
    one = jax.jit(partial(value, model))
    for row in range(3):
        np.testing.assert_array_equal(together[row], one(obs[row], plans[row], keys[row])[0])


@pytest.mark.long
def test_every_round_of_a_compiled_loop_begins_anew():
    """XLA moves what does not change out of loops; here nothing changes but the key."""
    task = task_of("true/Windy-v0")
    env, model, plans = in_mid_episode(task), TrueModel(task, 2), jnp.array(random_actions(task, 3, 4))

    def one(i, totals):
        return totals.at[i].set(value(model, jnp.zeros((3, 2)), plans, jax.random.fold_in(KEY, i))[1])

    with live.serving([env]):
        totals = np.asarray(jax.jit(lambda: jax.lax.fori_loop(0, 6, one, jnp.zeros((6, 3))))())
    real = lived(env, np.asarray(plans[0]))[1].astype(float).sum()
    np.testing.assert_allclose(totals[:, 0], real, rtol=1e-5)
    np.testing.assert_array_equal(totals, np.broadcast_to(totals[0], totals.shape))
    assert len(np.unique(totals[0])) == 3


def test_rollouts_may_take_turns_and_go_on_later():
    task = task_of("true/Windy-v0")
    env, model, plans = in_mid_episode(task), TrueModel(task, 2), random_actions(task, 2, 6)
    whole = imagine(model, env, plans).reward
    with live.serving([env]):
        carries = [begun(model, 2, jax.random.key(i)) for i in range(4)]
        first = [played(model, carry, plans[:, :3]) for carry in carries]
        rest = [played(model, part.carry, plans[:, 3:]) for part in first]
    for one, other in zip(first, rest, strict=True):
        np.testing.assert_array_equal(np.concatenate([one.reward, other.reward]), whole)


def test_a_fifth_rollout_ends_the_first():
    task = task_of("cartpole", from_live=False)
    model, plans = TrueModel(task, 1), random_actions(task, 1, 2)
    carries = [begun(model, 1, jax.random.key(i)) for i in range(5)]
    found = [played(model, carry, plans).reward for carry in carries]
    assert [np.isnan(reward).all() for reward in found] == [True, False, False, False, False]
    with pytest.raises(UserError, match=r"keeps 4 rollouts at a time: this one began before 4 others$"):
        live.raise_reported()


def test_a_rollout_cannot_be_stepped_twice_from_the_same_state():
    task = task_of("cartpole", from_live=False)
    model, plans = TrueModel(task, 1), random_actions(task, 2, 1)
    stepped, fresh = begun(model, 2), begun(model, 2)
    played(model, stepped, plans)
    for carry in (stepped, fresh[:, jnp.array([0, 0])]):
        assert np.isnan(played(model, carry, plans).reward).all()
        with pytest.raises(UserError, match="cannot step a rollout twice from the same state"):
            live.raise_reported()


@pytest.mark.long
def test_slots_are_used_again(monkeypatch):
    made, task = [], task_of("cartpole", from_live=False)
    monkeypatch.setattr("foretell.envs.slots.blank", lambda env: made.append(1) or blank(env))
    model = TrueModel(task, 1)
    for _ in range(9):
        played(model, begun(model, 3, particles=2), random_actions(task, 3, 2))
    assert len(made) == 4 * 2 * 3


def test_it_needs_an_environment_where_observations_do_not_describe_states():
    task = make_task(TaskSettings(env="true/Windy-v0"))
    model = TrueModel(task, 1)
    found = played(model, begun(model, 1), random_actions(task, 1, 2))
    assert np.isnan(found.reward).all() and np.isnan(found.obs).all() and np.isnan(found.terminated).all()
    sentence = "needs the environment's state, which observations of 'true/Windy-v0' do not determine: evaluate the run"
    with pytest.raises(UserError, match=sentence):
        live.raise_reported()


def test_several_environments_at_a_time_are_refused():
    task = task_of("true/Windy-v0")
    model, envs = TrueModel(task, 1), [in_mid_episode(task, seed, 2) for seed in (1, 2)]
    sentence = r"^the true model acts in one environment at a time, not for 2 observations$"
    with pytest.raises(UserError, match=sentence), live.serving(envs):
        np.asarray(begun(model, 2))
    with live.serving(envs[:1] * 2):
        assert (np.asarray(begun(model, 2)) >= 0).all()


def test_an_environment_that_cannot_be_copied_is_refused_at_once():
    sentence = r"^'true/Locked-v0' cannot be copied, which planning with the simulator needs \(TypeError: .*generator"
    task = task_of("true/Locked-v0")
    with pytest.raises(UserError, match=sentence):
        TrueDynamics().build(task, fit=None, imagination=Imagination(), unknown=Unknown(True, True))
    with pytest.raises(UserError, match=sentence):
        imagine(TrueModel(task, 1), in_mid_episode(task), random_actions(task, 1, 2))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_while_planning_is_raised_in_one_sentence(threads):
    task = task_of("true/Late-v0")
    env = task.make()
    env.reset(seed=0)
    model, plans = TrueModel(task, threads), random_actions(task, 4, 9)
    with pytest.raises(
        UserError, match=r"^'true/Late-v0' failed in step\(\): RuntimeError: the rail has ended, at .*, line \d+$"
    ):
        imagine(model, env, plans)
    assert np.isfinite(imagine(model, env, plans[:, :1]).reward).all()  # it can be asked again


def test_a_failure_of_restoring_is_raised_in_one_sentence():
    task = task_of("cartpole", from_live=False)
    task.restore = lambda env, obs: env.nothing
    with pytest.raises(UserError, match=r"^'foretell/Cartpole-v0' failed while planning \(AttributeError: .*'nothing'"):
        imagine(TrueModel(task, 1), task.make(), random_actions(task, 2, 2))


def test_an_environment_that_is_drawn_can_be_copied():
    """The copy has no screen, and draws nothing even where the environment shows every step."""
    env = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    env.reset(seed=0)
    env.unwrapped.screen, env.unwrapped.clock = (i for i in ()), (i for i in ())
    twin = snapshot(env)
    assert twin.render_mode is None and twin.screen is None and twin.clock is None
    np.testing.assert_array_equal(twin.state, env.unwrapped.state)


def test_a_snapshot_stays_as_it_is():
    env = in_mid_episode(task_of("HalfCheetah-v5"))
    taken = snapshot(env)
    before, copied = taken.data.qpos.copy(), blank(taken)
    put(copied, taken)
    for other in (env.unwrapped, copied):
        other.step(np.ones(6))
        assert not np.array_equal(other.data.qpos, before)
    np.testing.assert_array_equal(taken.data.qpos, before)
    put(copied, taken)
    np.testing.assert_array_equal(copied.data.qpos, before)
    assert copied.model is taken.model is not env.unwrapped.model


def test_a_generator_of_another_kind_is_copied():
    first, second = Line(), Line()
    first.reset(seed=0)
    second.reset(seed=1)
    second.np_random = np.random.Generator(np.random.MT19937(3))
    put(second, first)
    assert second.np_random.normal() == first.np_random.normal()


def test_it_is_chosen_by_its_kind_and_learns_nothing():
    task = task_of("cartpole", from_live=False)
    settings = registry.find("model", "true-model")(threads=3)
    assert isinstance(settings, TrueDynamics) and not settings.needs_data
    model = settings.build(task, fit=None, imagination=Imagination(), unknown=Unknown(False, False))
    assert (model.threads, model.particles, model.needs_data) == (3, 1, False)
    replay = init_replay(4, 4, 1)
    assert model.init(KEY) == model.params(()) == model.prepare((), replay) == ()
    assert model.fit((), replay, KEY) == ((), {})
    assert model.update((), replay, KEY)[1]["model_skipped"] == 0.0
    assert model.error((), replay.data, jnp.ones(4)) == 0.0


def test_there_is_a_thread_for_each_core_unless_set():
    assert TrueDynamics().count() == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else True
    assert TrueDynamics(threads=3).count() == 3
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        TrueDynamics(threads=0)


@pytest.mark.long
def test_a_simulator_has_no_gradients():
    model = TrueModel(make_task(TaskSettings(env="cartpole")), 1)

    def earned(plan):
        begin = start(model, (), jnp.zeros((1, 4)), KEY, 1)
        return rollout(model, (), begin, open_loop(plan, 1), 2, KEY).reward.sum()

    with pytest.raises(UserError, match=r"model.kind=true-model has no gradients.*choose a planner .* such as cem"):
        jax.eval_shape(jax.grad(earned), jnp.zeros((1, 2, 1)))
