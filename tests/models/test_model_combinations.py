"""Any model goes with any agent, wherever reward and termination come from: built, trained once, and acting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.agents import PETSSettings, ValueExpansionSettings
from foretell.errors import UserError
from foretell.models import (
    LearnedModel,
    ModelSections,
    SteveModel,
    TrueModel,
    WithRewardModel,
    build_model,
    open_loop,
    returns,
    rollout,
    start,
)
from foretell.replay import Replay, Transitions
from foretell.tasks import Task, TaskSettings, TaskSpec, make_task
from tiny import by_hand, quick_jit

KEY = jax.random.key(0)


class Slide(Task):
    """A point that the action moves; nearer to the middle is better, and beyond 2 it falls off."""

    spec = TaskSpec("Slide-v0", ("x",), (-2.0,), (2.0,), horizon=20)


class Known(Slide):
    """Of which the task knows reward and termination."""

    def reward(self, obs, action, next_obs):
        return -jnp.square(next_obs[..., 0])

    def terminated(self, obs, action, next_obs):
        return jnp.abs(next_obs[..., 0]) > 2


def task_of(rewards, model="ensemble"):
    if rewards == "known":
        return Known()
    task = Slide()
    task.learns_termination = (model, rewards) != ("gp", "with the dynamics")  # which cannot learn yes/no outputs
    return task


SMALL = {"hidden": [8], "weight_decay": 0.0}
MODELS = {
    "ensemble": {
        "model": {"kind": "ensemble", "members": 2, **SMALL},
        "fit": {"batch_size": 4, "epochs": 1},
        "imagination": {"particles": 2},
    },
    "steve": {
        "model": {"kind": "steve", "members": 2, "reward_members": 2, "hidden": [8], "aux_hidden": [8]},
        "fit": {"batch_size": 4, "epochs": 1},
        "imagination": {"particles": 2},
    },
    "gp": {
        "model": {"kind": "gp", "inducing": 3},
        "fit": {"kind": "lbfgs", "iterations": 2},
        "imagination": {"propagation": "DS", "particles": 2},
    },
    "true-model": {"model": {"kind": "true-model", "threads": 1}},
}
REWARD_MODELS = {
    "known": {},
    "with the dynamics": {"reward_model": None},
    "apart": {
        "reward_model": {"members": 2, "probabilistic": False, **SMALL},
        "reward_fit": {"batch_size": 4, "epochs": 1},
    },
}
RUN = {"description": "", "task": {}}


def sections(model, rewards):
    return {**MODELS[model], **REWARD_MODELS[rewards]}


def pets(model, rewards):
    planner = {"kind": "cem", "horizon": 2, "population": 6, "iterations": 2, "elites": 2, "epsilon": 0.0}
    given = {**RUN, "train": {}, "planner": planner, **sections(model, rewards)}
    return PETSSettings.model_validate(given)


def value_expansion(model, rewards):
    given = {
        "train": {"steps_per_learning": 1, "random_episodes": 0, "random_steps": 5},
        "learner": {"kind": "ddpg", "hidden": [8], "critics": 2, "batch_size": 4},
        "expansion": {"horizon": 1},
        "updates": {"per_step": 1.0, "pretraining": 1},
        **sections(model, rewards),
    }
    return ValueExpansionSettings.model_validate({**RUN, **given})


def experience(task, rows=12):
    """Random steps of the point, or for other tasks of nothing in particular."""
    rng, spec = np.random.default_rng(0), task.spec
    obs = rng.uniform(-1.9, 1.9, (rows, spec.obs_size))
    action = rng.uniform(spec.action_low, spec.action_high, (rows, spec.action_size))
    next_obs = obs + 0.2 * action
    numbers = map(np.float32, (obs, action, -np.square(next_obs[:, 0]), next_obs))
    data = Transitions(*numbers, np.abs(next_obs[:, 0]) > 2)
    pad = lambda a: np.concatenate([a, np.zeros((8, *a.shape[1:]), a.dtype)])  # noqa: E731
    return Replay(jax.tree.map(pad, data), np.int32(rows), np.int32(rows))


def trained(agent, task, replay, calls=1):
    """What an agent has learned after so many calls, and the last one's metrics; and it can act."""

    def act(state, obs):
        policy = agent.policy(state)
        return agent.act(policy, agent.begin(policy, obs, KEY), obs, KEY, explore=False)[0]

    state, learn, metrics = quick_jit(agent.init)(KEY), quick_jit(agent.learn), {}
    for call in range(calls):
        state, metrics = learn(state, replay, jax.random.key(call))
    actions, state, metrics = jax.device_get((quick_jit(act)(state, replay.data.obs[:2]), state, metrics))
    low, high = (np.array(bound) for bound in (task.spec.action_low, task.spec.action_high))
    assert actions.shape == (2, task.spec.action_size)
    assert ((actions >= low) & (actions <= high)).all()
    leaves = jax.tree.leaves((state, metrics))
    assert all(np.isfinite(leaf).all() for leaf in leaves if leaf.dtype == np.float32)
    assert metrics.get("skipped_steps", 0) == 0
    return state, metrics


RUN_HERE = [("ensemble", "with the dynamics"), ("steve", "apart"), ("gp", "apart")]
"""The others are traced here; what is missing below runs in tests of the models themselves."""


@pytest.mark.long
@pytest.mark.parametrize("rewards", REWARD_MODELS)
@pytest.mark.parametrize("model", ["ensemble", "steve", "gp"])
def test_every_model_learns_and_imagines_wherever_its_reward_comes_from(model, rewards):
    task = task_of(rewards, model)
    built = build_model(task, ModelSections.model_validate(sections(model, rewards)))
    inner = built.dynamics if rewards == "apart" else built
    assert isinstance(built, WithRewardModel) == (rewards == "apart")
    assert isinstance(inner, SteveModel if model == "steve" else LearnedModel)
    assert any(inner.unknown) == (rewards == "with the dynamics")
    assert built.needs_data and built.particles == 2

    def learn(replay):
        """By single steps where it can; fits have tests of their own."""
        state = built.init(KEY)
        if model == "gp":
            return built.fit(state, replay, KEY)
        return built.update(built.prepare(state, replay), replay, KEY)

    def learn_and_imagine(replay):
        state, metrics = (built.init(KEY), {}) if model == "gp" else learn(replay)
        params = built.params(state)
        begin = start(built, params, replay.data.obs[:3], KEY, 2)
        steps = rollout(built, params, begin, open_loop(jnp.zeros((3, 2, 1)), 2), 2, KEY)
        return returns(steps), built.error(params, replay.data, 1.0 * replay.valid), metrics

    if (model, rewards) in RUN_HERE:
        totals, error, metrics = jax.device_get(quick_jit(learn_and_imagine)(experience(task)))
        assert all(np.isfinite(value).all() for value in (totals, error, *metrics.values()))
        assert metrics.get("model_skipped", 0) == 0
    else:
        totals, error, metrics = jax.eval_shape(learn_and_imagine, experience(task))
    assert totals.shape == (2, 3) and error.shape == ()
    if model == "gp":  # traced only: its fits are slow to compile
        _, metrics = jax.eval_shape(learn, experience(task))
        assert "train_loss" in metrics
    names = [name for name in metrics if name.startswith("reward_model_")]
    assert bool(names) == (rewards == "apart")


@pytest.mark.long
def test_pets_on_steves_networks():
    """Of transitions, rewards and terminations."""
    task = task_of("with the dynamics")
    agent = pets("steve", "with the dynamics").build(task)
    _, metrics = trained(agent, task, experience(task))
    assert {"gradient_steps", "transition_loss", "reward_loss", "termination_loss", "new_mse"} <= metrics.keys()


@pytest.mark.long
def test_value_expansion_on_petss_ensemble():
    """With the reward apart. One opinion on rewards, two transitions and two critics: four samples of every horizon."""
    task = task_of("apart")
    agent, replay = value_expansion("ensemble", "apart").build(task), experience(task)
    state, metrics = trained(agent, task, replay, calls=2)  # the first trains the model alone
    assert metrics["gradient_steps"] == 12 and metrics["model_loss"] != 0 and metrics["reward_model_loss"] != 0
    assert sum(float(metrics[f"weight_{i}"]) for i in range(2)) == pytest.approx(1, abs=1e-4)
    inputs = state.model.online.dynamics.regressor.inputs
    np.testing.assert_allclose(inputs.std[0], replay.data.obs[:12].std(), rtol=1e-4)


@pytest.mark.long
def test_value_expansion_on_petss_ensemble_with_the_reward_of_the_dynamics():
    """Traced: it is the same program on another model, which has been run above."""
    task = task_of("with the dynamics")
    agent, replay = value_expansion("ensemble", "with the dynamics").build(task), experience(task)
    state, metrics = jax.eval_shape(agent.learn, jax.eval_shape(agent.init, KEY), replay, KEY)
    assert {"model_loss", "critic_loss", "weight_1"} <= metrics.keys() and "reward_model_loss" not in metrics
    frames = jax.eval_shape(agent.expand, KEY, state.learner, state.model.target, replay.data)
    assert frames.reward.shape == (2, 1, 2, 20) and frames.value.shape == (2, 2, 2, 20)


OPTIONS = {
    "layer norm, raw": [("model", {"hidden_norm": "layer", "standardize": False})],
    "batch norm, dropout, rows held out": [
        ("model", {"hidden_norm": "batch", "dropout": 0.2}),
        ("fit", {"holdout": 0.3, "early_stopping": True, "epochs": 3}),
    ],
}


@pytest.mark.parametrize("make", [pets, value_expansion])
@pytest.mark.parametrize("options", [*by_hand(*list(OPTIONS)[:-1]), list(OPTIONS)[-1]])
@pytest.mark.long
def test_agents_run_on_ensembles_with_every_option(make, options):
    """Reward and termination are learned by the same networks."""
    task = task_of("with the dynamics")
    agent = make("ensemble", "with the dynamics")
    changed = {
        name: type(section).model_validate({**section.model_dump(), **change})
        for name, change in OPTIONS[options]
        for section in [getattr(agent, name)]
    }
    built = agent.model_copy(update=changed).build(task)
    _, metrics = trained(built, task, experience(task))
    assert metrics["gradient_steps"] > 0
    if make is pets and "held out" in options:
        assert {"epochs", "holdout_loss"} <= metrics.keys()


@pytest.mark.long
def test_steves_networks_take_a_layer_norm():
    given = {**MODELS["steve"]["model"], "hidden_norm": "layer"}
    task = task_of("with the dynamics")
    built = build_model(task, ModelSections.model_validate({**sections("steve", "with the dynamics"), "model": given}))

    @quick_jit
    def learn(replay):
        state, metrics = built.update(built.init(KEY), replay, KEY)
        return state.networks, metrics

    networks, metrics = jax.device_get(learn(experience(task)))
    assert metrics["model_skipped"] == 0
    for network in networks:
        assert np.ptp(network.gains[0]) > 0 and network.shifts[0].any()


def cartpole(settings):
    task = make_task(TaskSettings(env="cartpole"))
    agent = settings.build(task)
    assert isinstance(agent.model, TrueModel) and not agent.model.needs_data
    return agent, task


@pytest.mark.long
def test_value_expansion_on_the_true_model():
    """Frames are what the environment does after the state of each real transition."""
    agent, task = cartpole(value_expansion("true-model", "known"))
    replay = experience(task)
    state, metrics = trained(agent, task, replay, calls=2)
    assert metrics["gradient_steps"] == 12 and {"weight_0", "model_use"} <= metrics.keys()
    assert metrics["critic_loss"] > 0 and np.isfinite(metrics["critic_loss"])
    batch = jax.tree.map(lambda a: a[:3], replay.data)
    expand = quick_jit(lambda batch: agent.expand(KEY, state.learner, agent.model_params(state), batch))
    frames = jax.device_get(expand(batch))
    assert np.isfinite(frames.reward).all()
    low, high = task.spec.action_low[0], task.spec.action_high[0]
    with task.make() as env:
        env.reset(seed=0)
        for row in range(3):
            task.restore(env.unwrapped, np.float64(batch.next_obs[row]))
            obs, reward, *_ = env.step(low + (frames.action[0, 0, row] + 1) / 2 * (high - low))
            np.testing.assert_allclose(frames.obs[1, 0, row], obs, rtol=1e-4, atol=1e-4)
            assert float(frames.reward[1, 0, 0, row]) == pytest.approx(reward, abs=1e-4)


@pytest.mark.long
def test_pets_on_the_true_model():
    """It learns nothing, and plans in the states that observations describe."""
    agent, task = cartpole(pets("true-model", "known"))
    _, metrics = trained(agent, task, experience(task))
    assert metrics == {"new_mse": 0}


@pytest.mark.parametrize("model", ["ensemble", "steve", "gp"])
@pytest.mark.long
def test_what_the_task_knows_is_not_learned(model):
    """Even a termination of a task that would learn an unknown one."""
    task = Known()
    task.learns_termination = True
    for rewards in ("apart", "with the dynamics"):
        built = build_model(task, ModelSections.model_validate(sections(model, rewards)))
        assert isinstance(built, LearnedModel | SteveModel) and built.unknown == (False, False)


@pytest.mark.long
def test_what_does_not_go_together_is_refused():
    with pytest.raises(UserError, match=r"reward_model must not be null with model.kind=gp where the termination"):
        build_model(task_of("with the dynamics"), ModelSections.model_validate(sections("gp", "with the dynamics")))
    with pytest.raises(ValueError, match=r"model.kind=gp cannot be trained by single gradient steps"):
        value_expansion("gp", "apart")


@pytest.mark.parametrize(
    ("model", "rewards", "change", "message"),
    [
        ("ensemble", "known", {"fit": {"batch_size": 1}}, "fit.batch_size must be at least 2 with hidden_norm=batch"),
        ("ensemble", "apart", {"reward_fit": {"batch_size": 1}}, "reward_fit.batch_size must be at least 2 with hi"),
        ("steve", "known", {"fit": {"early_stopping": True, "holdout": 0.1}}, "fit.early_stopping=true needs model.k"),
        ("steve", "known", {"model": {"hidden_norm": "layer", "hidden": [1]}}, "hidden layers of at least 2 units"),
    ],
)
@pytest.mark.long
def test_options_that_do_not_go_together_are_refused(model, rewards, change, message):
    given = sections(model, rewards)
    if model == "ensemble":
        change = {"model": {"hidden_norm": "batch"}, "reward_model": {"hidden_norm": "batch"}, **change}
    for name, section in change.items():
        given[name] = {**given.get(name, {}), **section}
    with pytest.raises(ValueError, match=message):
        ModelSections.model_validate(given)
