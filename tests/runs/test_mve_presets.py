"""The released experiments of MVE, constant by constant (their nine files), and what the agent makes of them."""

import jax
import numpy as np
import pytest

from foretell.errors import UserError
from foretell.replay import Replay, Transitions
from foretell.runs.presets import resolve
from foretell.tasks import Task
from foretell.tasks.base import TaskSpec
from tiny import quick_jit

ENVIRONMENTS = {"hc": "mve-cheetah", "swimmer": "mve-swimmer", "walker2d": "mve-walker2d"}
RATES = {"hc": (1e-3, 1e-3, 1e-2), "swimmer": (1e-4, 1e-3, 1e-2), "walker2d": (1e-4, 1e-4, 1e-3)}
VARIANTS = {"0": (0, False, 0.3, 0.1), "5": (5, True, 0.0, 4.0), "5-notdk": (5, False, 0.0, 4.0)}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_released_experiment_has_its_constants(name, variant):
    settings = resolve(f"mve/{name}-{variant}")
    horizon, tdk, holdout, batches = VARIANTS[variant]
    if (name, variant) == ("hc", "5-notdk"):
        batches = 0.1  # as released: a fortieth of the others'
    learner, model, fit, expansion = settings.learner, settings.model, settings.fit, settings.expansion
    rates = learner.policy_learning_rate, learner.critic_learning_rate, learner.target_tau
    assert rates == RATES[name] and learner.policy_target_tau == learner.target_tau
    assert (learner.kind, learner.hidden, learner.batch_size, learner.layer_norm) == ("ddpg", (64, 64), 64, True)
    assert learner.target_policy and learner.critic_weight_decay == learner.policy_regularizer == learner.noise_std == 0
    assert learner.explore_probability == 0 and learner.discount == 0.99
    assert learner.parameter_noise.model_dump() == {"target": 0.2, "adapt_every": 50, "factor": 1.01}
    assert (expansion.horizon, expansion.tdk, expansion.reduction) == (horizon, tdk, "last")
    assert expansion.divisor == ("horizon" if tdk else "sources") and expansion.ends == "never"
    assert (model.hidden, model.members, model.probabilistic, model.standardize) == ((128,) * 8, 1, False, False)
    assert (fit.learning_rate, fit.batch_size, fit.holdout, fit.early_stopping) == (1e-3, 512, holdout, holdout > 0)
    updates, train = settings.updates, settings.train
    assert (updates.per_step, updates.model_per_step) == (4, batches)
    assert (train.steps, train.steps_per_learning, train.eval_every, train.eval_episodes) == (1_500_000, 100, 5000, 16)
    assert train.time_limit_terminates and train.capacity == 1_000_000 and settings.imagines
    assert settings.task.env == ENVIRONMENTS[name] and settings.task.options == {"inputs": "raw"}


def test_the_corrected_ablation_trains_its_model_as_mve_does():
    assert resolve("mve/hc-5-notdk-fixed").updates == resolve("mve/hc-5").updates


@pytest.mark.parametrize(("name", "horizon"), [("hc", 10), ("swimmer", 10), ("walker2d", 3)])
@pytest.mark.long
def test_the_papers_horizons(name, horizon):
    settings = resolve(f"mve/{name}-paper")
    assert settings.expansion.horizon == horizon and settings.model.standardize and settings.model.scale_targets


class Slide(Task):
    spec = TaskSpec("Slide-v0", ("x",), (-2.0,), (2.0,), horizon=20)

    def reward(self, obs, action, next_obs):
        return -np.square(1.0) * next_obs[..., 0] ** 2


SMALL = {
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8]},
    "fit": {"batch_size": 8},
    "updates": {"pretraining": 2},
    "train": {"steps_per_learning": 10, "capacity": 64},
}


def experience(rows=40, new=10, capacity=64):
    rng = np.random.default_rng(0)
    obs = np.float32(rng.uniform(-2, 2, (capacity, 1)))
    action = np.float32(rng.uniform(-2, 2, (capacity, 1)))
    data = Transitions(obs, action, -(obs[:, 0] ** 2), obs + 0.1 * action, np.zeros(capacity, bool))
    return jax.tree.map(jax.numpy.asarray, Replay(data, np.int32(rows), np.int32(new)))


@pytest.fixture(scope="module")
def learned():
    """The states and metrics of two calls of `learn`, of small agents."""

    def run(*overrides, calls=2):
        agent = resolve("mve/hc-5", [SMALL, *overrides]).build(Slide())
        learn, state, metrics = quick_jit(agent.learn), agent.init(jax.random.key(0)), {}
        for call in range(calls):
            state, metrics = learn(state, experience(), jax.random.key(call))
        return agent, state, metrics

    return run


@pytest.mark.long
def test_the_model_learns_first_and_targets_use_the_newest(learned):
    agent, state, metrics = learned()
    assert metrics["gradient_steps"] == 80 and state.learner.updates == 40  # 4 of each for each of 10 steps
    jax.tree.map(np.testing.assert_array_equal, state.model.target, agent.model.params(state.model.online))
    jax.tree.map(np.testing.assert_array_equal, state.acting.network, state.learner.policy)
    assert state.acting.explorer is not None and metrics["action_noise"] > 0


@pytest.mark.long
def test_imagined_data_are_made_kept_and_learned_from(learned):
    data = {"imagined_data": {"ratio": 2, "horizon": 4, "retention": 2}, "expansion": {"horizon": 0, "tdk": False}}
    plain = {"expansion": {"divisor": "sources", "average": "all"}}
    _, state, metrics = learned(data, plain, calls=3)
    assert state.imagined.capacity == 2 * 20 and state.imagined.added == 2 * 20  # five trajectories of four at a call
    assert state.learner.updates == 2 * (40 + 80) and metrics["imagined_critic_loss"] > 0


@pytest.mark.long
def test_a_model_that_nothing_uses_is_trained_until_it_is_stale(learned):
    data = {"fit": {"holdout": 0.3, "early_stopping": True}, "expansion": {"horizon": 0, "tdk": False}}
    plain = {"expansion": {"divisor": "sources", "average": "all"}, "updates": {"always_model": True}}
    _, state, metrics = learned(data, plain)
    assert metrics["epochs"] >= 1 and "model_use" not in metrics and state.model is not None


@pytest.mark.long
@pytest.mark.parametrize("kind", ["td3", "sac", "sac-v"])
def test_other_learners_can_be_chosen(kind):
    deterministic = {"parameter_noise": {"target": 0.2}} if kind == "td3" else {}
    own = {"kind": kind, "hidden": [8], "batch_size": 8, "target_tau": 0.01, **deterministic}
    agent = resolve("mve/default", [{"task": {"env": "Pendulum-v1"}, "learner": own}])
    assert agent.learner.kind == kind and agent.expansion.tdk


@pytest.mark.long
def test_what_does_not_fit_is_refused():
    for override, sentence in [
        ({"updates": {"model_per_step": None}, "fit": {"holdout": 0.3, "early_stopping": True}}, "fit.early_stopping"),
        ({"learner": {"target_policy": False}}, "policy_target_tau must be null"),
        ({"learner": {"target_tau": None}}, "policy_target_tau needs target_tau"),
        ({"imagined_data": {"ratio": 0.001}}, "makes no trajectory"),
    ]:
        with pytest.raises(UserError, match=sentence):
            resolve("mve/hc-5", [override])
