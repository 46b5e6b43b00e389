"""Runs in environments that do not repeat themselves: they resume from the best point there is, and say which."""

import csv
from types import SimpleNamespace

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from witness import finished

import foretell
from environments import STEPS, Line
from foretell.agents.base import Schedule
from foretell.envs.physics import physics, put_physics
from foretell.envs.simulators import Past, repeat_episode
from foretell.tasks import TaskSettings, make_task
from foretell.tasks.check import check
from foretell.training.clock import Counters
from foretell.training.events import Callback
from foretell.training.interrupt import Interrupted
from foretell.training.notices import Notices
from tiny import LINE, TINY, by_hand, presses_at, tiny_run

EPISODIC = {"trials": 3, "random_episodes": 1}
STEPWISE = {"steps": 24, "steps_per_learning": 3, "random_episodes": 0, "random_steps": 4, "log_every": 10}


class Robot(Line):
    """Ignores its seed."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None)


class Curriculum(Line):
    """Begins farther away in each episode."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.state * self.resets
        return self.state.copy(), {}


class Wears(Line):
    """Its motor wears out, also in later episodes; observations show that late, rewards at once."""

    worn = 1.0

    def step(self, action):
        self.worn *= 0.9
        obs, reward, *rest = super().step(action)
        return obs, reward * self.worn, *rest


class Noisy(Line):
    """Has noise that no seed decides."""

    def step(self, action):
        obs, *rest = super().step(action)
        return obs + np.random.default_rng().normal(size=2), *rest


class Pole(InvertedPendulumEnv):
    """MuJoCo's, but ignores its seed; only the pole is observed."""

    resets = 0

    def __init__(self, **options):
        super().__init__(**options)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))

    def reset(self, *, seed=None, options=None):
        Pole.resets += 1
        return super().reset(seed=Pole.resets)

    def step(self, action):
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, False, truncated, info

    def _get_obs(self):
        return super()._get_obs()[1::2]


class Normalized(gymnasium.wrappers.NormalizeObservation):
    def __init__(self, render_mode=None):
        super().__init__(Line(render_mode))


for _class in (Robot, Curriculum, Wears, Noisy, Pole, Normalized):
    gymnasium.register(f"odd/{_class.__name__}-v0", entry_point=_class, max_episode_steps=STEPS)


def named(name):
    return f"{__name__}:odd/{name}-v0"


class Listens(Callback):
    """Keeps all warnings."""

    def __init__(self):
        self.said = []

    def on_warning(self, event):
        self.said.append(event.text)


def cut_and_resumed(path, name, at, **options):
    """What a run says that was cut off after so many steps in all, and its rows."""
    with pytest.raises(Interrupted):
        finished(path, env=named(name), callbacks=[presses_at("step", at)], **options)
    listens = Listens()
    run = finished(path, env=named(name), callbacks=[listens], **options)
    with run.directory.episodes.open(newline="") as file:
        return listens.said, list(csv.DictReader(file))


@pytest.mark.long
@pytest.mark.parametrize("name", ["Robot", "Curriculum", "Wears", *by_hand("Noisy", "Normalized")])
def test_a_cut_episode_is_dropped_with_its_steps_if_nothing_was_learned_from_them(name, tmp_path):
    """The table is that of a run without it, but for its number."""
    said, rows = cut_and_resumed(tmp_path / "run", name, 2 * STEPS + 3, **EPISODIC)
    assert said == [
        f"'{named(name)}' did not repeat the first 3 steps of episode 2; episode 2 is dropped, and the run continues "
        "with a new episode"
    ]
    assert [(row["episode"], row["env_steps"]) for row in rows] == [("0", "5"), ("1", "10"), ("3", "15"), ("4", "20")]
    again = Listens()
    finished(tmp_path / "run", env=named(name), callbacks=[again], **{**EPISODIC, "trials": 4})
    assert again.said == []


@pytest.mark.long
@pytest.mark.parametrize("data", ["replay", "trajectories"])
def test_steps_that_were_learned_from_stay_in_the_data(data, tmp_path):
    said, rows = cut_and_resumed(tmp_path / "run", "Robot", 13, data=data, **STEPWISE)
    (text,) = said
    assert text.endswith(
        "episode 2 is dropped, but its 4 steps stay in the data, and the run continues with a new episode"
    )
    assert [(row["episode"], row["env_steps"]) for row in rows] == [("0", "4"), ("1", "9"), ("3", "18"), ("4", "23")]


@pytest.mark.long
def test_episodes_that_end_together_are_dropped_together(tmp_path):
    options = {**EPISODIC, "environments": 2, "trials": 4, "random_episodes": 2}
    said, rows = cut_and_resumed(tmp_path / "run", "Noisy", STEPS + 2, **options)
    (text,) = said
    assert text.endswith("of episode 2; episodes 2 and 3 are dropped, and the run continues with a new episode")
    assert [row["episode"] for row in rows] == ["0", "1", "4", "5", "6", "7"]
    assert [row["env_steps"] for row in rows] == ["10", "10", "20", "20", "30", "30"]


@pytest.mark.long
def test_the_end_of_a_dropped_episode_is_not_joined_to_the_next_one(tmp_path):
    """An agent that learns from trajectories sees where it was cut."""
    options = {**STEPWISE, "random_steps": 0, "steps_per_learning": 8}
    with pytest.raises(Interrupted):
        finished(tmp_path / "run", "trajectories", env=named("Robot"), callbacks=[presses_at("step", 11)], **options)
    run = finished(tmp_path / "run", "trajectories", env=named("Robot"), **options)
    times, over = (np.asarray(getattr(run.loop.state.agent.seen, name))[:3, :, 0] for name in ("time", "over"))
    second = np.flatnonzero(times[2] == 0)
    assert times[2].tolist()[:4] == [3, 4, 0, 1] or over[2, second[0] - 1]
    assert all(over[i, t] for i in range(1, 3) for t in np.flatnonzero(times[i, 1:] == 0))


@pytest.mark.long
@pytest.mark.parametrize("moment", [STEPS + 2, *by_hand(2 * STEPS + 4)])
def test_the_physical_state_of_mujoco_is_restored(moment, tmp_path):
    """The episode then continues as MuJoCo itself does from each observation."""
    said, rows = cut_and_resumed(tmp_path / "run", "Pole", moment, **EPISODIC)
    number, steps = divmod(moment, STEPS)
    assert said == [
        f"'{named('Pole')}' did not repeat the first {steps} steps of episode {number}; it continues from the physical "
        "state in the checkpoint"
    ]
    assert [row["episode"] for row in rows] == ["0", "1", "2", "3"] and rows[number]["length"] == str(STEPS)
    with np.load(tmp_path / "run" / "data" / f"episode_{number:04d}.npz") as file:
        obs, actions = file["observations"], file["actions"]
    env = InvertedPendulumEnv()
    starts = [env.reset(seed=seed)[0][1::2] for seed in range(1, Pole.resets + 1)]
    env.reset(seed=1 + int(np.argmax(np.all(starts == obs[0], -1))))
    for action, after in zip(actions, obs[1:], strict=True):
        np.testing.assert_array_equal(env.step(action)[0][1::2], after)


def test_a_physical_state_brings_back_the_warm_start_too():
    with (
        make_task(TaskSettings(env="Hopper-v5")).make() as env,
        make_task(TaskSettings(env="Hopper-v5")).make() as twin,
    ):
        env.reset(seed=0)
        twin.reset(seed=1)
        generator = np.random.default_rng(0)
        for _ in range(10):
            obs = env.step(generator.uniform(-1, 1, 3))[0]
        assert put_physics(twin, physics(env), obs)
        for _ in range(5):
            action = generator.uniform(-1, 1, 3)
            np.testing.assert_array_equal(twin.step(action)[0], env.step(action)[0])


@pytest.mark.parametrize("wrapper", [None, "NormalizeObservation"])
def test_a_state_that_observations_contradict_is_refused(wrapper):
    with make_task(TaskSettings(env="InvertedPendulum-v5", wrappers=[wrapper] if wrapper else [])).make() as env:
        obs, _ = env.reset(seed=0)
        state = physics(env)
        assert bool(state.size) == (wrapper is None)
        assert not put_physics(env, state, obs + 1.0)


def test_an_environment_without_physics_offers_none():
    with make_task(TaskSettings(env=named("Robot"))).make() as env:
        env.reset(seed=0)
        assert physics(env).size == 0 and not put_physics(env, np.ones(3), np.zeros(2))


def test_an_episode_that_ends_earlier_than_before_is_not_repeated():
    """Though all observations and rewards are the same: nothing may follow the end of an episode."""
    lengths = iter([5, 5, 2, 4])

    class Lasts(Line):
        def reset(self, *, seed=None, options=None):
            self.left = next(lengths)
            return super().reset(seed=seed)

        def step(self, action):
            self.left -= 1
            return *super().step(action)[:2], False, self.left == 0, {}

    env, actions = Lasts(), np.zeros((4, 1), np.float32)
    obs = [env.reset(seed=0)[0]]
    rewards = [(obs.append(found[0]), found[1])[1] for found in map(env.step, actions)]
    past = Past(np.array(obs), actions, np.array(rewards))
    assert [repeat_episode(env, 0, None, past) for _ in range(3)] == [None, 2, None]


def test_statistics_of_wrappers_are_named():
    (said,) = check(make_task(TaskSettings(env=named("Normalized"))), {})
    assert "keeps state from one episode to the next, as the statistics of Normalized:" in said
    assert said.endswith("and evaluation plays in copies that lack this state")


@pytest.fixture(scope="module", params=["Curriculum", "Wears"])
def odd(request, tmp_path_factory):
    """A finished run in an environment whose new copies differ from the used one."""
    out = tmp_path_factory.mktemp("odd") / "run"
    return tiny_run(out, {"task": {"env": named(request.param)}}, trials=1)


@pytest.mark.long
def test_evaluation_says_once_that_a_new_copy_differs(odd, capsys):
    for _ in range(2):
        odd.evaluate(1)
    name = odd.task.spec.env_id
    assert capsys.readouterr().err == (
        f"warning: a new copy of '{name}' does not repeat the recorded episode 1, so what the agent earns here may "
        "differ from what it earned in training\n"
    )


@pytest.mark.long
def test_a_film_says_that_it_differs(odd, capsys):
    (video,) = foretell.film(odd.directory, 0)
    found = capsys.readouterr().err
    if odd.task.spec.env_id == named("Wears"):
        assert found == ""  # its observations do not
    else:
        assert f"did not repeat episode 0: from step 0 on, '{video.name}' shows something else than was" in found


@pytest.mark.long
def test_of_other_runs_nothing_is_said(trained, capsys):
    run = foretell.load(trained)
    run.evaluate(1)
    assert capsys.readouterr().err == ""


def nowhere(obs, action, next_obs):
    """NaN wherever the model imagines."""
    return jnp.where(next_obs[..., 0] > -jnp.inf, jnp.nan, 0.0)


@pytest.mark.long
def test_plans_without_a_finite_return_are_said_once_with_their_reason(tmp_path):
    listens, changes = Listens(), [TINY, {"task": {"check": False}, "train": {"trials": 2}}]
    options = {"env": LINE, "reward": nowhere, "terminated": "none", "quiet": True}
    foretell.train("pets/default", out=tmp_path / "run", overrides=changes, callbacks=[listens], **options)
    line = nowhere.__code__.co_firstlineno
    assert listens.said == [
        f"{STEPS} of {STEPS} plans up to the end of episode 1 had no finite imagined return, so their actions are "
        f"arbitrary: reward '{__name__}:nowhere' (at {__file__}, line {line}) is not finite in 505 of 505 steps like "
        "those of the data",
        f"{2 * STEPS} of all {2 * STEPS} plans had no finite imagined return",
    ]


@pytest.mark.long
def test_skipped_updates_are_said_once_and_counted_at_the_end():
    said, task = [], make_task(TaskSettings(env=LINE))
    notices = Notices(SimpleNamespace(task=task), lambda counters, text: said.append(text))
    for skipped in (0.0, 1.0, 2.0, 0.0, 3.0):
        notices.learned(Counters(), {"gradient_steps": 100.0, "skipped_steps": skipped}, None)
    notices.ended(Counters())
    assert said == [
        "1 of 100 gradient steps were not finite and were skipped, see the column skipped_steps of metrics.csv",
        "gradient steps were skipped in 3 rows of metrics.csv",
    ]


@pytest.mark.long
@pytest.mark.parametrize(("steps", "said"), [(300, 1), (301, 0), (None, 0)])
def test_a_run_that_is_over_before_it_learns_says_so(steps, said):
    texts, task = [], make_task(TaskSettings(env=LINE))
    notices = Notices(SimpleNamespace(task=task), lambda counters, text: texts.append(text))
    notices.started(Counters(), Schedule.model_construct(steps=steps, random_steps=300))
    text = "all 300 steps of the run are random (train.random_steps=300), so nothing is learned; raise train.steps"
    assert texts == [text] * said
