"""Columns of observations that never change within a step stay as they are in imagination."""

import csv

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st

import foretell
from environments import STEPS, Line
from foretell.models import open_loop, rollout, start
from foretell.models.unchanging import Unchanging, kept_columns, unknown_columns
from foretell.replay import Transitions, add, init_replay
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.events import Callback
from tiny import TINY, on_host, quick_jit

SMALL = {
    "pets/default": {
        "model": {"members": 2, "hidden": [8]},
        "fit": {"min_steps": 3},
        "reward_model": {"hidden": [4]},
        "imagination": {"particles": 4},
    },
    "mbmpc/default": {"model": {"hidden": [8]}, "fit": {"min_steps": 3}},
    "steve/default": {"model": {"hidden": [8], "aux_hidden": [4]}, "learner": {"hidden": [8]}},
}
NAMES = ("position", "speed", "goal", "payload")


class Carries(Line):
    """Its goal is another one in each episode, its payload always the same."""

    observation_space = Box(-np.inf, np.inf, (4,), np.float64)

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        self.goal = self.np_random.normal()
        return np.append(obs, [self.goal, 0.1]), info

    def step(self, action):
        obs, *rest = super().step(action)
        return np.append(obs, [self.goal, 0.1]), *rest


gymnasium.register("tiny/Carries-v0", entry_point=Carries, max_episode_steps=STEPS)
CARRIES = f"{__name__}:tiny/Carries-v0"


def steps(obs, next_obs):
    zeros = np.zeros(len(obs), np.float32)
    return Transitions(np.float32(obs), zeros[:, None], zeros, np.float32(next_obs), zeros > 0)


store = quick_jit(lambda replay, rows: add(replay, rows))
after = on_host(lambda columns, replay: columns.after(replay))


@pytest.mark.parametrize(
    ("change", "rows"),
    [([0.0, 0.0, 0.0], [7, 7, 7]), ([0.0, 1e-6, 0.0], [7, -1, 7]), ([np.nan, 0.0, -3.0], [-1, 7, -1])],
)
def test_one_change_is_enough(change, rows):
    obs = np.random.default_rng(0).normal(size=(7, 3))
    moved = obs.copy()
    moved[4] += change
    replay = store(init_replay(20, 3, 1), steps(obs, moved))
    assert after(unknown_columns(3), replay).rows.tolist() == rows


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=6))
def test_what_is_known_is_that_of_all_data_so_far(parts):
    """In a replay that has forgotten most of them; `size` rows at a time, of which one column changes in the last."""
    columns, replay, changed, total = unknown_columns(2), init_replay(10, 2, 1), np.zeros(2, bool), 0
    for size, column in parts:
        obs = np.ones((9, 2))
        moved = obs.copy()
        if column < 2:
            moved[size - 1, column] += 1.0
            changed[column] = True
        rows = steps(obs, moved)
        replay = _store_some(replay, rows, np.arange(9) < size)
        columns, total = after(columns, replay), total + size
        replay = replay._replace(new=jnp.zeros_like(replay.new))
        assert columns.rows.tolist() == [-1 if one else total for one in changed]


_store_some = quick_jit(lambda replay, rows, use: add(replay, rows, use))


def test_more_rows_than_are_compared_at_a_time():
    obs = np.zeros((700, 2))
    moved = obs.copy()
    moved[3, 1] = 1.0
    assert after(unknown_columns(2), store(init_replay(1000, 2, 1), steps(obs, moved))).rows.tolist() == [700, -1]


def test_before_there_are_data_nothing_is_kept():
    before, moved = jnp.zeros((3, 2)), jnp.ones((3, 2))
    assert unknown_columns(2).keep(before, moved).tolist() == moved.tolist()
    assert Unchanging(jnp.array([4, -1])).keep(before, moved).tolist() == [[0.0, 1.0]] * 3


def played(env, episodes=6):
    """Transitions of random episodes."""
    generator, rows = np.random.default_rng(0), []
    for seed in range(episodes):
        obs, _ = env.reset(seed=seed)
        for _ in range(STEPS):
            action = generator.uniform(-1, 1, 1).astype(np.float32)
            following, reward, *_ = env.step(action)
            rows.append((obs, action, reward, following, False))
            obs = following
    return Transitions(*(np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), "ffff?", strict=True)))


@pytest.mark.long
@pytest.mark.parametrize("preset", SMALL)
def test_goals_and_payloads_do_not_drift(preset):
    """Over 100 imagined steps, while the others move; with every kind of networks."""
    tree = resolve(preset, [{"task": {"env": CARRIES, "check": False}, "train": {"capacity": 50}}, SMALL[preset]])
    task = make_task(tree.task)
    model = tree.build(task).model
    with task.make() as env:
        data = played(env)
    replay = store(init_replay(50, 4, 1), data)

    def imagine(replay):
        key = jax.random.key(0)
        state = model.init(key)
        learn = model.prepare if preset == "steve/default" else lambda *args: model.fit(*args, key)[0]
        params = model.params(learn(state, replay))
        begin = start(model, params, replay.data.obs[:3], key, model.particles)
        return rollout(model, params, begin, open_loop(jnp.full((3, 100, 1), 0.3), model.particles), 100, key).obs

    obs = np.asarray(quick_jit(imagine)(replay))
    np.testing.assert_array_equal(obs[..., 2:], np.broadcast_to(data.obs[:3, 2:], obs[..., 2:].shape))
    assert (np.ptp(obs[..., :2], 0) > 0).all()


class Listens(Callback):
    def __init__(self):
        self.said = []

    def on_warning(self, event):
        self.said.append(event.text)


@pytest.mark.long
def test_a_run_says_once_which_they_are(tmp_path):
    listens, options = Listens(), {"env": CARRIES, "quiet": True}
    small = [TINY, {"train": {"trials": 2}, "task": {"check": False}}]
    run = foretell.train("pets/default", out=tmp_path / "run", overrides=small, callbacks=[listens], **options)
    names = ", ".join(run.task.spec.obs_names[2:])
    assert listens.said == [f"{names} never changed within an episode; imagined episodes keep their values"]
    again = Listens()
    foretell.resume(tmp_path / "run", overrides=[{"train": {"trials": 3}}], callbacks=[again], quiet=True)
    assert again.said == []
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_columns_are_named_wherever_the_model_is():
    columns = Unchanging(np.array([-1, 0, 3, 5]))
    assert kept_columns({"a": (1.0, columns), "b": None}, NAMES) == ["goal", "payload"]
    assert kept_columns((np.zeros(3), None), NAMES) == []
