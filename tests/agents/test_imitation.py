"""DAgger: the expert demonstrates, the policy imitates, the expert corrects."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.errors import UserError
from foretell.models import open_loop, rollout, start
from foretell.replay import Trajectories
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from tiny import LINE, by_hand, interrupted_at, quick_jit

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
    shared = {"env": LINE, "reward": reward, "terminated": "none", "quiet": True, **options}
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


def agent_with(*overrides):
    """An imitator of an untrained planner on the line, without a run."""
    changes = {"agent": "imitation", "train": {"pretrained": "x", "random_episodes": 0, "capacity": 40}}
    line = {"task": {"env": LINE, "terminated": "none"}}
    settings = resolve("mbmpc/cheetah-hw4", [PLANNER, POLICY, changes, line, *overrides])
    return settings.build(make_task(settings.task, {"reward": reward}))


def init(agent):
    return quick_jit(agent.init)(jax.random.key(0))


def steps(obs, *, action=-0.9, returns=None, valid=None):
    """Steps `[time, environments]` at these observations, whose rewards add up to these returns."""
    times, environments = obs.shape[:2]
    shared = np.zeros(environments) if returns is None else np.asarray(returns) / times
    nothing = np.zeros((times, environments), bool)
    return Trajectories(
        obs=jnp.float32(obs),
        action=jnp.full((times, environments, 1), action),
        reward=jnp.float32(np.broadcast_to(shared, (times, environments))),
        next_obs=jnp.float32(obs),
        terminated=jnp.asarray(nothing),
        over=jnp.asarray(nothing),
        time=jnp.broadcast_to(jnp.arange(times, dtype=jnp.int32)[:, None], (times, environments)),
        valid=jnp.asarray(~nothing if valid is None else valid),
    )


def observations(times, environments=1, seed=0):
    return np.random.default_rng(seed).normal(size=(times, environments, 2))


@pytest.mark.long
def test_the_expert_acts_in_the_first_rounds(imitator):
    """There its actions are the best of 20 random ones; afterwards they are the policy's, a smooth function."""
    controller = imitator._controller
    gaussian, state = controller.agent.gaussian, controller.state
    assert len(imitator.episodes) == 8
    for episode in range(4):
        obs, actions = actions_of(imitator, episode)
        assert np.abs(actions - gaussian.mean(state.policy, jnp.float32(obs))).max() > 1e-3
    _, last = actions_of(imitator, 7)
    assert np.diff(last[:, 0]).std() < 0.05, "the policy's actions hardly change from step to step"


@pytest.mark.long
def test_the_policy_is_trained_once_all_demonstrations_are_there(imitator):
    rows = metrics_of(imitator)
    assert [row["gradient_steps"] > 0 for row in rows] == [False, True, True]
    assert rows[-1]["holdout_mse"] >= 0


@pytest.mark.long
def test_the_policy_does_what_the_expert_did(imitator):
    """Whose actions are near the upper bound, but for the last step of a plan."""
    obs, _ = actions_of(imitator, 7)
    assert imitator.act(np.float32(obs)).mean() > 0.4


@pytest.mark.long
def test_labels_are_the_experts_actions_at_states_that_the_policy_visits(imitator):
    """What it did itself where it demonstrates; what it plans to do where the policy acted."""
    agent, state = imitator._controller.agent, imitator._controller.state
    learn, there = quick_jit(agent.learn), int(state.labels.added)
    data = steps(observations(5), action=-0.9)
    corrected = learn(state._replace(calls=jnp.int32(2)), data, jax.random.key(0))[0].labels
    np.testing.assert_array_equal(corrected.action[:there], state.labels.action[:there], "old labels stay")
    np.testing.assert_array_equal(corrected.obs[there : there + 5], data.obs[:, 0])
    assert (corrected.action[there : there + 5] > 0.3).all(), "the expert pushes to the right"
    np.testing.assert_array_equal(corrected.action[there + 5 :], state.labels.action[there + 5 :])
    shown = learn(state._replace(calls=jnp.int32(1)), data, jax.random.key(0))[0].labels
    np.testing.assert_allclose(shown.action[there : there + 5], -0.9, rtol=1e-6)
    assert shown.added == corrected.added == there + 5


@pytest.mark.long
def test_steps_that_were_not_taken_are_not_learned_from():
    """Environments whose episode is over wait for the others."""
    agent = agent_with({"imitation": {"demonstrations": 3}})
    valid = np.array([[True, True], [False, True], [False, True]])
    data = steps(observations(3, 2), valid=valid)
    state, metrics = quick_jit(agent.learn)(init(agent), data, jax.random.key(0))
    assert metrics["labels"] == state.labels.size == 4
    np.testing.assert_array_equal(state.labels.obs[:4], data.obs[valid])


@pytest.mark.long
def test_labels_are_kept_in_a_ring_of_the_newest():
    """Beyond the capacity the oldest are overwritten, and the policy is trained on all that are there."""
    agent = agent_with({"imitation": {"demonstrations": 9}, "train": {"capacity": 10}})
    learn, state, seen = quick_jit(agent.learn), init(agent), []
    for call in range(4):
        data = steps(observations(4, seed=call), action=-0.1 * call)
        state, metrics = learn(state, data, jax.random.key(call))
        seen += np.asarray(data.obs[:, 0]).tolist()
        assert int(metrics["labels"]) == min(len(seen), 10) and int(state.labels.added) == len(seen)
    newest = {slot: obs for slot, obs in zip(np.arange(16) % 10, seen, strict=True)}
    np.testing.assert_allclose(state.labels.obs, [newest[slot] for slot in range(10)])
    calls = {slot: number // 4 for number, slot in enumerate(np.arange(16) % 10)}
    np.testing.assert_allclose(state.labels.action[:, 0], [-0.1 * calls[slot] for slot in range(10)], atol=1e-6)


@pytest.mark.long
def test_noise_on_the_expert_is_not_learned():
    agent = agent_with({"imitation": {"expert_noise": 0.5}})
    state, _ = quick_jit(agent.learn)(init(agent), steps(observations(4)), jax.random.key(0))
    assert (state.labels.action[:4] != -0.9).all()


@pytest.mark.long
def test_the_expert_and_the_policy_explore_each_with_its_own_noise():
    """Only if they are to explore; and actions stay within the bounds."""
    agent = agent_with({"imitation": {"demonstrations": 1, "expert_noise": 0.0, "policy_noise": 0.3}})
    obs = jnp.zeros((200, 2))

    @quick_jit
    def act(params, key):
        carry = agent.begin(params, obs, key)
        return [agent.act(params, carry, obs, key, explore=explore)[0] for explore in (True, False)]

    params = agent.policy(init(agent))
    assert bool(params.demonstrating)
    np.testing.assert_array_equal(*act(params, jax.random.key(1)))
    explored, greedy = act(params._replace(demonstrating=jnp.array(False)), jax.random.key(1))
    assert greedy.std() < 1e-6 and (explored - greedy).std() == pytest.approx(0.3, rel=0.2)
    assert jnp.abs(explored).max() <= 1


@pytest.mark.long
@pytest.mark.parametrize("guide", [None, {"hidden": [8]}])
def test_searches_for_labels_may_begin_with_what_the_policy_would_do(guide):
    """Once there is one; before that, and unless asked for, with the middle of the action range."""
    cem = {"planner": {"kind": "cem", "population": 20, "elites": 4, "horizon": 3, "iterations": 1}, "guide": guide}
    agent = agent_with(cem, {"imitation": {"demonstrations": 2, "warm_labels": True}})
    params, obs = agent.policy(init(agent)), jnp.array([[0.3, -0.2], [1.0, 0.5]])
    before, key = quick_jit(agent._before_labels), jax.random.key(1)
    plans = before(params._replace(demonstrating=jnp.array(False)), obs, key).warm_start.mean
    model, expert = agent.model, params.expert if guide is None else params.expert.model
    followed = rollout(model, expert, start(model, expert, obs, key, 1), open_loop(plans, 1), 3, key)
    for t, seen in enumerate(followed.obs[:-1, 0]):
        unit = jnp.clip(agent.gaussian.mean(params.policy, seen), -1, 1)
        np.testing.assert_allclose(plans[:, t], unit, rtol=1e-4, atol=1e-6)
    demonstrating = before(params, obs, key)
    np.testing.assert_array_equal(demonstrating.warm_start.mean, np.zeros((2, 3, 1)))


def test_a_search_that_starts_nowhere_cannot_start_with_the_policy():
    with pytest.raises(
        UserError, match=r"warm_labels needs a planner whose search has a starting point, not planner\.kind=random"
    ):
        resolve("mbmf/cheetah-imitation", [{"imitation": {"warm_labels": True}}])


@pytest.mark.long
def test_bad_demonstrations_are_not_learned_from():
    """Of two episodes of a round, side by side, one is good; without a good one the expert goes on."""
    agent = agent_with(
        {"imitation": {"demonstrations": 1, "least_return": 3.0}, "train": {"trials": 8, "environments": 2}}
    )
    learn, state, found, data = quick_jit(agent.learn), init(agent), [], None
    for returns in ((3.0, 2.0), (-1.0, 4.0), (-5.0, -5.0)):
        before, data = data, steps(observations(4, 2), returns=returns)
        acts = bool(agent.policy(state).demonstrating)
        state, metrics = learn(state, data, jax.random.key(1))
        found.append((acts, int(metrics["labels"]), bool(metrics["gradient_steps"] > 0)))
    assert found == [(True, 0, False), (True, 4, True), (False, 12, True)]
    np.testing.assert_array_equal(state.labels.obs[:4], before.obs[:, 1])


@pytest.mark.slow
def test_rounds_of_several_episodes_in_each_environment_are_learned_from_as_a_whole(planner, tmp_path):
    run = imitate(planner.directory, tmp_path / "run", {"imitation": {"demonstrations": 1}}, episodes_per_learning=2)
    steps_before = [row["env_steps"] for row in run.episodes][3]
    assert metrics_of(run)[0]["labels"] == steps_before


@pytest.mark.long
def test_demonstrations_are_told_apart_one_round_at_a_time():
    rounds = {"train": {"pretrained": "x", "episodes_per_learning": 2}}
    with pytest.raises(UserError, match=r"episodes_per_learning must be 1 with imitation\.least_return, not 2"):
        resolve("mbmf/cheetah-imitation", [rounds])


@pytest.mark.long
@pytest.mark.parametrize("moment", [("step", 17), *by_hand(("step", 7), ("learn_end", 2))])
def test_it_survives_an_interrupt(moment, planner, imitator, tmp_path):
    with interrupted_at(*moment):
        imitate(planner.directory, tmp_path / "run")
    resumed = foretell.resume(tmp_path / "run", reward=reward, quiet=True)
    returns = [[row["return"] for row in run.episodes] for run in (resumed, imitator)]
    assert returns[0] == returns[1]


@pytest.mark.long
def test_it_needs_an_expert(planner, imitator, tmp_path):
    with pytest.raises(UserError, match=r"train.pretrained must name a run of a planner"):
        imitate(planner.directory, tmp_path / "run", pretrained=None)
    with pytest.raises(UserError, match=r"train.pretrained must be a run of a planner: .* is a run of 'imitation'"):
        imitate(imitator.directory, tmp_path / "run")
    with pytest.raises(UserError, match="has other settings in 'model'"):
        imitate(planner.directory, tmp_path / "run", {"model": {"hidden": [9]}})


@pytest.mark.slow
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
    np.testing.assert_allclose(started._controller.state.policy.log_std, np.log(0.3), rtol=1e-5)
    with pytest.raises(UserError, match="has other settings in 'policy'"):
        foretell.train(
            "trpo/default", env=LINE, out=tmp_path / "other", overrides=[schedule, tree, {"policy": {"hidden": [9]}}]
        )


@pytest.mark.long
def test_a_policy_that_sees_no_path_cannot_imitate_who_follows_one():
    path = {"task": {"options": {"path": "left"}}}
    settings = resolve("mbmf/swimmer-imitation", [path])
    with pytest.raises(UserError, match=r"task\.options\.path must be null: a policy does not observe"):
        settings.build(make_task(settings.task))
