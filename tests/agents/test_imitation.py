"""DAgger: the expert demonstrates, the policy imitates, the expert corrects."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.errors import UserError
from foretell.replay import add, init_replay
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from tiny import LINE, interrupted_at, quick_jit

PLANNER = {
    "model": {"members": 1, "probabilistic": False, "hidden": [8], "weight_decay": [0.0, 0.0]},
    "imagination": {"propagation": "E", "particles": 1},
    "fit": {"epochs": 300, "min_steps": 0, "learning_rate": 1e-2},
    "planner": {"kind": "random", "population": 20, "horizon": 2, "iterations": 1},
}
POLICY = {
    "policy": {"hidden": [8]},
    "policy_fit": {"epochs": 50, "batch_size": 8, "learning_rate": 1e-2, "holdout": 0.1, "log_rows": 5},
}


def reward(obs, action, next_obs):
    """The expert pushes to the right as hard as it can."""
    return next_obs[..., 1]


def train(preset, out, *overrides, **options):
    shared = {"env": LINE, "reward": reward, "quiet": True, **options}
    return foretell.train(preset, out=out, overrides=[PLANNER, *overrides], **shared)


def imitate(planner_run, out, *overrides, **schedule):
    rounds = {"trials": 8, "environments": 2, "random_episodes": 0, "capacity": 100}
    changes = {"agent": "imitation", "train": {**rounds, "pretrained": str(planner_run), **schedule}, **POLICY}
    return train("mbmpc/cheetah-hw4", out, changes, {"imitation": {"demonstrations": 2}}, *overrides)


@pytest.fixture(scope="module")
def planner(tmp_path_factory):
    schedule = {"train": {"trials": 2, "environments": 2, "random_episodes": 2, "capacity": 100}}
    return train("mbmpc/cheetah-hw4", tmp_path_factory.mktemp("planner") / "run", schedule)


@pytest.fixture(scope="module")
def imitator(planner, tmp_path_factory):
    return imitate(planner.directory, tmp_path_factory.mktemp("imitator") / "run")


def metrics_of(run):
    with (run.directory / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def actions_of(run, episode):
    with np.load(run.directory / "data" / f"episode_{episode:04d}.npz") as file:
        return file["observations"][:-1], file["actions"]


def test_the_expert_acts_in_the_first_rounds(planner, imitator):
    """There its actions are the best of 20 random ones; afterwards they are the policy's, a smooth function."""
    state, policy = imitator._policy.state, imitator._policy.agent.policy
    assert len(imitator.episodes) == 8
    for episode in range(8):
        obs, actions = actions_of(imitator, episode)
        mean = policy.mean(state.policy, jnp.float32(obs))
        if episode < 4:
            assert np.abs(actions - mean).max() > 1e-3
    _, last = actions_of(imitator, 7)
    assert np.diff(last[:, 0]).std() < 0.05, "the policy's actions hardly change from step to step"


def test_the_policy_is_trained_once_all_demonstrations_are_there(imitator):
    rows = metrics_of(imitator)
    assert [row["gradient_steps"] > 0 for row in rows] == [False, True, True]
    assert rows[-1]["holdout_mse"] >= 0


def test_the_policy_does_what_the_expert_did(imitator):
    """Whose actions are near the upper bound, but for the last step of a plan."""
    obs, _ = actions_of(imitator, 7)
    assert imitator.act(np.float32(obs)).mean() > 0.4


def test_labels_are_the_experts_actions_at_states_that_the_policy_visits(imitator):
    agent, state = imitator._policy.agent, imitator._policy.state
    count, size = 13, agent.schedule.capacity
    rng = np.random.default_rng(0)
    rows = jax.tree.map(np.array, init_replay(count, 2, 1).data)
    rows = rows._replace(obs=np.float32(rng.normal(size=(count, 2))), action=np.full((count, 1), -0.9, np.float32))
    replay = add(init_replay(size, 2, 1), rows, jnp.int32(count))
    label = jax.jit(agent._labelled)
    corrected = label(state._replace(calls=jnp.int32(2)), replay, jnp.int32(5), jax.random.key(0))
    np.testing.assert_array_equal(corrected[:8], state.labels[:8], "old labels stay")
    assert (corrected[8:13] > 0.3).all(), "the expert pushes to the right"
    np.testing.assert_array_equal(corrected[13:], state.labels[13:])
    shown = label(state._replace(calls=jnp.int32(1)), replay, jnp.int32(5), jax.random.key(0))
    np.testing.assert_allclose(shown[8:13], -0.9, rtol=1e-6)


def test_noise_on_the_expert_is_not_learned():
    settings = resolve(
        "mbmpc/cheetah-hw4",
        [PLANNER, POLICY, {"agent": "imitation", "train": {"pretrained": "x", "random_episodes": 0}},
         {"imitation": {"expert_noise": 0.5}}, {"task": {"env": LINE}}],
    )  # fmt: skip
    agent = settings.build(make_task(settings.task, {"reward": reward}))
    state = quick_jit(agent.init)(jax.random.key(0))
    rows = jax.tree.map(np.array, init_replay(4, 2, 1).data)._replace(action=np.full((4, 1), -0.9, np.float32))
    replay = add(init_replay(agent.schedule.capacity, 2, 1), rows, jnp.int32(4))
    labels = jax.jit(agent._labelled)(state, replay, jnp.int32(4), jax.random.key(0))
    assert (labels[:4] != -0.9).all()


def test_searches_for_labels_may_begin_with_what_the_policy_would_do():
    """Once there is one; before that, and unless asked for, with the middle of the action range."""
    cem = {"planner": {"kind": "cem", "population": 20, "elites": 4, "horizon": 3, "iterations": 1}}
    settings = resolve(
        "mbmpc/cheetah-hw4",
        [PLANNER, POLICY, cem, {"agent": "imitation", "train": {"pretrained": "x", "random_episodes": 0}},
         {"imitation": {"demonstrations": 2, "warm_labels": True}}, {"task": {"env": LINE}}],
    )  # fmt: skip
    agent = settings.build(make_task(settings.task, {"reward": reward}))
    state = quick_jit(agent.init)(jax.random.key(0))
    state = state._replace(calls=jnp.int32(2), kept=state.kept.at[0].set(True))
    obs, before = jnp.array([[0.3, -0.2], [1.0, 0.5]]), quick_jit(agent._before_labels)
    actions = before(state, obs, jax.random.key(1)).memory.mean
    world, seen = agent.expert.world, obs
    for t in range(3):
        np.testing.assert_allclose(
            actions[:, t], jnp.clip(agent.policy.mean(state.policy, seen), -1, 1), rtol=1e-4, atol=1e-6
        )
        paths = jax.vmap(lambda o, a: world.trajectories(jax.random.key(0), state.expert.world, o, a))(obs, actions)
        seen = paths[:, t + 1, 0]
    demonstrating = before(state._replace(calls=jnp.int32(1)), obs, jax.random.key(1))
    np.testing.assert_array_equal(demonstrating.memory.mean, np.zeros((2, 3, 1)))


def test_a_search_that_starts_nowhere_cannot_start_with_the_policy():
    with pytest.raises(UserError, match=r"warm_labels needs a planner that starts somewhere, not planner\.kind=random"):
        resolve("mbmf/cheetah-imitation", [{"imitation": {"warm_labels": True}}])


def test_bad_demonstrations_are_not_learned_from():
    """Of two lock-step episodes of a round one is good; without a good one the expert goes on."""
    settings = resolve(
        "mbmpc/cheetah-hw4",
        [PLANNER, POLICY, {"agent": "imitation", "task": {"env": LINE}},
         {"train": {"pretrained": "x", "random_episodes": 0, "trials": 8, "environments": 2, "capacity": 40}},
         {"imitation": {"demonstrations": 1, "least_return": 3.0}}],
    )  # fmt: skip
    agent = settings.build(make_task(settings.task, {"reward": reward}))
    learn = jax.jit(agent.learn)

    def collect(replay, returns):
        """Four steps in each of two environments."""
        rows = jax.tree.map(np.array, init_replay(8, 2, 1).data)
        environment = np.arange(8, dtype=np.int32) % 2
        rows = rows._replace(environment=environment, reward=np.float32(returns)[environment] / 4)
        return add(replay, rows, jnp.int32(8))

    state, replay = quick_jit(agent.init)(jax.random.key(0)), init_replay(40, 2, 1)
    kept = []
    for returns in ((3.0, 2.0), (-1.0, 4.0), (-5.0, -5.0)):
        replay = collect(replay, returns)
        acts = bool(agent._demonstrating(state))
        state, metrics = learn(state, replay, jnp.int32(8), jax.random.key(1))
        kept.append((acts, int(metrics["labels"]), bool(metrics["gradient_steps"] > 0)))
    assert kept == [(True, 0, False), (True, 4, True), (False, 12, True)]
    assert state.kept[:16].tolist() == [False] * 8 + [False, True] * 4


def test_demonstrations_are_told_apart_one_round_at_a_time():
    rounds = {"train": {"pretrained": "x", "episodes_per_learning": 2}}
    with pytest.raises(UserError, match=r"episodes_per_learning must be 1 with imitation\.least_return, not 2"):
        resolve("mbmf/cheetah-imitation", [rounds])


@pytest.mark.parametrize("moment", [("step", 7), ("step", 17), ("learn_end", 2)])
def test_it_survives_an_interrupt(moment, planner, imitator, tmp_path):
    with interrupted_at(*moment):
        imitate(planner.directory, tmp_path / "run")
    resumed = foretell.resume(tmp_path / "run", reward=reward, quiet=True)
    returns = [[row["return"] for row in run.episodes] for run in (resumed, imitator)]
    assert returns[0] == returns[1]


def test_it_needs_an_expert(planner, imitator, tmp_path):
    with pytest.raises(UserError, match=r"train.pretrained must name a run of a planner"):
        imitate(planner.directory, tmp_path / "run", pretrained=None)
    with pytest.raises(UserError, match=r"train.pretrained must be a run of a planner: .* is of 'imitation'"):
        imitate(imitator.directory, tmp_path / "run")
    with pytest.raises(UserError, match="has other settings in 'model'"):
        imitate(planner.directory, tmp_path / "run", {"model": {"hidden": [9]}})


def test_a_policy_gradient_goes_on_from_the_imitator(imitator, tmp_path):
    policy = {"hidden": [8], "initial_std": 0.3}
    tree = {"policy": policy, "train": {"pretrained": str(imitator.directory), "steps": 40}}
    schedule = {"train": {"steps_per_learning": 20, "environments": 2, "capacity": 100, "eval_every": None}}
    run = foretell.train("trpo/default", env=LINE, out=tmp_path / "run", overrides=[schedule, tree], quiet=True)
    assert run.episodes
    started = foretell.train(
        "trpo/default", env=LINE, out=tmp_path / "none", overrides=[schedule, tree, {"train": {"steps": 1}}], quiet=True
    )
    obs = np.float32([[0.3, -0.2], [1.0, 0.5]])
    imitates = foretell.load(imitator.directory, reward=reward, quiet=True)
    np.testing.assert_allclose(started.act(obs), imitates.act(obs), rtol=1e-5)
    np.testing.assert_allclose(started._policy.state.policy.log_std, np.log(0.3), rtol=1e-5)
    with pytest.raises(UserError, match="has other settings in 'policy'"):
        foretell.train(
            "trpo/default", env=LINE, out=tmp_path / "other", overrides=[schedule, tree, {"policy": {"hidden": [9]}}]
        )


def test_a_policy_that_sees_no_path_cannot_imitate_who_follows_one():
    path = {"task": {"options": {"path": "left"}}}
    settings = resolve("mbmf/swimmer-imitation", [path])
    with pytest.raises(UserError, match=r"task\.options\.path must be null: a policy does not know"):
        settings.build(make_task(settings.task))
